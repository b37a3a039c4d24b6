"""Networks compiled, and shown to work by one step of the training."""

import os
import warnings
from pathlib import Path

from kdcore.models.compiled import compile_parts, drop_compiled
from kdcore.run.preflight.first_batch import try_step
from kdcore.run.preflight.parts import Parts, Warn

FOLDER = "inductor"
_CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
"""torch's own; without it torch keeps what it has compiled below the system's temporary folder."""


def compile_networks(parts: Parts, *, cache: Path | None, warn: Warn) -> bool:
    """Compile student and teachers and make a step with them, undone afterwards.

    What is compiled is kept in ``cache / FOLDER`` for the next run. Where anything fails, the
    networks run as they are written and a warning (`compile_failed`) says why; False then.
    """
    if cache is not None:
        os.environ.setdefault(_CACHE_VARIABLE, str(cache / FOLDER))
    models = [named.model for named in parts.models()]
    try:
        for model in models:
            compile_parts(model)
        with warnings.catch_warnings():
            # The compiler looks for gradients in each of its inputs, maps between parts included.
            warnings.filterwarnings("ignore", message=r"The \.grad attribute of a Tensor")
            try_step(parts)
    # The compiler of the machine, of triton and of torch: each fails in ways of its own.
    except Exception as error:  # noqa: BLE001
        for model in models:
            drop_compiled(model)
        warn(
            "compile_failed",
            f"train.compile: the networks run uncompiled, {type(error).__name__}: {error}"[:1000],
        )
        return False
    return True
