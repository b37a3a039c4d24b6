"""What a student minimises: a sum of named, weighted terms, each reported on its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdcore.data.batches import Batch
from kdcore.distill.class_map import Group, grouped
from kdcore.distill.ensemble import ensemble
from kdcore.distill.gate import gated
from kdcore.distill.lesson import Lesson
from kdcore.distill.replay import Replay
from kdcore.distill.schedule import value_at
from kdcore.distill.shares import of_group, shares
from kdcore.distill.taps import Stages, Tap, head_stages, pair_stages, stages_of
from kdcore.distill.teachers import Teacher, TeacherOutput, ask, joined
from kdcore.errors import SpecError
from kdcore.losses import Projection, build, class_weights
from kdcore.losses.counting import counted
from kdcore.losses.masking import size_of, spatial
from kdcore.models.network import SegmentationModel, padding, tapped
from kdcore.ranks import ALONE
from kdcore.spec.dataset import IGNORE
from kdcore.spec.objective import Ensemble, Headed, Term
from kdcore.timing import part

_TINY = 1e-12


@dataclass(frozen=True)
class Total:
    """The loss of one batch, and every term before and after its weight (detached).

    With a gate before the pool ``terms`` also has ``pool_kept``, see `gated`.
    """

    loss: Tensor
    terms: dict[str, Tensor]

    def __add__(self, other: "Total") -> "Total":
        """Of two parts of a batch; the loss without its graph."""
        terms = dict(self.terms)
        for name, value in other.terms.items():
            terms[name] = terms[name] + value if name in terms else value
        return Total(self.loss.detach() + other.loss.detach(), terms)


class Objective(nn.Module):
    """Holds the terms with their adapters and heads; its parameters are trained beside the student's.

    The batches of all ``ranks`` together are a whole, of which the loss here is this rank's part.
    """

    def __init__(
        self,
        terms: Sequence[Term],
        student: SegmentationModel,
        teachers: Sequence[Teacher],
        *,
        ensemble_spec: Ensemble,
        steps: int,
        class_pixels: tuple[int, ...],
        replay: Replay | None = None,
        min_confidence: float | None = None,
    ) -> None:
        """``min_confidence``: below it a pixel of an image without a mask counts as ignored."""
        super().__init__()
        self.ranks = ALONE
        self._min_confidence = min_confidence
        self._terms = tuple(terms)
        self._steps = steps
        self._ensemble = ensemble_spec
        self._replay = replay
        # In a plain list, lest the teachers become submodules with parameters and modes of their own.
        self._teachers = list(teachers)
        self._shares = shares(ensemble_spec, teachers)
        self._groups = grouped(
            [teacher.known for teacher in teachers],
            [teacher.weight for teacher in teachers],
            classes=student.classes,
        )
        self._class_weights: dict[str, Tensor] = {}
        self.losses = nn.ModuleDict()
        self.heads = nn.ModuleDict()
        self._taps: dict[tuple[str, int], Sequence[Tap]] = {}
        self._headed: dict[str, Sequence[str]] = {}
        stages = _Stages(student, teachers) if any(map(_looks_inside, terms)) else None
        for index, term in enumerate(terms):
            if stages is not None and term.over_features:
                self._add_feature_term(index, term, stages)
                continue
            class_weights_C = _weights_of(term, index, class_pixels)
            self.losses[term.kind] = build(term, class_weights_C=class_weights_C)
            if class_weights_C is not None:
                self._class_weights[term.kind] = class_weights_C
            if stages is not None:
                self._add_heads(index, term, stages.student, student.classes)

    def forward(self, student: SegmentationModel, batch: Batch, step: int) -> Total:
        """Loss of ``batch`` at ``step`` (0-based); student in train mode, teachers frozen."""
        return self.loss(student, self.lesson(batch), step)

    def lesson(self, batch: Batch, *, asked_in: int = 1) -> Lesson:
        """``batch`` with all teachers' answers, asked for in that many pieces."""
        report: dict[str, Tensor] = {}
        with part("teacher"):
            answers = self._answers(batch, asked_in)
            taught = self._taught(answers, batch, report)
        return Lesson(batch, answers, taught, report)

    def loss(
        self, student: SegmentationModel, lesson: Lesson, step: int, *, whole: Lesson | None = None
    ) -> Total:
        """As `forward`. Of a part of ``whole``: what it adds to that loss.

        Every mean is weighed by its share of what the mean of the whole is over (`counted`), so that
        the parts' sum is the loss of the whole wherever that is a mean of pixels or images. Of the
        other terms (`BaseTerm.mean_of`) it is the mean of the parts' values by their images.
        """
        with part("student"), tapped(student) as features:
            logits_NCHW = student(lesson.batch.images_NCHW)
        with part("loss"):
            return self._total(logits_NCHW, features.stages, lesson, whole or lesson, step)

    def _total(
        self,
        logits_NCHW: Tensor,
        features: Mapping[str, Tensor],
        lesson: Lesson,
        whole: Lesson,
        step: int,
    ) -> Total:
        parts = []
        report = dict(lesson.report)
        for term in self._terms:
            value = self._value(term, logits_NCHW, features, lesson, whole, step)
            weighted = value_at(term.weight, step, self._steps) * value
            parts.append(weighted)
            report[term.kind] = value.detach()
            report[f"{term.kind}_weighted"] = weighted.detach()
        return Total(torch.stack(parts).sum(), report)

    def taps(self) -> list[tuple[str, int, Tap]]:
        """All that is compared by features: kind of the term, index of the teacher, stages."""
        return [(*key, tap) for key, taps in self._taps.items() for tap in taps]

    def _answers(self, batch: Batch, asked_in: int) -> list[TeacherOutput]:
        if self._replay is not None:
            return self._replay.answers(self._teachers, batch)
        pieces = batch.images_NCHW.chunk(asked_in)
        return [
            joined([ask(teacher, piece_NCHW) for piece_NCHW in pieces])
            for teacher in self._teachers
        ]

    def _taught(
        self, answers: Sequence[TeacherOutput], batch: Batch, report: dict[str, Tensor]
    ) -> list[Batch]:
        """The batch as each group of teachers sees it: what it does not teach is ignored."""
        taught, kept = [], []
        for group in self._groups:
            own = replace(batch, labels_NHW=group.labels(batch.labels_NHW, batch.labelled))
            if self._min_confidence is not None and batch.labelled < len(batch.labels_NHW):
                target_NCHW = self._combined(group, answers, own, 1.0)
                own, share = gated(own, target_NCHW, self._min_confidence)
                kept.append(group.share * share)
            taught.append(own)
        if kept:
            # Over the ranks reports are added up.
            report["pool_kept"] = torch.stack(kept).sum() / self.ranks.count
        return taught

    def _value(
        self,
        term: Term,
        logits_NCHW: Tensor,
        features: Mapping[str, Tensor],
        lesson: Lesson,
        whole: Lesson,
        step: int,
    ) -> Tensor:
        heat = _temperature(term, step, self._steps)
        if term.over_features:
            return self._feature_value(term, features, lesson, whole, heat)
        seen = _seen(term, lesson.batch)
        of_student = [_first(seen, logits_NCHW)]
        if isinstance(term, Headed):
            of_student += [
                self.heads[_head_key(term, stage)](_first(seen, features[stage]))
                for stage in self._headed.get(term.kind, ())
            ]
        if not term.needs_teacher:
            return self._logit_value(term, of_student, None, lesson.batch, whole.batch, heat)
        values = []
        for group, own, all_of_it in zip(self._groups, lesson.taught, whole.taught, strict=True):
            target_NCHW = self._combined(group, lesson.answers, own, heat or 1.0)[:seen]
            compared = [group.logits(each_NCHW) for each_NCHW in of_student]
            value = self._logit_value(term, compared, target_NCHW, own, all_of_it, heat)
            values.append(group.share * value)
        return torch.stack(values).sum()

    def _logit_value(
        self,
        term: Term,
        of_student: Sequence[Tensor],
        target_NCHW: Tensor | None,
        batch: Batch,
        whole: Batch,
        temperature: float | None,
    ) -> Tensor:
        """The loss of the student's logits, the first, and of its heads, the others."""
        loss = self.losses[term.kind]
        labels_NHW = batch.labels_NHW[: _seen(term, batch)]
        whole_NHW = labels_NHW if whole is batch else whole.labels_NHW[: _seen(term, whole)]
        value: Tensor
        value, *of_heads = (
            self._share(term, labels_NHW, whole_NHW, logits_NCHW, target_NCHW)
            * loss(logits_NCHW, target_NCHW, labels_NHW, temperature=temperature)
            for logits_NCHW in of_student
        )
        if not of_heads or not isinstance(term, Headed):
            return value
        return value + term.head_weight * torch.stack(of_heads).sum()

    def _share(
        self,
        term: Term,
        labels_NHW: Tensor,
        whole_NHW: Tensor,
        student_NCHW: Tensor,
        teacher_NCHW: Tensor | None,
    ) -> Tensor | float:
        """Of the labels in the whole, over all ranks; by what the mean of the term is over."""
        if labels_NHW is whole_NHW and self.ranks.count == 1:
            return 1.0
        grid = size_of(labels_NHW)
        if teacher_NCHW is not None:
            grid = min(spatial(student_NCHW), spatial(teacher_NCHW))
        class_weights_C = self._class_weights.get(term.kind)
        own, of = (
            counted(term, each_NHW, grid, class_weights_C) for each_NHW in (labels_NHW, whole_NHW)
        )
        return (own / self.ranks.sum(of).clamp(min=_TINY)).float()

    def _combined(
        self, group: Group, answers: Sequence[TeacherOutput], batch: Batch, temperature: float
    ) -> Tensor:
        """The teachers' logits as one; where there is no mask no label speaks for a teacher."""
        known_NHW = batch.labels_NHW
        if self._ensemble.kind == "confidence" and batch.labelled < len(known_NHW):
            known_NHW = known_NHW.clone()
            known_NHW[batch.labelled :] = IGNORE
        return ensemble(
            self._ensemble.kind,
            [group.logits(answers[index].logits_NCHW) for index in group.teachers],
            known_NHW,
            of_group(self._shares, group),
            temperature=temperature,
        )

    def _feature_value(
        self,
        term: Term,
        features: Mapping[str, Tensor],
        lesson: Lesson,
        whole: Lesson,
        temperature: float | None,
    ) -> Tensor:
        """Mean over the taps of each teacher, weighted mean over the teachers."""
        weights = [teacher.weight for teacher in self._teachers]
        known = self._known(term, lesson)
        all_known = known if whole is lesson else self._known(term, whole)
        seen = _seen(term, lesson.batch)
        values = []
        for index, answer in enumerate(lesson.answers):
            labels_NHW = known[index]
            over_taps = []
            for tap in self._taps[term.kind, index]:
                student_NCHW = _first(seen, features[tap[0]])
                teacher_NCHW = answer.features[tap[1]][:seen]
                loss = self.losses[_feature_key(term, index, tap)]
                value = loss(student_NCHW, teacher_NCHW, labels_NHW, temperature=temperature)
                over_taps.append(
                    self._share(term, labels_NHW, all_known[index], student_NCHW, teacher_NCHW)
                    * value
                )
            values.append(weights[index] * torch.stack(over_taps).mean())
        return torch.stack(values).sum() / sum(weights)

    def _known(self, term: Term, lesson: Lesson) -> dict[int, Tensor]:
        """By teacher, the labels of the classes that it knows, as far as ``term`` sees them.

        Features cover the image as the networks padded it.
        """
        seen = _seen(term, lesson.batch)
        right, down = padding(lesson.batch.labels_NHW)
        return {
            index: F.pad(own.labels_NHW[:seen], (0, right, 0, down), value=IGNORE)
            for group, own in zip(self._groups, lesson.taught, strict=True)
            for index in group.teachers
        }

    def _add_feature_term(self, index: int, term: Term, stages: "_Stages") -> None:
        for which, teacher in enumerate(self._teachers):
            offered = (stages.student, stages.teachers[which])
            taps = pair_stages(
                getattr(term, "taps", "auto"),
                offered,
                field=f"objective.{index}.taps",
                teacher=teacher.name,
            )
            self._taps[term.kind, which] = taps
            for tap in taps:
                channels = (offered[0][tap[0]], offered[1][tap[1]])
                self.losses[_feature_key(term, which, tap)] = build(term, channels=channels)

    def _add_heads(self, index: int, term: Term, offered: Stages, classes: int) -> None:
        heads = term.heads if isinstance(term, Headed) else ()
        stages = head_stages(heads, offered, field=f"objective.{index}.heads")
        if stages:
            self._headed[term.kind] = stages
        for stage in stages:
            self.heads[_head_key(term, stage)] = Projection(offered[stage], classes, 1)


