"""What is trained in a measurement: the same for every arm."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from kdcore.spec.model import ModelSpec

Pair = Literal["sf", "cnn", "ens"]
ArmName = Literal["A", "A2", "TD", "B", "Bcache"]
Source = Literal["memory", "disk"]
Models = Literal["published", "tiny"]
Precision = Literal["auto", "fp32"]
MemoryFormat = Literal["auto", "contiguous"]
Grid = Literal["logits", "labels"]

PAIRS: tuple[Pair, ...] = ("sf", "cnn", "ens")
ARMS: tuple[ArmName, ...] = ("A", "A2", "TD", "B", "Bcache")

_SEGFORMER, _DEEPLAB, _SEGFORMER_STUDENT, _UNET = "segformer", "deeplab", "segformer-s", "unet"
_TEACHERS = {"sf": (_SEGFORMER,), "cnn": (_DEEPLAB,), "ens": (_SEGFORMER, _DEEPLAB)}
_STUDENTS = {"sf": _SEGFORMER_STUDENT, "cnn": _UNET, "ens": _SEGFORMER_STUDENT}
_TINY_SEGFORMER = {
    "depths": (1, 1, 1, 1),
    "hidden_sizes": (8, 8, 16, 16),
    "num_attention_heads": (1, 1, 2, 2),
    "decoder_hidden_size": 16,
}
_NETS: dict[Models, dict[str, dict[str, Any]]] = {
    "published": {
        _SEGFORMER: {"arch": "segformer", "encoder": "mit_b3"},
        _DEEPLAB: {"arch": "deeplabv3plus", "encoder": "resnet50"},
        _SEGFORMER_STUDENT: {"arch": "segformer", "encoder": "mit_b1"},
        _UNET: {"arch": "unet", "encoder": "tu-mobilenetv3_large_100"},
    },
    "tiny": {
        _SEGFORMER: {"arch": "segformer", "encoder": "mit_b0", "options": _TINY_SEGFORMER},
        _DEEPLAB: {
            "arch": "deeplabv3plus", "encoder": "resnet18", "options": {"decoder_channels": 16},
        },
        _SEGFORMER_STUDENT: {"arch": "segformer", "encoder": "mit_b0", "options": _TINY_SEGFORMER},
        _UNET: {
            "arch": "unet", "encoder": "tu-mobilenetv3_small_050",
            "options": {"decoder_channels": (16, 8, 8, 8, 8)},
        },
    },
}  # fmt: skip
_NO_DROPOUT = dict.fromkeys(
    (
        "hidden_dropout_prob",
        "classifier_dropout_prob",
        "attention_probs_dropout_prob",
        "drop_path_rate",
    ),
    0.0,
)


@dataclass(frozen=True)
class Workload:
    """``size``: crop, height and width in pixels. ``source``: decoded crops in memory, or files.

    ``dropout``: off for the gate, where two ways of computing must draw nothing. The objective is
    cross entropy at the labels' size + ``kd_weight`` · KL at ``temperature`` on ``kl_grid``; AdamW of
    constant rate, no decay.
    """

    pair: Pair
    size: int = 512
    batch: int = 2
    classes: int = 19
    source: Source = "memory"
    models: Models = "published"
    precision: Precision = "auto"
    memory_format: MemoryFormat = "auto"
    dropout: bool = True
    seed: int = 0
    temperature: float = 2.0
    kd_weight: float = 1.0
    kl_grid: Grid = "labels"  # as plain loops do
    lr: float = 6e-5

    def __str__(self) -> str:
        tiny = ", tiny models" if self.models == "tiny" else ""
        fp32 = ", ours in fp32" if self.precision == "fp32" else ""
        return (
            f"{self.pair}, {self.size}×{self.size}, batch {self.batch}, "
            f"{self.classes} classes, from {self.source}{tiny}{fp32}"
        )

    @property
    def student(self) -> ModelSpec:
        return self._spec(_STUDENTS[self.pair])

    @property
    def teachers(self) -> dict[str, ModelSpec]:
        """By name."""
        return {name: self._spec(name) for name in _TEACHERS[self.pair]}

    @property
    def images(self) -> int:
        """Images in the dataset: two batches in memory, or enough files to keep loaders busy."""
        return 2 * self.batch if self.source == "memory" else max(16, 4 * self.batch)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the stored images."""
        if self.source == "memory":
            return self.size, self.size
        return 3 * self.size // 2, 2 * self.size

    def for_gate(self) -> "Workload":
        return replace(self, dropout=False, source="memory")

    def _spec(self, net: str) -> ModelSpec:
        described = _NETS[self.models][net]
        options = described.get("options", {})
        if described["arch"] == "segformer" and not self.dropout:
            options = {**options, **_NO_DROPOUT}
        return ModelSpec.model_validate({**described, "options": options})
