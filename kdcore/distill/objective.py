"""What a student minimises: a sum of named, weighted terms, each reported on its own."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdcore.data.batches import Batch
from kdcore.distill.ensemble import ensemble
from kdcore.distill.schedule import value_at
from kdcore.distill.teachers import Teacher, TeacherOutput, ask
from kdcore.errors import SpecError
from kdcore.losses import Loss, build, class_weights
from kdcore.losses.masking import zero
from kdcore.models.network import STRIDE, SegmentationModel, tapped
from kdcore.spec.objective import CrossEntropy, Ensemble, Term

_SMALLEST_TAP = 4
_PROBE = 64

Tap = tuple[str, str]
"""A stage of the student and one of the teacher."""


@dataclass(frozen=True)
class Total:
    """The loss of one batch, and every term before and after its weight (detached)."""

    loss: Tensor
    terms: dict[str, Tensor]


class Objective(nn.Module):
    """Holds the terms and their adapters; its parameters are trained beside the student's."""

    def __init__(
        self,
        terms: Sequence[Term],
        student: SegmentationModel,
        teachers: Sequence[Teacher],
        *,
        ensemble_spec: Ensemble,
        steps: int,
        class_pixels: tuple[int, ...],
    ) -> None:
        super().__init__()
        self._terms = tuple(terms)
        self._steps = steps
        self._ensemble = ensemble_spec
        # In a plain list, lest the teachers become submodules with parameters and modes of their own.
        self._teachers = list(teachers)
        self._tapped = any(_over_features(term) for term in terms)
        self.losses = nn.ModuleDict()
        self._taps: dict[str, list[Tap]] = {}
        widths = _Widths(student, teachers) if self._tapped else None
        for index, term in enumerate(terms):
            if widths is not None and _over_features(term):
                self._add_feature_term(index, term, widths)
            else:
                self.losses[term.kind] = build(
                    term, class_weights_C=_weights_of(term, class_pixels)
                )

    def forward(self, student: SegmentationModel, batch: Batch, step: int) -> Total:
        """Loss of ``batch`` at ``step`` (0-based); student in train mode, teachers frozen."""
        with tapped(student) as features:
            logits_NCHW = student(batch.images_NCHW)
        answers = [ask(teacher, batch.images_NCHW) for teacher in self._teachers]
        total = zero(logits_NCHW)
        report: dict[str, Tensor] = {}
        for term in self._terms:
            value = self._value(term, logits_NCHW, features.stages, answers, batch)
            weighted = value_at(term.weight, step, self._steps) * value
            total = total + weighted
            report[term.kind] = value.detach()
            report[f"{term.kind}_weighted"] = weighted.detach()
        return Total(total, report)

    def _value(
        self,
        term: Term,
        logits_NCHW: Tensor,
        features: Mapping[str, Tensor],
        answers: Sequence[TeacherOutput],
        batch: Batch,
    ) -> Tensor:
        if not term.needs_teacher:
            n = batch.labelled
            value: Tensor = self.losses[term.kind](logits_NCHW[:n], None, batch.labels_NHW[:n])
            return value
        if _over_features(term):
            return self._feature_value(term, features, answers, batch)
        loss = self.losses[term.kind]
        assert isinstance(loss, Loss)
        combined_NCHW = ensemble(
            self._ensemble.kind,
            [answer.logits_NCHW for answer in answers],
            weights=[teacher.weight for teacher in self._teachers],
            temperature=loss.temperature,
        )
        against: Tensor = loss(logits_NCHW, combined_NCHW, batch.labels_NHW)
        return against

    def _feature_value(
        self,
        term: Term,
        features: Mapping[str, Tensor],
        answers: Sequence[TeacherOutput],
        batch: Batch,
    ) -> Tensor:
        """Mean over the taps of each teacher, weighted mean over the teachers."""
        weights = [teacher.weight for teacher in self._teachers]
        values = []
        for index, answer in enumerate(answers):
            taps = self._taps[f"{term.kind}-{index}"]
            over_taps = [
                self.losses[_feature_key(term, index, tap)](
                    features[tap[0]], answer.features[tap[1]], batch.labels_NHW
                )
                for tap in taps
            ]
            values.append(weights[index] * torch.stack(over_taps).mean())
        return torch.stack(values).sum() / sum(weights)

    def _add_feature_term(self, index: int, term: Term, widths: "_Widths") -> None:
        for which, teacher in enumerate(self._teachers):
            offered = (widths.student, widths.teachers[which])
            taps = _pairs(term, offered, f"objective.{index}.taps", teacher.name)
            self._taps[f"{term.kind}-{which}"] = taps
            for tap in taps:
                channels = (offered[0][tap[0]], offered[1][tap[1]])
                self.losses[_feature_key(term, which, tap)] = build(term, channels=channels)


class _Widths:
    """Channels by stage of the student and of each teacher, found with one small image."""

    def __init__(self, student: SegmentationModel, teachers: Sequence[Teacher]) -> None:
        self.student = _widths(student)
        self.teachers = [_widths(teacher.model) for teacher in teachers]


@torch.no_grad()
def _widths(model: SegmentationModel) -> dict[str, int]:
    was_training = model.training
    model.eval()
    with tapped(model) as features:
        model(torch.zeros(1, 3, _PROBE, _PROBE, device=model.mean.device))
    model.train(was_training)
    return {stage: int(feature.shape[1]) for stage, feature in features.stages.items()}


def _pairs(
    term: Term, offered: tuple[dict[str, int], dict[str, int]], field: str, teacher: str
) -> list[Tap]:
    """The stages to compare; `auto`: those of equal stride. Raises: SpecError."""
    wanted = getattr(term, "taps", "auto")
    if wanted == "auto":
        common = [stride for stride in _strides(offered[0]) if stride in _strides(offered[1])]
        if not common:
            raise SpecError(f"no stage of equal stride in student and {teacher}", field=field)
        return [(f"{STRIDE}{stride}", f"{STRIDE}{stride}") for stride in common]
    for names in wanted:
        for name, stages in zip(names, offered, strict=True):
            if name not in stages:
                known = ", ".join(stages)
                raise SpecError(f"no stage named {name}", field=field, remedy=known)
    return list(wanted)


def _strides(stages: Iterable[str]) -> list[int]:
    strides = (int(name.removeprefix(STRIDE)) for name in stages if name.startswith(STRIDE))
    return sorted(stride for stride in strides if stride >= _SMALLEST_TAP)


def _over_features(term: Term) -> bool:
    return term.kind == "pkd" or getattr(term, "over", "logits") == "features"


def _feature_key(term: Term, teacher: int, tap: Tap) -> str:
    # Names of modules hold no dots, those of stages may.
    return f"{term.kind}-{teacher}-{tap[0]}-{tap[1]}".replace(".", "_")


def _weights_of(term: Term, class_pixels: tuple[int, ...]) -> Tensor | None:
    if not isinstance(term, CrossEntropy) or term.class_weights is None:
        return None
    if isinstance(term.class_weights, str):
        return class_weights(term.class_weights, class_pixels)
    if len(term.class_weights) != len(class_pixels):
        raise SpecError(
            f"{len(term.class_weights)} class weights for {len(class_pixels)} classes",
            field="objective.class_weights",
        )
    return torch.tensor(term.class_weights)
