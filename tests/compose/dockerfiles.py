"""A Dockerfile as its instructions, and the rules they have to keep.

The rules carry hadolint's numbers where it has them (https://github.com/hadolint/hadolint), and its
remark `# hadolint ignore=DL3008` before an instruction excuses that one. H stands for the house's own.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

COMMANDS = re.compile(r"&&|\|\||;|\||\n")


@dataclass(frozen=True)
class Instruction:
    word: str
    rest: str
    ignored: frozenset[str] = frozenset()

    def commands(self) -> list[list[str]]:
        """Of a RUN, each as its words."""
        return [part.split() for part in COMMANDS.split(self.rest) if part.strip()]


Stage = list[Instruction]


def stages(text: str) -> list[Stage]:
    """One list of instructions for each FROM."""
    found: list[Stage] = []
    for instruction in _instructions(text):
        if instruction.word == "FROM":
            found.append([])
        found[-1].append(instruction)
    return found


def faults(text: str) -> list[str]:
    """Everything that a rule has against it, as `DL3007: …`."""
    if re.search(r"^#\s*syntax=", text, re.IGNORECASE | re.MULTILINE):
        return ["H1: a syntax line needs a registry at every build"]
    built = stages(text)
    single = [
        f"{code}: {instruction.word} {instruction.rest}"
        for stage in built
        for instruction in stage
        for code, breaks in RULES.items()
        if code not in instruction.ignored and breaks(instruction)
    ]
    return [*single, *_of_the_whole(built)]


def _instructions(text: str) -> Iterator[Instruction]:
    ignored: frozenset[str] = frozenset()
    pending = ""
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("#"):
            remark = re.match(r"#\s*hadolint ignore=(\S+)", stripped)
            ignored = frozenset(remark[1].split(",")) if remark else ignored
        elif stripped.endswith("\\"):
            pending += stripped[:-1] + " "
        elif pending or stripped:
            word, _, rest = (pending + stripped).partition(" ")
            yield Instruction(word.upper(), rest.strip(), ignored)
            ignored, pending = frozenset(), ""


def _run(breaks: Callable[[list[str]], bool]) -> Callable[[Instruction], bool]:
    return lambda it: it.word == "RUN" and any(breaks(words) for words in it.commands())


def _installs(words: list[str], *programs: str) -> bool:
    return "install" in words and any(program in words[:4] for program in programs)


def _unpinned(words: list[str], pin: str) -> bool:
    named = words[words.index("install") + 1 :]
    return any(not word.startswith("-") and pin not in word for word in named)


def _is_list(text: str) -> bool:
    try:
        return isinstance(json.loads(text), list)
    except ValueError:
        return False


RULES: Final[dict[str, Callable[[Instruction], bool]]] = {
    "DL3000": lambda it: it.word == "WORKDIR" and not it.rest.startswith(("/", "$")),
    "DL3003": _run(lambda words: words[0] == "cd"),
    "DL3004": _run(lambda words: words[0] == "sudo"),
    "DL3006": lambda it: it.word == "FROM" and ":" not in it.rest.split()[0],
    "DL3007": lambda it: it.word == "FROM" and it.rest.split()[0].endswith(":latest"),
    "DL3008": _run(lambda words: _installs(words, "apt-get") and _unpinned(words, "=")),
    "DL3009": lambda it: (
        it.word == "RUN" and "apt-get update" in it.rest and "/var/lib/apt/lists" not in it.rest
    ),
    "DL3013": _run(
        lambda words: _installs(words, "pip") and words[0] != "uv" and _unpinned(words, "==")
    ),
    "DL3014": _run(lambda words: _installs(words, "apt-get") and not {"-y", "-yq"} & set(words)),
    "DL3015": _run(
        lambda words: _installs(words, "apt-get") and "--no-install-recommends" not in words
    ),
    "DL3020": lambda it: it.word == "ADD",
    "DL3025": lambda it: it.word in ("CMD", "ENTRYPOINT") and not _is_list(it.rest),
    "DL3027": _run(lambda words: words[0] == "apt"),
    "DL3042": _run(
        lambda words: (
            _installs(words, "pip", "pip3") and not {"--no-cache-dir", "--no-cache"} & set(words)
        )
    ),
    "DL3046": _run(
        lambda words: words[0] == "useradd" and not {"-l", "--no-log-init"} & set(words)
    ),
    "DL4000": lambda it: it.word == "MAINTAINER",
    "DL4006": lambda it: (
        it.word == "RUN" and bool(re.search(r"(?<!\|)\|(?!\|)", it.rest)) and "pipefail" not in it.rest
    ),
    # The classic builder knows neither.
    "H2": lambda it: (it.word == "RUN" and it.rest.startswith("--mount")) or "<<" in it.rest,
    "H3": lambda it: it.word == "COPY" and "--link" in it.rest,
    # What comes from an index is checked against the lock.
    "H4": _run(
        lambda words: words[0] == "uv" and "install" in words and "--require-hashes" not in words
    ),
    "H5": lambda it: (
        it.word in ("ENV", "ARG")
        and bool(re.search(r"PASSWORD|SECRET|TOKEN|INDEX_URL|PROXY", it.rest, re.IGNORECASE))
    ),
}  # fmt: skip


def _of_the_whole(built: list[Stage]) -> Iterator[str]:
    names: set[str] = set()
    for stage in built:
        for it in stage:
            source = re.search(r"--from=(\S+)", it.rest)
            if it.word == "COPY" and source and source[1] not in names:
                yield f"DL3022: COPY --from={source[1]} names no stage before"
        alias = re.search(r"\sAS\s+(\S+)", stage[0].rest, re.IGNORECASE)
        names |= {alias[1]} if alias else set()
    users = [it.rest for it in built[-1] if it.word == "USER"]
    if not users or not re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1]):
        yield "DL3002: the last USER is not a number other than root's, with its group"
