"""One set of demands on every family of networks."""

from pathlib import Path
from typing import Any

import pytest
import torch

from kdcore.distill.objective import Objective
from kdcore.distill.teachers import Teacher
from kdcore.errors import SpecError
from kdcore.models import ModelCard, build_model, load_model, save_model
from kdcore.models.mask2former import semantic_logits
from kdcore.models.network import SegmentationModel, tapped
from kdcore.spec.dataset import ClassEntry
from kdcore.spec.model import ModelSpec
from kdcore.spec.objective import Ensemble, Pkd
from tests.shapes import STUDENT

CLASSES = 3
SMALL_M2F = {
    "num_queries": 6, "decoder_layers": 2, "encoder_layers": 1, "hidden_dim": 32,
    "feature_size": 32, "mask_feature_size": 32, "dim_feedforward": 32, "num_attention_heads": 2,
    "encoder_feedforward_dim": 32,
}  # fmt: skip
FAMILIES: list[tuple[str, str, dict[str, Any], int, set[int]]] = [
    ("unet", "tu-mobilenetv3_small_050", {}, 1, {1, 2, 4, 8, 16, 32}),
    ("deeplabv3plus", "resnet18", {}, 1, {1, 2, 4, 8, 16}),
    ("dpt", "tu-vit_tiny_patch16_224", {"decoder_fusion_channels": 32}, 1, {16}),
    ("segformer", "mit_b0", {}, 4, {4, 8, 16, 32}),
    ("hf_upernet", "swin_tiny", {"hidden_size": 32}, 4, {4, 8, 16, 32}),
    ("hf_upernet", "convnext_tiny", {"hidden_size": 32}, 4, {4, 8, 16, 32}),
    ("mask2former", "swin_tiny", SMALL_M2F, 4, {4, 8, 16, 32}),
    ("torchvision_fcn", "resnet50", {"aux": True}, 8, {2, 4, 8}),
    ("torchvision_deeplabv3", "mobilenet_v3_large", {}, 16, {2, 4, 8, 16}),
    ("torchvision_lraspp", "mobilenet_v3_large", {}, 8, {2, 4, 8, 16}),
    ("attention_unetpp", "tu-mobilenetv3_small_050", {}, 1, {1, 2, 4, 8, 16, 32}),
    ("macunet", "student", {}, 1, {1, 2, 4, 8, 16}),
    ("brats_unet", "student", {}, 1, {1, 2, 4, 8, 16}),
    ("mobilenetv3_aspp", "mobilenet_v3_small", {}, 8, {2, 4, 8, 16, 32}),
    ("deeplabv3_mobilenetv2", "mobilenet_v2", {}, 16, {2, 4, 8, 16}),
]
every_family = pytest.mark.parametrize(
    ("arch", "encoder", "options", "stride", "strides"),
    FAMILIES,
    ids=[f"{family[0]}-{family[1]}" for family in FAMILIES],
)


def build(arch: str, encoder: str, options: dict[str, Any] | None = None) -> SegmentationModel:
    torch.manual_seed(0)
    return build_model(spec_of(arch, encoder, options or {}), CLASSES).eval()


def spec_of(arch: str, encoder: str, options: dict[str, Any]) -> ModelSpec:
    return ModelSpec.model_validate({"arch": arch, "encoder": encoder, "options": options})