class _Stages:
    """Stages of the student and of each teacher."""

    def __init__(self, student: SegmentationModel, teachers: Sequence[Teacher]) -> None:
        self.student = stages_of(student)
        self.teachers = [stages_of(teacher.model) for teacher in teachers]


def _seen(term: Term, batch: Batch) -> int:
    """Images without masks stand last; a term that needs to know the classes does not see them."""
    return batch.labelled if term.needs_labels else len(batch.labels_NHW)


def _first(count: int, values: Tensor) -> Tensor:
    """A slice has a backward pass that fills and copies, also where it is the whole."""
    return values if count == len(values) else values[:count]


def _temperature(term: Term, step: int, steps: int) -> float | None:
    own = getattr(term, "temperature", None)
    return None if own is None else value_at(own, step, steps)


def _looks_inside(term: Term) -> bool:
    return term.over_features or (isinstance(term, Headed) and len(term.heads) > 0)


# Names of modules hold no dots, those of stages may.
def _feature_key(term: Term, teacher: int, tap: Tap) -> str:
    return f"{term.kind}-{teacher}-{tap[0]}-{tap[1]}".replace(".", "_")


def _head_key(term: Term, stage: str) -> str:
    return f"{term.kind}-{stage}".replace(".", "_")


def _weights_of(term: Term, index: int, class_pixels: tuple[int, ...]) -> Tensor | None:
    wanted = getattr(term, "class_weights", None)
    if wanted is None:
        return None
    if isinstance(wanted, str):
        return class_weights(wanted, class_pixels)
    if len(wanted) != len(class_pixels):
        raise SpecError(
            f"{len(wanted)} class weights for {len(class_pixels)} classes",
            field=f"objective.{index}.class_weights",
        )
    return torch.tensor(wanted)
