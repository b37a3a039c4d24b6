"""When an answer is taken from the cache, and when it must not be."""

from pathlib import Path

import pytest
import torch

from kdcore.data.batches import Batch
from kdcore.data.views import identity
from kdcore.distill import replay
from kdcore.distill.replay import Replay
from kdcore.distill.teachers import Teacher, TeacherOutput, ask
from kdcore.models.network import SegmentationModel, build_model
from kdcore.models.store import ModelCard
from kdcore.spec.dataset import ClassEntry
from kdcore.spec.model import ModelSpec
from kdcore.spec.teacher_cache import TeacherCache
from tests.shapes import STUDENT

KEY = "7" * 64


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    torch.manual_seed(0)
    spec = ModelSpec.model_validate(STUDENT)
    classes = tuple(ClassEntry(name=name, color=(0, 0, 0)) for name in ("sky", "road", "tree"))
    card = ModelCard(
        model=spec, classes=classes, dataset="0" * 64, size=(32, 40), step=1, metrics={}, kdcore="0"
    )
    return Teacher("one", 1.0, build_model(spec, 3).requires_grad_(False).eval(), card)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches that teachers were asked about."""
    sizes: list[int] = []

    def counted(teacher: Teacher, images_NCHW: torch.Tensor) -> TeacherOutput:
        sizes.append(len(images_NCHW))
        return ask(teacher, images_NCHW)

    monkeypatch.setattr(replay, "ask", counted)
    return sizes


def batch(count: int = 4, size: tuple[int, int] = (32, 40)) -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, *size), generator=generator, dtype=torch.uint8)
    names = tuple(identity(image) for image in images)
    return Batch(images, torch.zeros(count, *size, dtype=torch.long), count, names)


def open_at(folder: Path, key: str = KEY, **options: object) -> Replay:
    def unexpected(code: str, message: str) -> None:
        raise AssertionError(f"{code}: {message}")

    spec = TeacherCache.model_validate(options)
    return Replay(folder, spec, [key], warned=unexpected)


def test_an_answer_is_read_as_it_was_given(
    teacher: Teacher, tmp_path: Path, asked: list[int]
) -> None:
    live = ask(teacher, batch().images_NCHW).logits_NCHW
    for expected in ([4, 4], []):
        asked.clear()
        (answer,) = open_at(tmp_path).answers([teacher], batch())
        assert asked == expected, "the second asking is the check"
        assert torch.equal(answer.logits_NCHW, live)
        assert answer.logits_NCHW.stride() == live.stride()
        assert answer.logits_NCHW.dtype == live.dtype


def test_of_a_batch_with_a_gap_all_is_asked_again_or_the_gap_alone(
    teacher: Teacher, tmp_path: Path, asked: list[int]
) -> None:
    for forward, expected in (("batch", [4]), ("single", [1])):
        folder = tmp_path / forward
        kept = open_at(folder, forward=forward)
        first = kept.answers([teacher], batch())[0].logits_NCHW
        next(folder.rglob("*.logits")).unlink()
        asked.clear()
        again = kept.answers([teacher], batch())[0].logits_NCHW
        assert asked == expected
        assert torch.equal(first, again)


@pytest.mark.parametrize("change", ["teacher", "dtype", "forward", "batch", "threads", "matmul"])
def test_what_may_change_an_answer_is_in_its_key(
    change: str,
    teacher: Teacher,
    tmp_path: Path,
    asked: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    open_at(tmp_path).answers([teacher], batch())
    asked.clear()
    seen, other = batch(), open_at(tmp_path)
    if change == "teacher":
        other = open_at(tmp_path, "8" * 64)
    elif change == "dtype":
        other = open_at(tmp_path, dtype="fp16")
    elif change == "forward":
        other = open_at(tmp_path, forward="single")
    elif change == "batch":
        seen = Batch(seen.images_NCHW[:2], seen.labels_NHW[:2], 2, seen.views[:2])
    elif change == "threads":
        monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    else:
        monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "medium")
    other.answers([teacher], seen)
    assert asked


def test_another_precision_has_answers_of_its_own(
    teacher: Teacher, tmp_path: Path, asked: list[int]
) -> None:
    kept = open_at(tmp_path)
    full = kept.answers([teacher], batch())[0].logits_NCHW
    asked.clear()
    with torch.autocast("cpu", torch.bfloat16):
        fresh, again = (kept.answers([teacher], batch())[0].logits_NCHW for _ in range(2))
    assert asked == [4, 4]
    assert not torch.equal(full, fresh.float())
    assert fresh.dtype == again.dtype
    assert torch.equal(fresh, again)


def test_fp16_is_off_by_its_rounding_and_holds_what_is_too_large_for_it(
    teacher: Teacher, tmp_path: Path
) -> None:
    live = ask(teacher, batch().images_NCHW).logits_NCHW
    for _ in range(2):
        rounded = open_at(tmp_path, dtype="fp16").answers([teacher], batch())[0].logits_NCHW
        assert rounded.dtype == torch.float32
        # Below 6e-5 halves have a fixed step of 6e-8.
        assert bool(((rounded - live).abs() <= live.abs() * 2**-11 + 2**-25).all())
        assert not torch.equal(rounded, live)
    loud = Teacher("loud", 1.0, _Loud(teacher), teacher.card)
    for _ in range(2):
        answer = open_at(tmp_path, "9" * 64, dtype="fp16").answers([loud], batch())[0]
        assert answer.logits_NCHW.abs().max() == torch.finfo(torch.float16).max


class _Loud(SegmentationModel):
    def __init__(self, teacher: Teacher) -> None:
        super().__init__(teacher.model.net, teacher.model.spec, teacher.model.classes)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        return super().forward(images_NCHW) * 1e9


def test_half_precision_is_kept_under_autocast(teacher: Teacher, tmp_path: Path) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        for _ in ("asked", "read"):
            (answer,) = open_at(tmp_path, dtype="fp16").answers([teacher], batch())
            assert answer.logits_NCHW.dtype == torch.float32
