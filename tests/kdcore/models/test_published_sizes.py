"""Parameter counts, and for MACU-Net operations, as the papers and systems publish them."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdcore.models import build_model
from kdcore.models.measure import flops, parameters
from kdcore.models.network import SegmentationModel
from kdcore.spec.model import ModelSpec


def built(arch: str, encoder: str, classes: int, **options: Any) -> SegmentationModel:
    spec = ModelSpec.model_validate({"arch": arch, "encoder": encoder, "options": options})
    return build_model(spec, classes).eval()


@pytest.mark.parametrize(
    ("arch", "encoder", "classes", "options", "expected"),
    [
        ("torchvision_fcn", "resnet50", 21, {}, 32_957_013),
        ("torchvision_fcn", "resnet50", 21, {"aux": True}, 35_322_218),
        # torchvision's network has 39,636,042; the desert system's second head is the difference.
        ("torchvision_deeplabv3", "resnet50", 10, {}, 39_636_042),
        ("torchvision_deeplabv3", "resnet50", 10, {"aux": "linear"}, 39_646_292),
        ("torchvision_lraspp", "mobilenet_v3_large", 21, {}, 3_221_538),
        ("macunet", "teacher", 27, {}, 5_152_091),
        ("macunet", "doubled", 27, {}, 20_580_507),
        ("macunet", "student", 27, {}, 639_395),
        ("brats_unet", "teacher", 2, {}, 8_639_778),
        ("brats_unet", "student", 2, {}, 605_645),
        ("mobilenetv3_aspp", "mobilenet_v3_small", 21, {}, 8_225_045),
        ("deeplabv3_mobilenetv2", "mobilenet_v2", 21, {}, 2_112_789),
        ("unet", "tu-mobilenetv3_small_100", 1, {}, 3_585_649),
    ],
)
def test_sizes(
    arch: str, encoder: str, classes: int, options: dict[str, Any], expected: int
) -> None:
    assert parameters(built(arch, encoder, classes, **options)) == expected


def test_what_the_brats_student_does_not_train_are_its_running_statistics() -> None:
    model = built("brats_unet", "student", 2)
    statistics = sum(b.numel() for b in model.net.buffers() if b.is_floating_point())
    assert statistics == 2_944
    assert parameters(model) + statistics == 608_589


def test_the_voc_students_backbone() -> None:
    encoder = built("mobilenetv3_aspp", "mobilenet_v3_small", 21).encoder
    assert sum(p.numel() for p in encoder.parameters()) == 927_008


@pytest.mark.parametrize(
    ("encoder", "published", "ours"),
    [("teacher", 4_211.9, 3_686.8), ("student", 818.7, 683.4)],
)
def test_macunets_operations(encoder: str, published: float, ours: float) -> None:
    model = built("macunet", encoder, 27)
    counted = flops(model, (128, 128))
    assert counted / 1e6 == pytest.approx(ours, abs=0.05)
    assert (counted + _counted_by_thop_alone(model)) / 1e6 == pytest.approx(published, abs=0.05)


def _counted_by_thop_alone(model: SegmentationModel) -> int:
    """What `thop`, with which the sizes were published, counts beyond the convolutions' operations.

    A transposed convolution of stride 2 four times over (its kernel for every output pixel); per
    number, 8 for a batch norm; and the global mean.
    """
    extra = 0

    def hook(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        nonlocal extra
        if isinstance(layer, nn.ConvTranspose2d):
            extra += 3 * 2 * layer.in_channels * output.numel()
        elif isinstance(layer, nn.BatchNorm2d):
            extra += 8 * output.numel()
        elif hasattr(layer, "of_mean"):
            pixels = inputs[0].shape[-1] * inputs[0].shape[-2]
            extra += 2 * output.shape[1] * (pixels + 1)

    for layer in model.modules():
        layer.register_forward_hook(hook)
    with torch.inference_mode():
        model(torch.zeros(1, 3, 128, 128))
    return extra
