"""What a network is: an architecture of our registry, its encoder and where its weights start."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator

from kdcore.spec.base import Spec

Arch = Literal[
    "unet", "unetplusplus", "manet", "linknet", "fpn", "pspnet", "pan",
    "deeplabv3", "deeplabv3plus", "upernet", "dpt",
    "segformer", "hf_upernet", "mask2former",
    "torchvision_fcn", "torchvision_deeplabv3", "torchvision_lraspp",
    "attention_unetpp", "macunet", "brats_unet", "mobilenetv3_aspp", "deeplabv3_mobilenetv2",
]  # fmt: skip


MODEL_SCHEME = "models:/"


class ModelSpec(Spec):
    """An architecture of segmentation-models-pytorch, transformers, torchvision, or of our own.

    Encoders: of hf_upernet `swin_tiny`, `swin_small`, `swin_base` and `convnext_` likewise; of
    mask2former the former; of torchvision's `resnet50`, `resnet101`, `mobilenet_v3_large`; of macunet
    `teacher`, `doubled`, `student`; of brats_unet `teacher`, `student`; of mobilenetv3_aspp
    `mobilenet_v3_small`; of deeplabv3_mobilenetv2 `mobilenet_v2`; of all others smp's.
    """

    arch: Arch
    encoder: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,80}$")] = Field(
        description="smp or timm (`tu-...`) encoder; for segformer `mit_b0` .. `mit_b5`"
    )
    weights: str | None = Field(
        default=None,
        description=(
            "None: random; `imagenet`: the library's download; else a file (safetensors, or a state "
            "dict of torch.save) of the encoder's weights or of the whole network's. Of a network "
            "with other classes the encoder alone is taken. For networks of transformers also a "
            "folder made by `save_pretrained`. In a service, instead of files: `models:/name/3`"
        ),
    )
    options: dict[str, int | float | bool | str | tuple[int, ...] | None] = Field(
        default={}, description="Further arguments of the architecture, such as decoder_channels"
    )

    @property
    def starts_from_model(self) -> bool:
        return self.weights is not None and self.weights.startswith(MODEL_SCHEME)

    @field_validator("options")
    @classmethod
    def _refuse_what_is_not_theirs(cls, options: dict[str, object]) -> dict[str, object]:
        for name in options.keys() & _SETTLED:
            raise ValueError(f"`{name}` is settled by the dataset and the rest of the spec")
        return options


_SETTLED = frozenset(
    {"activation", "aux_params", "classes", "encoder_name", "encoder_weights", "in_channels",
     "num_channels", "num_labels", "id2label", "label2id"}
)  # fmt: skip
