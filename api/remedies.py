"""What to do about a refused field, as far as the schema of the body can tell."""

import difflib
from collections.abc import Iterator
from typing import Any

from kdcore.spec.pointers import Located, Path

Schema = dict[str, Any]


def remedy(error: Located, schema: Schema, document: Any) -> str | None:
    """One sentence, or None where the message says it all; ``schema`` is that of the body."""
    if error.type == "extra_forbidden":
        known = sorted(_property_names(schema, document, error.path[:-1]))
        return _nearest(str(error.path[-1]), known, "remove the field")
    if error.type in ("literal_error", "enum", "union_tag_invalid") and error.context:
        expected = str(error.context.get("expected") or error.context.get("expected_tags") or "")
        known = expected.replace(" or ", ", ").replace("'", "").split(", ")
        given = error.input
        if isinstance(given, dict):
            given = given.get(str(error.path[-1])) if error.path else None
        return _nearest(given, known, "") if isinstance(given, str) else None
    if error.type == "missing":
        return _what_it_is(schema, document, error.path)
    return None


def _nearest(given: str, known: list[str], otherwise: str) -> str | None:
    near = difflib.get_close_matches(given[:100], known, n=1, cutoff=0.6)
    if near:
        return f"Did you mean `{near[0]}`?"
    if not otherwise:
        return None
    listed = ", ".join(f"`{name}`" for name in known)
    return f"{otherwise.capitalize()}; known here: {listed}." if listed else None


def _what_it_is(schema: Schema, document: Any, path: Path) -> str | None:
    for node in _nodes(schema, document, path):
        if "description" in node:
            return f"Add it: {node['description']}"
    return None


def _property_names(schema: Schema, document: Any, path: Path) -> set[str]:
    return {name for node in _nodes(schema, document, path) for name in node.get("properties", ())}


def _nodes(schema: Schema, document: Any, path: Path) -> list[Schema]:
    """The schemas that apply at ``path``; several where a union leaves the choice open."""
    nodes, value = list(_open(schema, schema, document)), document
    for part in path:
        value = _child(value, part)
        nodes = [
            below
            for node in nodes
            for child in _children(node, part)
            for below in _open(child, schema, value)
        ]
    return nodes


def _open(node: Schema, root: Schema, value: Any) -> Iterator[Schema]:
    """``node`` without its references and unions; a discriminator picks one branch."""
    if "$ref" in node:
        yield from _open(root["$defs"][node["$ref"].rsplit("/", 1)[1]], root, value)
        return
    discriminator = node.get("discriminator")
    if discriminator and isinstance(value, dict):
        chosen = discriminator["mapping"].get(str(value.get(discriminator["propertyName"])))
        if chosen is not None:
            yield from _open({"$ref": chosen}, root, value)
        return
    branches = [*node.get("anyOf", ()), *node.get("oneOf", ()), *node.get("allOf", ())]
    for branch in branches:
        yield from _open(branch, root, value)
    if not branches:
        yield node


def _children(node: Schema, part: str | int) -> Iterator[Schema]:
    if isinstance(part, str) and part in node.get("properties", {}):
        yield node["properties"][part]
    elif isinstance(part, str) and isinstance(node.get("additionalProperties"), dict):
        yield node["additionalProperties"]
    elif isinstance(part, int) and isinstance(node.get("items"), dict):
        yield node["items"]
    elif isinstance(part, int) and part < len(node.get("prefixItems", ())):
        yield node["prefixItems"][part]


def _child(value: Any, part: str | int) -> Any:
    if isinstance(value, dict):
        return value.get(str(part))
    if isinstance(value, list) and isinstance(part, int) and part < len(value):
        return value[part]
    return None
