"""Compiled parts: the same network, its taps, and nothing compiled in an evaluation."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from kdcore.distill.class_map import with_classes
from kdcore.models.compiled import compile_parts, drop_compiled, is_compiled, uncompiled
from kdcore.models.network import SegmentationModel, tapped
from tests.kdcore.models.test_families import SMALL_M2F, build


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the parts that ran compiled; torch's compiler is not waited for."""
    ran: list[str] = []

    def compiled(forward: Callable[..., Any], *, dynamic: bool) -> Callable[..., Any]:
        assert not dynamic

        def run(*inputs: Any, **options: Any) -> Any:
            ran.append(type(forward.__self__).__name__)  # type: ignore[attr-defined]
            return forward(*inputs, **options)

        return run

    monkeypatch.setattr(torch, "compile", compiled)
    return ran


@pytest.mark.parametrize(
    ("model", "parts"),
    [
        (lambda: build("segformer", "mit_b0"), ["Backbone", "SegformerHead"]),
        (lambda: with_classes(build("segformer", "mit_b0"), ((0,), (2,))),
         ["Backbone", "SegformerHead"]),
        (lambda: build("torchvision_lraspp", "mobilenet_v3_large"), ["Features", "LRASPPHead"]),
        (lambda: build("mask2former", "swin_tiny", SMALL_M2F),
         ["SwinBackbone", "Mask2FormerPixelDecoder", "Mask2FormerTransformerModule", "Linear"]),
    ],
)  # fmt: skip
def test_every_part_is_compiled_once_and_taps_see_the_encoder(
    model: Callable[[], SegmentationModel], parts: list[str], calls: list[str]
) -> None:
    net, image = model(), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected, names = net(image), list(net.state_dict())
        compile_parts(net)
        assert list(net.state_dict()) == names
        with tapped(net) as features:
            torch.testing.assert_close(net(image), expected)
    assert calls == parts
    assert features.by_stride


def test_uncompiled_is_for_a_while_and_dropping_for_good(calls: list[str]) -> None:
    model, image = build("unet", "tu-mobilenetv3_small_050"), torch.rand(1, 3, 64, 64)
    compile_parts(model)
    with torch.no_grad(), uncompiled(model):
        model(image)
    assert calls == []
    assert is_compiled(model)
    with torch.no_grad():
        model(image)
    assert calls
    calls.clear()
    drop_compiled(model)
    assert not is_compiled(model)
    with torch.no_grad():
        model(image)
    assert calls == []


# The compiler looks for gradients in every input, maps between parts included.
@pytest.mark.filterwarnings(r"ignore:The \.grad attribute of a Tensor:UserWarning")
def test_torchs_compiler_takes_the_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda part, *, dynamic: real(part, dynamic=dynamic, backend="eager")
    )
    model, image = build("brats_unet", "student"), torch.rand(1, 3, 32, 32)
    expected = model(image)
    compile_parts(model)
    with tapped(model) as features:
        torch.testing.assert_close(model(image), expected)
    assert features.by_stride.keys() == {1, 2, 4, 8, 16}
