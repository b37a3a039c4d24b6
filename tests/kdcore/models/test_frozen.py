"""Frozen networks answer as before, taps included, whatever their family."""

import copy
from collections.abc import Callable

import pytest
import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

from kdcore.models.frozen import freeze
from kdcore.models.network import SegmentationModel, tapped
from kdcore.spec.model import ModelSpec
from tests.kdcore.models.test_families import FAMILIES, build

FOLDED = [
    *[family[:3] for family in FAMILIES],
    ("unetplusplus", "efficientnet-b0", {}),
    ("unet", "tu-resnetv2_50", {}),  # weight standardisation, and norms before convolutions
]


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def with_statistics(model: SegmentationModel) -> SegmentationModel:
    torch.manual_seed(2)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    return model


@pytest.mark.parametrize(("arch", "encoder", "options"), FOLDED, ids=str)
def test_logits_and_taps_are_as_before(arch: str, encoder: str, options: dict[str, object]) -> None:
    model = with_statistics(build(arch, encoder, options))
    frozen = freeze(copy.deepcopy(model))
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    assert not any(module.training for module in frozen.modules())
    image = torch.rand(2, 3, 96, 64)
    with torch.no_grad(), tapped(model) as expected, tapped(frozen) as features:
        logits, answer = model(image), frozen(image)
    assert (answer - logits).norm() <= 1e-5 * logits.norm()
    assert features.stages.keys() == expected.stages.keys()
    for name, value in expected.stages.items():
        assert (features.stages[name] - value).norm() <= 1e-5 * value.norm(), name


@pytest.mark.parametrize(
    ("arch", "encoder"),
    [
        ("unet", "tu-mobilenetv3_small_050"),
        ("deeplabv3plus", "resnet18"),
        ("segformer", "mit_b0"),
        ("brats_unet", "student"),
    ],
)
def test_no_norm_is_left_where_all_follow_a_convolution(arch: str, encoder: str) -> None:
    assert norms(freeze(build(arch, encoder))) == 0


class Net(nn.Module):
    """A convolution, a norm, and what else is done with the convolution's output."""

    def __init__(self, act: Callable[["Net", Tensor], Tensor]) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.act = act

    def forward(self, images_NCHW: Tensor) -> Tensor:
        return self.act(self, self.encoder(images_NCHW)[0])


class Encoder(nn.Module):
    """Its map is the output of a convolution whose norm comes after."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, images_NCHW: Tensor) -> list[Tensor]:
        return [self.conv(images_NCHW)]


def in_a_row(net: Net, map_NCHW: Tensor) -> Tensor:
    normed: Tensor = net.norm(net.conv(map_NCHW))
    return normed


def read_twice(net: Net, map_NCHW: Tensor) -> Tensor:
    out = net.conv(map_NCHW)
    normed: Tensor = net.norm(out) + out
    return normed


def convolved_twice(net: Net, map_NCHW: Tensor) -> Tensor:
    normed: Tensor = net.norm(net.conv(net.conv(map_NCHW)))
    return normed


def normed_twice(net: Net, map_NCHW: Tensor) -> Tensor:
    normed: Tensor = net.norm(net.norm(net.conv(map_NCHW)))
    return normed


def tapped_before_the_norm(net: Net, map_NCHW: Tensor) -> Tensor:
    normed: Tensor = net.norm(map_NCHW)
    return normed


def through_a_view(net: Net, map_NCHW: Tensor) -> Tensor:
    normed: Tensor = net.norm(net.conv(map_NCHW)[:, [1, 0, 2, 3]])
    return normed


@pytest.mark.parametrize(
    ("act", "left"),
    [
        (in_a_row, 0),
        (read_twice, 1),
        (convolved_twice, 1),
        (normed_twice, 1),
        (tapped_before_the_norm, 1),
        (through_a_view, 1),
    ],
)
def test_only_what_is_seen_by_the_norm_alone_is_folded(
    act: Callable[[Net, Tensor], Tensor], left: int
) -> None:
    torch.manual_seed(0)
    spec = ModelSpec(arch="macunet", encoder="student")
    model = with_statistics(SegmentationModel(Net(act), spec, 4).eval())
    frozen = freeze(copy.deepcopy(model))
    assert norms(frozen) == left
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(frozen(image), model(image), rtol=1e-5, atol=1e-6)


def test_an_activation_inside_a_norm_stays() -> None:
    model = build("unet", "tu-mobilenetv3_small_050")
    (name, norm), *_ = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, BatchNormAct2d)
    ]
    assert freeze(model).get_submodule(name) is norm.act
