"""What MLflow accepts as the name of a metric or a parameter."""

import json
import re
from hashlib import sha256
from posixpath import normpath
from typing import Any

NAME_LENGTH_MAX = 250
VALUE_LENGTH_MAX = 6000
_REFUSED = re.compile(r"[^/\w.\- :]")


def accepted_name(name: str) -> str:
    """``name`` if MLflow takes it; otherwise one it takes, which no other name becomes."""
    clean = _REFUSED.sub("_", name)
    if clean == name and len(name) <= NAME_LENGTH_MAX and _is_plain_path(name):
        return name
    parts = [part.strip(".") or "_" for part in clean.split("/") if part]
    mark = sha256(name.encode()).hexdigest()[:8]
    return f"{'/'.join(parts)[: NAME_LENGTH_MAX - 9]}~{mark}".replace("~", "-")


def flattened(spec: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """``{"train": {"steps": 5}}`` as ``{"train.steps": "5"}``; a list is one value, as JSON."""
    flat: dict[str, str] = {}
    for key, value in spec.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            flat |= flattened(value, f"{name}.")
        elif value is not None:
            text = value if isinstance(value, str) else json.dumps(value)
            flat[accepted_name(name)] = text[:VALUE_LENGTH_MAX]
    return flat


def _is_plain_path(name: str) -> bool:
    """MLflow keeps metrics as paths: ``a//b``, ``../a`` and ``/a`` are refused."""
    return normpath(name) == name and not name.startswith(("/", "..")) and name != "."
