"""A file of the artefact store, named by its content."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class FileRef:
    """``sha256`` in hex, ``size`` in bytes."""

    sha256: str
    size: int

    def to_json(self) -> dict[str, Any]:
        return {"sha256": self.sha256, "size": self.size}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "FileRef":
        return cls(sha256=value["sha256"], size=value["size"])


def below(folder: str, files: Mapping[str, FileRef]) -> dict[str, FileRef]:
    """The files of ``files`` that lie in ``folder``, under their path inside it."""
    prefix = f"{folder}/"
    return {
        path.removeprefix(prefix): file for path, file in files.items() if path.startswith(prefix)
    }
