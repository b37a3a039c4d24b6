"""What `auto` becomes, that it is told, and that a compiler that fails stops nothing."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from kdcore.run.directory import run_directory
from kdcore.spec.rundir import MODEL_WEIGHTS
from kdcore.spec.train import AdamW, Sgd, TrainSpec
from kdcore.train.computing import precision_of, resolve
from kdcore.train.optimizer import build_optimizer, restore_optimizer
from tests.kdcore.conftest import FitSpec, LayOut
from tests.kdcore.models.test_families import build
from tests.kdcore.train.test_training import events, with_train

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("device", "arch", "encoder", "expected"),
    [
        (CPU, "segformer", "mit_b0", ("bf16", "contiguous", "off")),
        (CPU, "unet", "tu-mobilenetv3_small_050", ("bf16", "channels_last", "off")),
        (CPU, "deeplabv3plus", "resnet18", ("bf16", "channels_last", "off")),
        (CPU, "brats_unet", "student", ("fp32", "channels_last", "off")),
        (GPU, "segformer", "mit_b0", ("bf16", "contiguous", "off")),
        (GPU, "deeplabv3plus", "resnet18", ("bf16", "channels_last", "off")),
    ],
)
def test_auto(
    device: torch.device,
    arch: str,
    encoder: str,
    expected: tuple[str, str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    resolved = resolve(TrainSpec(), build(arch, encoder), device)
    assert (resolved.precision, resolved.memory_format, resolved.compile) == expected
    assert resolve(resolved, build(arch, encoder), CPU) == resolved, "once is enough"


@pytest.mark.parametrize(
    ("arch", "encoder", "precision"),
    [
        ("segformer", "mit_b0", "bf16"),
        ("deeplabv3plus", "resnet18", "bf16"),
        ("brats_unet", "student", "fp32"),
    ],
)
def test_teachers_have_a_precision_of_their_own(
    arch: str, encoder: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    model = build(arch, encoder)
    assert precision_of(TrainSpec(), model, CPU) == precision
    assert precision_of(TrainSpec(precision="fp32"), model, CPU) == "fp32"


@pytest.mark.parametrize("device", [CPU, GPU])
def test_hardware_without_bf16(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False})
    assert resolve(TrainSpec(), build("segformer", "mit_b0"), device).precision == "fp32"


@pytest.mark.parametrize(("written", "read"), [(True, "on"), (False, "off"), ("auto", "auto")])
def test_on_and_off_may_be_written_bare(written: bool | str, read: str) -> None:
    assert TrainSpec.model_validate({"compile": written}).compile == read


def teacher_of(lay_out: LayOut, fit_spec: FitSpec) -> FitSpec:
    """``fit_spec`` as a distillation from a teacher, whose folder is the input."""
    run = lay_out("teacher", with_train(fit_spec, steps=2))
    assert run_directory(run).status == "succeeded"
    return {"inputs/models/big": run / "model"}


def distilled(fit_spec: FitSpec, **train: object) -> FitSpec:
    return {
        **with_train(fit_spec, **train),
        "objective": [{"kind": "ce"}, {"kind": "kd"}],
        "teachers": [{"name": "big", "path": "inputs/models/big"}],
    }


def test_choices_are_events_of_the_run(lay_out: LayOut, fit_spec: FitSpec) -> None:
    inputs = teacher_of(lay_out, fit_spec)
    run = lay_out("run", distilled(fit_spec, steps=1), inputs)
    assert run_directory(run).status == "succeeded"
    assert [event["values"] for event in events(run, "resolved")] == [
        {
            "train.precision": "fp32",
            "train.memory_format": "channels_last",
            "train.compile": "off",
            "teachers.big.precision": "fp32",
            "teachers.big.memory_format": "channels_last",
        }
    ]


def test_memory_formats_compute_the_same(lay_out: LayOut, fit_spec: FitSpec) -> None:
    inputs, losses = teacher_of(lay_out, fit_spec), []
    for memory_format in ("contiguous", "channels_last"):
        # A map of more than one pixel: of two values batch norm keeps little more than the sign.
        spec = distilled(fit_spec, steps=1, size=[64, 64], memory_format=memory_format)
        run = lay_out(memory_format, spec, inputs)
        assert run_directory(run).status == "succeeded"
        assert events(run, "resolved")[0]["values"]["teachers.big.memory_format"] == memory_format
        assert all(value.is_contiguous() for value in load_file(run / MODEL_WEIGHTS).values())
        losses += [
            event["values"]["train/loss"]
            for event in events(run, "metric")
            if "train/loss" in event["values"]
        ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def failing(*_: object, **__: object) -> Callable[..., Any]:
    def compiled(*_: object) -> None:
        raise RuntimeError("no compiler here")

    return compiled


def test_a_compiler_that_fails_is_told_and_the_run_is_as_without(
    lay_out: LayOut, fit_spec: FitSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = teacher_of(lay_out, fit_spec)
    plain = lay_out("plain", distilled(fit_spec, steps=2), inputs)
    asked = lay_out("asked", distilled(fit_spec, steps=2, compile="on"), inputs)
    assert run_directory(plain).status == "succeeded"
    monkeypatch.setattr(torch, "compile", failing)
    assert run_directory(asked).status == "succeeded"
    (warned,) = events(asked, "warning")
    assert warned["code"] == "compile_failed"
    assert "no compiler here" in warned["message"]
    assert events(asked, "resolved")[0]["values"]["train.compile"] == "off"
    one, other = load_file(plain / MODEL_WEIGHTS), load_file(asked / MODEL_WEIGHTS)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_steps_run_compiled_and_evaluations_do_not(
    lay_out: LayOut, fit_spec: FitSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []

    def compiled(forward: Callable[..., Any], **_: object) -> Callable[..., Any]:
        def run(first: Any, *others: Any) -> Any:
            maps = first if isinstance(first, torch.Tensor) else first[0]
            batches.append(len(maps))
            return forward(first, *others)

        return run

    monkeypatch.setattr(torch, "compile", compiled)
    spec = with_train(fit_spec, steps=2, compile="on")
    run = lay_out("run", spec)
    assert run_directory(run).status == "succeeded"
    assert events(run, "warning") == []
    assert events(run, "resolved")[0]["values"]["train.compile"] == "on"
    assert set(batches) == {spec["train"]["batch"]}, "an evaluation takes images one by one"
    assert len(batches) == 3 * (1 + 2), "encoder, decoder and head, once to see and in both steps"


@pytest.mark.parametrize("kind", [AdamW(), Sgd()])
def test_moments_of_another_memory_format_stay_with_their_weights(kind: AdamW | Sgd) -> None:
    ends = []
    for before, after in (
        (torch.contiguous_format, torch.contiguous_format),
        (torch.channels_last, torch.contiguous_format),
        (torch.contiguous_format, torch.channels_last),
    ):
        model = build("brats_unet", "student")
        spec = TrainSpec(optimizer=kind)
        model.lay_out(before)
        step(build_optimizer(model, [], spec), model, 1)
        optimizer = build_optimizer(model, [], spec)
        step(optimizer, model, 2)
        saved = optimizer.state_dict()
        model.lay_out(after)
        resumed = build_optimizer(model, [], spec)
        restore_optimizer(resumed, saved)
        step(resumed, model, 3)
        ends.append(model.net.state_dict())
    for end in ends[1:]:
        for name, value in ends[0].items():
            torch.testing.assert_close(end[name], value)


def step(optimizer: torch.optim.Optimizer, model: torch.nn.Module, seed: int) -> None:
    torch.manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.empty_like(parameter).copy_(torch.randn(parameter.shape))
    optimizer.step()
