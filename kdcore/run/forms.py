"""Smaller forms of a recipe: its sections `small` and `smoke`, each laid over the rest of it."""

from typing import Any, Literal

from kdcore.errors import SpecError

Form = Literal["small", "smoke"]
"""small: for hours on a machine without a GPU; smoke: for a minute, to see that all of it runs."""

FORMS: tuple[Form, ...] = ("small", "smoke")


def form_of(document: dict[str, Any], form: Form | None) -> dict[str, Any]:
    """``document`` in full (None) or scaled down; without the sections that say how either way.

    Mappings are laid over each other key by key, lists of mappings (teachers, terms) of equal length
    item by item; anything else, and a mapping of another ``kind``, replaces what stood there.
    Raises: SpecError.
    """
    for name in FORMS:
        if not isinstance(document.get(name, {}), dict):
            raise SpecError(f"{name}: a mapping is expected", field=name)
    full = {key: value for key, value in document.items() if key not in FORMS}
    if form is None:
        return full
    if form not in document:
        raise SpecError(
            f"the recipe has no form `{form}`",
            field=form,
            remedy=f"a section `{form}:` with what is smaller there, or run it without --{form}",
        )
    scaled: dict[str, Any] = _laid_over(full, document[form])
    return scaled


def _laid_over(given: Any, changes: Any) -> Any:
    if isinstance(given, dict) and isinstance(changes, dict) and not _other_kind(given, changes):
        laid = {key: _laid_over(given.get(key), value) for key, value in changes.items()}
        return {**given, **laid}
    if _both_hold_mappings(given, changes) and len(given) == len(changes):
        return [_laid_over(*pair) for pair in zip(given, changes, strict=True)]
    return changes


def _other_kind(given: dict[str, Any], changes: dict[str, Any]) -> bool:
    return "kind" in changes and given.get("kind") != changes["kind"]


def _both_hold_mappings(given: Any, changes: Any) -> bool:
    return all(
        isinstance(value, list) and all(isinstance(item, dict) for item in value)
        for value in (given, changes)
    )
