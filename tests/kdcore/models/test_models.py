"""Networks behind one interface: sizes, strides, folders, local weights."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kdcore.errors import SpecError
from kdcore.models import ModelCard, build_model, load_model, save_model
from kdcore.models.measure import flops, latency, parameters
from kdcore.models.network import tapped
from kdcore.spec.dataset import ClassEntry
from kdcore.spec.experiment import LatencySpec
from kdcore.spec.model import ModelSpec

SMALL = ModelSpec(
    arch="unet",
    encoder="tu-mobilenetv3_small_050",
    options={"decoder_channels": (16, 8, 8, 8, 8)},
)
CLASSES = (ClassEntry(name="ground"), ClassEntry(name="disc"))
CARD = ModelCard(
    model=SMALL, classes=CLASSES, dataset="0" * 64, size=(32, 32), step=1, metrics={}, kdcore="x"
)


@pytest.mark.parametrize(
    ("arch", "encoder", "classes", "expected"),
    [
        ("segformer", "mit_b1", 10, 13_679_818),
        ("segformer", "mit_b2", 10, 27_354_314),
        ("segformer", "mit_b3", 10, 47_230_154),
        ("unetplusplus", "efficientnet-b0", 1, 6_569_581),
        ("unetplusplus", "efficientnet-b4", 1, 20_813_113),
        ("unet", "mobilenet_v2", 1, 6_628_945),
    ],
)
def test_published_sizes(arch: str, encoder: str, classes: int, expected: int) -> None:
    spec = ModelSpec.model_validate({"arch": arch, "encoder": encoder})
    assert parameters(build_model(spec, classes)) == expected


@pytest.mark.parametrize(
    ("spec", "strides", "stride"),
    [
        (SMALL, {1, 2, 4, 8, 16, 32}, 1),
        (ModelSpec(arch="segformer", encoder="mit_b0"), {4, 8, 16, 32}, 4),
    ],
)
def test_logits_come_at_the_native_stride_and_at_full_size_where_that_would_shift_them(
    spec: ModelSpec, strides: set[int], stride: int
) -> None:
    model = build_model(spec, 3).eval()
    with torch.inference_mode(), tapped(model) as features:
        assert model(torch.zeros(2, 3, 70, 45, dtype=torch.uint8)).shape == (2, 3, 70, 45)
        logits = model(torch.zeros(2, 3, 64, 96, dtype=torch.uint8))
    assert logits.shape == (2, 3, 64 // stride, 96 // stride)
    assert features.by_stride.keys() == strides
    assert not model.encoder._forward_hooks


def test_uint8_and_float_images_are_the_same_picture() -> None:
    model = build_model(SMALL, 2).eval()
    image = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.equal(model(image), model(image.float() / 255))


def test_a_folder_holds_the_model(tmp_path: Path) -> None:
    model = build_model(SMALL, 2).eval()
    save_model(model, CARD, tmp_path / "model")
    loaded, card = load_model(tmp_path / "model")
    image = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.equal(model(image), loaded(image))
    assert card == CARD
    assert not loaded.training


def test_a_folder_that_is_none_or_does_not_match(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="holds no model"):
        load_model(tmp_path)
    save_model(build_model(SMALL, 2), CARD, tmp_path)
    card = json.loads((tmp_path / "model.json").read_text())
    card["classes"].append({"name": "third"})
    (tmp_path / "model.json").write_text(json.dumps(card))
    with pytest.raises(SpecError, match="does not fit its card"):
        load_model(tmp_path)


def test_local_encoder_weights_are_loaded_by_strict_key_match(tmp_path: Path) -> None:
    torch.manual_seed(1)
    donor = build_model(SMALL, 2)
    torch.save(donor.encoder.state_dict(), tmp_path / "encoder.pth")
    spec = SMALL.model_copy(update={"weights": str(tmp_path / "encoder.pth")})
    loaded = build_model(spec, 2)
    for name, value in donor.encoder.state_dict().items():
        assert torch.equal(value, loaded.encoder.state_dict()[name])
    save_file({"other": torch.zeros(1)}, tmp_path / "encoder.pth")
    with pytest.raises(SpecError, match=r"encoder\.pth does not fit") as caught:
        build_model(spec, 2)
    assert caught.value.field == "model.weights"


class Exploit:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("open('owned', 'w')",)


def test_weights_files_never_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Exploit()}, tmp_path / "evil.pth")
    spec = SMALL.model_copy(update={"weights": str(tmp_path / "evil.pth")})
    with pytest.raises(SpecError):
        build_model(spec, 2)
    assert not (tmp_path / "owned").exists()


def test_downloads_that_fail_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("segmentation_models_pytorch.create_model", no_network)
    with pytest.raises(SpecError, match="could not be downloaded") as caught:
        build_model(SMALL.model_copy(update={"weights": "imagenet"}), 2, field="student.model")
    assert caught.value.field == "student.model.weights"
    assert "local weights file" in str(caught.value.remedy)


def test_measurements() -> None:
    model = build_model(SMALL, 2).eval()
    assert flops(model, (256, 256)) == pytest.approx(4 * flops(model, (128, 128)), rel=0.02)
    threads = torch.get_num_threads()
    measured = latency(model, LatencySpec(warmup=1, runs=3), (32, 32))
    assert 0 < measured["p50"] <= measured["p99"]
    assert measured["runs"] == 3
    assert torch.get_num_threads() == threads
