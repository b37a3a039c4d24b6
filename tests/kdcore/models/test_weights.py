"""Weights from files: small ones made here, and the two real ones of `tests.samples` where they are."""

import io
import tarfile
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from PIL import Image
from safetensors.torch import save_file

from kdcore.errors import SpecError
from kdcore.models import build_model
from kdcore.models.network import SegmentationModel
from kdcore.spec.model import ModelSpec
from tests.samples import SHARED, needs

IMAGENET = SHARED / "weights/mobilenet_v2_imagenet1k.pth"
VOC = SHARED / "weights/deeplabv3_mobilenetv2_voc21.pth"
SAMPLE = SHARED / "data/voc_sample/VOCtrainval_sample.tar"
with_shared = needs("data/voc_sample/VOCtrainval_sample.tar")


def build(arch: str, encoder: str, weights: object = None, classes: int = 2) -> SegmentationModel:
    spec = {"arch": arch, "encoder": encoder, "weights": weights and str(weights)}
    return build_model(ModelSpec.model_validate(spec), classes)


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("arch", "encoder"),
    [("macunet", "student"), ("unet", "tu-mobilenetv3_small_050"), ("segformer", "mit_b0")],
)
def test_a_file_of_the_whole_network(arch: str, encoder: str, suffix: str, tmp_path: Path) -> None:
    donor = build(arch, encoder)
    file = tmp_path / f"net{suffix}"
    state = donor.net.state_dict()
    if suffix == ".pth":
        torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}, file)
    else:
        save_file(state, file)
    assert same(build(arch, encoder, file).net, donor.net)
    other_classes = build(arch, encoder, file, classes=5)
    assert same(other_classes.encoder, donor.encoder)


@pytest.mark.parametrize(
    ("kind", "arch", "encoder", "options"),
    [
        ("fcn_resnet50", "torchvision_fcn", "resnet50", {"aux": True}),
        ("deeplabv3_mobilenet_v3_large", "torchvision_deeplabv3", "mobilenet_v3_large", {}),
        ("lraspp_mobilenet_v3_large", "torchvision_lraspp", "mobilenet_v3_large", {}),
    ],
)
def test_torchvisions_own_files_give_torchvisions_own_logits(
    kind: str, arch: str, encoder: str, options: dict[str, Any], tmp_path: Path
) -> None:
    aux = {"aux_loss": bool(options)} if "lraspp" not in kind else {}
    theirs = torchvision.models.segmentation.__dict__[kind](
        weights=None, weights_backbone=None, num_classes=4, **aux
    ).eval()
    torch.save(theirs.state_dict(), tmp_path / "net.pth")
    spec = ModelSpec.model_validate(
        {"arch": arch, "encoder": encoder, "options": options, "weights": str(tmp_path / "net.pth")}
    )
    ours = build_model(spec, 4).eval()
    images = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        logits = F.interpolate(ours(images), (64, 96), mode="bilinear", align_corners=False)
        expected = theirs((images - ours.mean) / ours.std)["out"]
    assert torch.allclose(logits, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("classifier", "arch", "encoder"),
    [
        ("resnet50", "torchvision_fcn", "resnet50"),
        ("mobilenet_v3_large", "torchvision_lraspp", "mobilenet_v3_large"),
        ("mobilenet_v3_small", "mobilenetv3_aspp", "mobilenet_v3_small"),
        ("mobilenet_v2", "deeplabv3_mobilenetv2", "mobilenet_v2"),
        ("resnet18", "unet", "resnet18"),
        ("mobilenet_v2", "unetplusplus", "mobilenet_v2"),
    ],
)
def test_an_imagenet_classifiers_file_fills_the_encoder(
    classifier: str, arch: str, encoder: str, tmp_path: Path
) -> None:
    donor = torchvision.models.get_model(classifier, weights=None)
    torch.save(donor.state_dict(), tmp_path / "classifier.pth")
    state = build(arch, encoder, tmp_path / "classifier.pth").encoder.state_dict()
    assert state
    assert all(torch.equal(value, donor.state_dict()[key]) for key, value in state.items())


