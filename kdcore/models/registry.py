"""Which builder makes which architecture."""

from collections.abc import Callable
from pathlib import Path

from torch import nn

from kdcore.models.attention_unetpp import build_attention_unetpp
from kdcore.models.brats_unet import build_brats_unet
from kdcore.models.deeplabv3_mobilenetv2 import build_deeplabv3_mobilenetv2
from kdcore.models.macunet import build_macunet
from kdcore.models.mobilenetv3_aspp import build_mobilenetv3_aspp
from kdcore.models.smp import build_smp
from kdcore.models.torchvision_nets import build_torchvision
from kdcore.models.weights import load_weights
from kdcore.spec.model import Arch, ModelSpec

Builder = Callable[[ModelSpec, int, str], nn.Module]
"""(spec, classes, field) -> network with ``encoder`` and, of its maps, ``stage_names``.

Builders fetch `imagenet` weights, and those of folders where their library makes such.
"""


def build_net(spec: ModelSpec, classes: int, field: str) -> nn.Module:
    """The network without its wrapper. Raises: SpecError."""
    net = _BUILDERS[spec.arch](spec, classes, field)
    if spec.weights not in (None, "imagenet") and not _is_folder_of_transformers(spec):
        load_weights(net, Path(str(spec.weights)), f"{field}.weights")
    return net


# transformers takes longer to import than torch: only who needs it waits for it.
def _segformer(spec: ModelSpec, classes: int, field: str) -> nn.Module:
    from kdcore.models.segformer import build_segformer

    return build_segformer(spec, classes, field)


def _upernet(spec: ModelSpec, classes: int, field: str) -> nn.Module:
    from kdcore.models.upernet import build_upernet

    return build_upernet(spec, classes, field)


def _mask2former(spec: ModelSpec, classes: int, field: str) -> nn.Module:
    from kdcore.models.mask2former import build_mask2former

    return build_mask2former(spec, classes, field)


_BUILDERS: dict[Arch, Builder] = {
    "unet": build_smp,
    "unetplusplus": build_smp,
    "manet": build_smp,
    "linknet": build_smp,
    "fpn": build_smp,
    "pspnet": build_smp,
    "pan": build_smp,
    "deeplabv3": build_smp,
    "deeplabv3plus": build_smp,
    "upernet": build_smp,
    "dpt": build_smp,
    "segformer": _segformer,
    "hf_upernet": _upernet,
    "mask2former": _mask2former,
    "torchvision_fcn": build_torchvision,
    "torchvision_deeplabv3": build_torchvision,
    "torchvision_lraspp": build_torchvision,
    "attention_unetpp": build_attention_unetpp,
    "macunet": build_macunet,
    "brats_unet": build_brats_unet,
    "mobilenetv3_aspp": build_mobilenetv3_aspp,
    "deeplabv3_mobilenetv2": build_deeplabv3_mobilenetv2,
}


def _is_folder_of_transformers(spec: ModelSpec) -> bool:
    of_transformers = spec.arch in ("segformer", "hf_upernet", "mask2former")
    return of_transformers and Path(str(spec.weights)).is_dir()
