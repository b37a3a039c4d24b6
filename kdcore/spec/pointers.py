"""From pydantic's error locations to paths in the document that the user wrote.

pydantic puts more into a location than the user wrote: the tag of a discriminated union
(``('distillation', 'teachers', 0)``) and the label of each branch of a plain union
(``('baseline', 'Baseline', 'objective')``). Here a location is walked through the document itself;
what is no key of it is no part of the path.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

Path = tuple[str | int, ...]

_NAMES_A_KEY: Final = frozenset({"missing", "extra_forbidden"})
"""Errors whose location ends in a key for certain, be it absent from the document."""
_TAG_ERRORS: Final = frozenset({"union_tag_invalid", "union_tag_not_found"})
_FIELD_PREFIX: Final = re.compile(r"^([a-z_]+(?:\.[a-z0-9_]+)*): (.+)$", re.DOTALL)


@dataclass(frozen=True)
class Located:
    """One error at one path of the document; ``branches`` are the paths of the unions it is in."""

    path: Path
    type: str
    message: str
    input: Any
    branches: frozenset[Path] = frozenset()
    context: Mapping[str, Any] | None = None


def locate(errors: Iterable[Mapping[str, Any]], document: Any) -> list[Located]:
    """Errors in the order of the document's paths, at most one for each path.

    ``document`` is the parsed body, ``errors`` are pydantic's for it without FastAPI's leading
    ``body``. The branches of a plain union fail each in its own words: alternatives at one path
    become one message, and a branch of another shape than the one that came is left out.
    """
    located = [_locate(error, document) for error in errors]
    merged: dict[Path, Located] = {}
    for path, alternatives in _by_path(located).items():
        # Of the branches of a union those of the right shape know better what is wrong.
        told = [item for item in alternatives if not item.type.endswith("_type")] or alternatives
        messages = dict.fromkeys(item.message for item in told)
        merged[path] = replace(told[0], message="; or: ".join(messages))
    return list(merged.values())


def pointer(path: Path) -> str:
    """RFC 6901: ``/teachers/0/train``; the empty string is the whole document."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in path)


def dotted(path: Path) -> str:
    """``teachers.0.train``."""
    return ".".join(str(part) for part in path)


def _by_path(located: Sequence[Located]) -> dict[Path, list[Located]]:
    """Without the errors that only follow from another one below their path."""
    above = {item.path[:length] for item in located for length in range(len(item.path))}
    inside = {branch for item in located for branch in item.branches if item.path != branch}
    grouped: dict[Path, list[Located]] = {}
    for item in located:
        of_another_shape = item.path in item.branches and item.path in inside
        # A tuple counts only the items that were valid.
        left_over = item.type == "too_short" and item.path in above
        if not (of_another_shape or left_over):
            grouped.setdefault(item.path, []).append(item)
    return grouped


def _locate(error: Mapping[str, Any], document: Any) -> Located:
    kind, message = str(error["type"]), str(error["msg"])
    location = tuple(error["loc"])
    path, branches = _walk(location, document, last_is_key=kind in _NAMES_A_KEY)
    if kind in _TAG_ERRORS:
        path = (*path, str(error["ctx"]["discriminator"]).strip("'"))
    if kind == "value_error":
        message = message.removeprefix("Value error, ")
        prefixed = _FIELD_PREFIX.match(message)
        if prefixed is not None:
            path, message = (*path, *_parts(prefixed[1])), prefixed[2]
    return Located(path, kind, message, error.get("input"), branches, error.get("ctx"))


def _parts(dotted_path: str) -> Path:
    return tuple(int(part) if part.isdigit() else part for part in dotted_path.split("."))


def _walk(location: Path, document: Any, *, last_is_key: bool) -> tuple[Path, frozenset[Path]]:
    """What of ``location`` is in ``document``, and the paths at which a union was tried."""
    path: list[str | int] = []
    branches: set[Path] = set()
    value, tagged = document, False
    for index, part in enumerate(location):
        certain = last_is_key and index == len(location) - 1
        if isinstance(value, dict) and isinstance(part, str):
            if not certain and not tagged and value.get("kind") == part:
                tagged = True
                continue
            if part in value:
                path.append(part)
                value, tagged = value[part], False
                continue
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            path.append(part)
            value, tagged = value[part], False
            continue
        if certain:
            path.append(part)
        else:
            branches.add(tuple(path))
    return tuple(path), frozenset(branches)