def test_the_tied_backbone_of_transformers_saved_by_its_library(tmp_path: Path) -> None:
    donor = build("hf_upernet", "swin_tiny")
    donor.encoder.backbone.save_pretrained(tmp_path)  # type: ignore[union-attr,operator]
    assert same(build("hf_upernet", "swin_tiny", tmp_path).encoder, donor.encoder)
    with pytest.raises(SpecError, match="could not be loaded") as caught:
        build("hf_upernet", "swin_small", tmp_path)
    assert caught.value.field == "model.weights"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.pop("stages.0.0.square.weight"), "it lacks stages.0.0.square.weight"),
        (lambda state: state.update(extra=torch.zeros(1)), "it has beside it extra"),
        (lambda state: state.update({"stages.0.0.norm.bias": torch.zeros(9)}), r"the shape \(9,\)"),
        (lambda state: state.clear(), "no state dict"),
        (lambda state: state.update({"stages.0.0.norm.bias": 3}), "norm.bias is no tensor"),
    ],
)
def test_keys_must_match(change: Any, said: str, tmp_path: Path) -> None:
    state = dict(build("macunet", "student").encoder.state_dict())
    change(state)
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(SpecError, match=rf"net\.pth does not fit: .*{said}") as caught:
        build("macunet", "student", tmp_path / "net.pth")
    assert caught.value.field == "model.weights"


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04broken", b"\x80\x04]."])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_that_are_no_weights(content: bytes, suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"net{suffix}"
    file.write_bytes(content)
    for path in (file, tmp_path, tmp_path / f"missing{suffix}"):
        with pytest.raises(SpecError, match="does not fit"):
            build("macunet", "student", path)


def test_nobody_pretrained_macunet() -> None:
    with pytest.raises(SpecError, match="no imagenet weights") as caught:
        build("macunet", "teacher", "imagenet")
    assert caught.value.field == "model.weights"


@pytest.mark.parametrize(
    ("arch", "encoder", "fetched_by"),
    [
        ("unet", "tu-resnet18", "segmentation_models_pytorch.create_model"),
        ("attention_unetpp", "resnet18", "segmentation_models_pytorch.encoders.get_encoder"),
        ("torchvision_fcn", "resnet50", "torchvision.models._api.load_state_dict_from_url"),
        (
            "mobilenetv3_aspp",
            "mobilenet_v3_small",
            "torchvision.models._api.load_state_dict_from_url",
        ),
        ("segformer", "mit_b0", "transformers.PreTrainedModel.from_pretrained"),
        ("mask2former", "swin_tiny", "transformers.PreTrainedModel.from_pretrained"),
    ],
)
def test_downloads_that_fail(
    arch: str, encoder: str, fetched_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr(fetched_by, no_network)
    with pytest.raises(SpecError, match="could not be") as caught:
        build(arch, encoder, "imagenet")
    assert caught.value.field == "model.weights"
    assert "local" in str(caught.value.remedy)


@with_shared
@pytest.mark.parametrize("arch", ["unet", "fpn", "attention_unetpp", "deeplabv3_mobilenetv2"])
def test_the_real_imagenet_file(arch: str) -> None:
    real = torch.load(IMAGENET, weights_only=True)
    assert "classifier.1.weight" in real
    state = build(arch, "mobilenet_v2", IMAGENET).encoder.state_dict()
    assert all(torch.equal(value, real[key].to(value.dtype)) for key, value in state.items())


@with_shared
def test_the_real_voc_teacher_starts_an_encoder_for_other_classes() -> None:
    real = torch.load(VOC, weights_only=True)
    state = build("deeplabv3_mobilenetv2", "mobilenet_v2", VOC, classes=11).encoder.state_dict()
    assert all(torch.equal(value, real[key].to(value.dtype)) for key, value in state.items())
    with pytest.raises(SpecError, match=r"it lacks features\.18"):
        build("unet", "mobilenet_v2", VOC)


@with_shared
@pytest.mark.parametrize(
    ("photograph", "least"),
    [
        ("2011_000003", {"background": 0.9, "person": 0.75}),
        ("2011_000006", {"background": 0.75, "chair": 0.6, "person": 0.75}),
        ("2011_000025", {"background": 0.8, "bus": 0.85, "car": 0.3}),
    ],
)
def test_the_real_voc_teacher_sees_what_is_there(photograph: str, least: dict[str, float]) -> None:
    ids = {"background": 0, "bus": 6, "car": 7, "chair": 9, "person": 15}
    image, labels = _voc(photograph)
    model = build("deeplabv3_mobilenetv2", "mobilenet_v2", VOC, classes=21).eval()
    pixels = np.array(image.resize((512, 512), Image.Resampling.BILINEAR))
    with torch.inference_mode():
        logits = model(torch.from_numpy(pixels).permute(2, 0, 1)[None])
    resized = F.interpolate(logits, labels.shape, mode="bilinear", align_corners=False)
    predicted, valid = resized.argmax(1)[0].numpy(), labels != 255
    for name, iou in least.items():
        there, said = labels == ids[name], predicted == ids[name]
        assert (there & said).sum() / ((there | said) & valid).sum() > iou


def _voc(name: str) -> tuple[Image.Image, "np.ndarray[Any, Any]"]:
    with tarfile.open(SAMPLE) as tar:
        found = []
        for path in (f"JPEGImages/{name}.jpg", f"SegmentationClass/{name}.png"):
            member = tar.extractfile(f"VOCdevkit/VOC2012/{path}")
            assert member is not None
            found.append(Image.open(io.BytesIO(member.read())))
    return found[0].convert("RGB"), np.array(found[1])