@every_family
def test_logits_and_taps(
    arch: str, encoder: str, options: dict[str, Any], stride: int, strides: set[int]
) -> None:
    model = build(arch, encoder, options)
    image = torch.randint(0, 256, (1, 3, 96, 64), dtype=torch.uint8)
    with torch.inference_mode(), tapped(model) as features:
        logits = model(image)
    assert logits.shape == (1, CLASSES, 96 // stride, 64 // stride)
    assert logits.isfinite().all()
    assert features.by_stride.keys() == strides
    named = {name for name in features.stages if not name.startswith("stride")}
    assert len(named) >= len(strides)
    for number in strides:
        assert features.stages[f"stride{number}"] is features.by_stride[number]
        assert features.by_stride[number].shape[-2:] == (96 // number, 64 // number)


@every_family
def test_gradients_reach_encoder_and_head_and_the_folder_gives_it_back(
    arch: str,
    encoder: str,
    options: dict[str, Any],
    stride: int,
    strides: set[int],
    tmp_path: Path,
) -> None:
    model = build(arch, encoder, options).train()
    model(torch.rand(2, 3, 64, 64)).square().mean().backward()
    for group in model.parameter_groups():
        assert sum(float(p.grad.abs().sum()) for p in group if p.grad is not None) > 0
    model.eval()
    card = ModelCard(
        model=model.spec, classes=tuple(ClassEntry(name=name) for name in "abc"),
        dataset="0" * 64, size=(64, 64), step=1, metrics={}, kdcore="x",
    )  # fmt: skip
    save_model(model, card, tmp_path)
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(load_model(tmp_path)[0](image), model(image))


@pytest.mark.parametrize(
    ("arch", "encoder"),
    [
        ("torchvision_lraspp", "resnet50"),
        ("macunet", "huge"),
        ("mask2former", "convnext_tiny"),
        ("attention_unetpp", "resnet1800"),
    ],
)
def test_an_encoder_that_a_family_does_not_have(arch: str, encoder: str) -> None:
    with pytest.raises(SpecError) as caught:
        build(arch, encoder)
    assert caught.value.field == "model.encoder"
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("arch", "encoder", "options", "field"),
    [
        ("unet", "resnet18", {"depth": 3}, ".depth"),
        ("unet", "tu-mobilenetv3_small_050", {"depth": 3}, ".depth"),
        ("macunet", "student", {"depth": 3}, ".depth"),
        ("segformer", "mit_b0", {"nonsense": 5}, ".nonsense"),
        ("mask2former", "swin_tiny", {"hidden_dim": "wide"}, ".hidden_dim"),
        ("torchvision_fcn", "resnet50", {"aux": "yes"}, ""),
        ("attention_unetpp", "tu-mobilenetv3_small_050", {"attention_channels": 48}, ""),
        ("attention_unetpp", "tu-mobilenetv3_small_050", {"decoder_channels": (8, 8)}, ""),
    ],
)
def test_options_that_a_family_does_not_have(
    arch: str, encoder: str, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(SpecError) as caught:
        build(arch, encoder, options)
    assert caught.value.field == f"model.options{field}"


def test_unet_plus_plus_starts_as_if_it_had_no_attention_and_learns_to_use_it() -> None:
    model = build("attention_unetpp", "tu-mobilenetv3_small_050")
    image = torch.rand(1, 3, 96, 64)
    with torch.inference_mode():
        plain = model(image)
        for name, parameter in model.named_parameters():
            if name.endswith(".factor"):
                assert parameter == 0
                parameter.fill_(1.0)
        assert not torch.allclose(model(image), plain)


def test_mask2formers_logits_are_the_log_of_its_published_scores() -> None:
    classes, masks = torch.randn(2, 5, 4), torch.randn(2, 5, 3, 2)
    expected = torch.zeros(2, 3, 3, 2)
    for query in range(5):
        probability = classes[:, query].softmax(-1)[:, :3]
        expected += probability[..., None, None] * masks[:, query].sigmoid()[:, None]
    assert torch.allclose(semantic_logits(classes, masks), expected.log(), atol=1e-6)


def objective_over(student: SegmentationModel, teacher: SegmentationModel, **pkd: Any) -> Objective:
    card: Any = None
    return Objective(
        [Pkd.model_validate(pkd)],
        student,
        [Teacher("big", 1.0, teacher, card)],
        ensemble_spec=Ensemble(),
        steps=10,
        class_pixels=(1, 1, 1),
    )


def test_taps_pair_the_voc_systems_stages_by_name() -> None:
    student = build("mobilenetv3_aspp", "mobilenet_v3_small")
    teacher = build("torchvision_fcn", "resnet50")
    taps = [["features.3", "layer1"], ["features.6", "layer2"], ["features.12", "layer3"]]
    objective = objective_over(student, teacher, taps=taps)
    widths = sorted(p.shape[:2] for p in objective.losses.parameters() if p.ndim == 4)
    assert widths == [(256, 24), (512, 40), (1024, 576)]


def test_auto_taps_pair_by_stride_across_families() -> None:
    student = build(**{key: STUDENT[key] for key in ("arch", "encoder")})
    teacher = build("hf_upernet", "swin_tiny", {"hidden_size": 32})
    objective = objective_over(student, teacher)
    assert [name.split("-")[2:] for name in objective.losses] == [
        [f"stride{stride}"] * 2 for stride in (4, 8, 16, 32)
    ]


def test_a_stage_that_there_is_none_of() -> None:
    model = build("macunet", "student")
    with pytest.raises(SpecError, match="no stage named layer9") as caught:
        objective_over(model, model, taps=[["stage2", "layer9"]])
    assert caught.value.field == "objective.0.taps"
    assert "stage5, stride1" in str(caught.value.remedy)
