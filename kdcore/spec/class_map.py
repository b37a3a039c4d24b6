"""Which classes of a teacher mean which classes of a dataset: by names, never by position."""

import difflib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

ClassName = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Parts = ClassName | Annotated[tuple[ClassName, ...], Field(min_length=1, max_length=255)]


def _no_class_twice(names: dict[str, str | tuple[str, ...] | None]) -> dict[str, object]:
    counted = Counter(name for parts in names.values() for name in parts_of(parts))
    if twice := sorted(name for name, times in counted.items() if times > 1):
        raise ValueError(
            f"the teacher's {', '.join(twice)} cannot stand for two classes: a model does not tell "
            "them apart; give it to one of them and null to the other"
        )
    return dict(names)


ClassNames = Annotated[
    dict[ClassName, Parts | None], Field(max_length=255), AfterValidator(_no_class_twice)
]
"""Class of the dataset -> the teacher's class, several that make it up, or null: it knows none.

Classes that are not listed have the same name on both sides.
"""

Sources = tuple[tuple[int, ...], ...]
"""For each class of the dataset the ids of the teacher's classes that make it up; () for none."""


class ClassesDiffer(ValueError):
    """``at``: the dataset's class whose entry is to be mended, None for the map as a whole."""

    def __init__(self, message: str, remedy: str, at: str | None = None) -> None:
        super().__init__(message)
        self.message, self.remedy, self.at = message, remedy, at


def map_classes(
    has: Sequence[str],
    wanted: Sequence[str],
    given: dict[str, str | tuple[str, ...] | None] | None = None,
) -> Sources:
    """What makes up each of the ``wanted`` classes, of those that the teacher ``has``.

    Without ``given`` both must have the same names; their order does not matter. With it, names that
    it does not list are looked up as they are, and classes of the teacher that nothing wants are left
    out. Raises: ClassesDiffer.
    """
    if given is None:
        if set(has) != set(wanted):
            raise ClassesDiffer(
                f"knows the classes {', '.join(has)}; the dataset has {', '.join(wanted)}",
                f"say by name what belongs together: {{{_suggestion(has, wanted)}}}",
            )
        given = {}
    if strange := [name for name in given if name not in wanted]:
        raise ClassesDiffer(
            f"the dataset has no class {strange[0]}", _near(strange[0], wanted), strange[0]
        )
    full = {name: given.get(name, name) for name in wanted}
    sources = tuple(_ids(name, parts, has, listed=name in given) for name, parts in full.items())
    _check_once(sources, has, wanted)
    if len(known_classes(sources)) < 2:
        raise ClassesDiffer(
            "knows fewer than two of the dataset's classes: there is nothing to tell apart",
            "another teacher",
        )
    return sources


def known_classes(sources: Sources) -> tuple[int, ...]:
    """Ids of the dataset's classes that the teacher knows."""
    return tuple(index for index, parts in enumerate(sources) if parts)


def left_out(sources: Sources, has: Sequence[str]) -> tuple[str, ...]:
    """The teacher's classes that stand for none of the dataset's."""
    used = {index for parts in sources for index in parts}
    return tuple(name for index, name in enumerate(has) if index not in used)


def parts_of(parts: str | tuple[str, ...] | None) -> tuple[str, ...]:
    if parts is None:
        return ()
    return (parts,) if isinstance(parts, str) else parts


def _ids(
    name: str, parts: str | tuple[str, ...] | None, has: Sequence[str], *, listed: bool
) -> tuple[int, ...]:
    for part in parts_of(parts):
        if part not in has:
            unlisted = f"{name}: a class of the teacher, several, or null if it knows none"
            raise ClassesDiffer(
                f"has no class {part}", _near(part, has) if listed else unlisted, name
            )
    return tuple(has.index(part) for part in parts_of(parts))


def _check_once(sources: Sources, has: Sequence[str], wanted: Sequence[str]) -> None:
    """A class that is listed under another name may also be found under its own."""
    owner: dict[int, str] = {}
    for name, parts in zip(wanted, sources, strict=True):
        for part in parts:
            if part in owner:
                raise ClassesDiffer(
                    f"its class {has[part]} would stand for {owner[part]} and for {name}",
                    f"say null, or another class, for {name} or {owner[part]}",
                    name,
                )
            owner[part] = name


def _near(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3)
    return f"did you mean {' or '.join(near)}?" if near else f"one of {', '.join(known)}"


def _suggestion(has: Sequence[str], wanted: Sequence[str]) -> str:
    return ", ".join(_entries(has, wanted))


def _entries(has: Sequence[str], wanted: Sequence[str]) -> Iterator[str]:
    for name in wanted:
        if name not in has:
            near = difflib.get_close_matches(name, [one for one in has if one not in wanted], n=1)
            yield f"{name}: {near[0] if near else 'null'}"
