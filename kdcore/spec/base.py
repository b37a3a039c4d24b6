"""The base of everything a user writes or a process hands over: frozen, closed, canonical."""

import hashlib
import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Spec(BaseModel):
    """Frozen pydantic model; unknown keys, NaN and infinities are refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True
    )

    def to_json(self) -> dict[str, Any]:
        """JSON-ready dictionary under the public key names (``from``, not ``start``)."""
        return self.model_dump(mode="json", by_alias=True)


def canonical(value: Any) -> bytes:
    """One byte string per JSON value: sorted keys, no spaces, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False
    ).encode()


def digest(value: Any) -> str:
    """sha256 (hex) of the canonical JSON form of ``value``."""
    return hashlib.sha256(canonical(value)).hexdigest()
