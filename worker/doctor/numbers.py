"""Version numbers and sizes, as checks compare and print them."""

import re


def release(version: str) -> tuple[int, ...]:
    """``2.11.0+cu128`` is (2, 11, 0); without a number at its start, ()."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def gibibytes(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
