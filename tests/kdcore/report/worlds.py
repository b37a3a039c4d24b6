"""Made-up measurements with known properties."""

import numpy as np
from numpy.typing import NDArray

from kdcore.report.verdict import Measured
from kdcore.spec.job import Role

PAIR: tuple[Role, Role] = ("baseline", "distilled")
CLASSES = ("background", "nucleus", "boundary")


def confusions(recall: NDArray[np.float64] | float, images: int = 12) -> NDArray[np.int64]:
    """(I, 3, 3): every class keeps ``recall`` of its pixels and gives the rest to the next."""
    sizes = np.array([6000, 900, 300]) + 10 * np.arange(images)[:, None]
    kept = np.rint(sizes * np.broadcast_to(recall, (images,))[:, None]).astype(np.int64)
    result = np.zeros((images, 3, 3), dtype=np.int64)
    for row in range(3):
        result[:, row, row] = kept[:, row]
        result[:, row, (row + 1) % 3] = sizes[:, row] - kept[:, row]
    return result


def measured(
    role: Role,
    recall: NDArray[np.float64] | float,
    *,
    seed: int | None = None,
    name: str = "",
    images: int = 12,
) -> Measured:
    big = role == "teacher"
    return Measured(
        role=role,
        name=name or (role if seed is None else f"{role}-{seed}"),
        seed=seed,
        confusions=confusions(recall, images),
        parameters=20_813_113 if big else 605_645,
        size_bytes=83_400_000 if big else 2_450_000,
        flops=15_300_000_000 if big else 818_700_000,
        latency={
            "p50": 212.0 if big else 14.8,
            "p99": 260.0 if big else 19.1,
            "threads": 1,
            "size": (256, 256),
            "device": "cpu",
            "runtime": "torch",
            "precision": "fp32",
            "batch": 1,
            "runs": 30,
        },
    )


def wobble(level: float, seed: int, images: int = 12) -> NDArray[np.float64]:
    """Recall per image around ``level``."""
    return np.clip(np.random.default_rng(seed).normal(level, 0.02, images), 0, 1)
