"""Single values of a recipe, set on the command line: `train.steps=100`, `teachers.0.weight=0.5`."""

from collections.abc import Sequence
from typing import Any

import yaml

from kdcore.errors import SpecError


def with_settings(document: dict[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """A copy of ``document`` with each ``path=value`` set; values are YAML, numbers count items.

    What stands on the way to a key and is not there yet is made. Raises: SpecError, naming the path.
    """
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not path:
            raise SpecError(f"{setting!r} sets nothing", field="--set", remedy="--set path=value")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise SpecError(f"{text!r} is no YAML value: {error}", field=path) from error
        document = _set(document, path.split("."), value, path)
    return document


def _set(node: Any, keys: list[str], value: Any, path: str) -> Any:
    if not keys:
        return value
    key, *rest = keys
    if isinstance(node, list):
        if not key.isdecimal() or int(key) >= len(node):
            raise SpecError(f"there are {len(node)} items, and {key} is none of them", field=path)
        place = int(key)
        return [*node[:place], _set(node[place], rest, value, path), *node[place + 1 :]]
    if not isinstance(node, dict | None):
        raise SpecError(f"{node!r} has no {key}", field=path)
    inside = node or {}
    return {**inside, key: _set(inside.get(key), rest, value, path)}
