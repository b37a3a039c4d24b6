"""A batch with what its teachers say, and the parts in which a student can take it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from kdcore.data.batches import Batch
from kdcore.distill.teachers import TeacherOutput


@dataclass(frozen=True)
class Lesson:
    """All that a loss needs besides the student.

    ``answers``: one a teacher. ``taught``: the batch as each group of teachers sees it.
    ``report``: what is told of it beside the terms.
    """

    batch: Batch
    answers: Sequence[TeacherOutput]
    taught: Sequence[Batch]
    report: Mapping[str, Tensor]

    def part(self, index: int, of: int) -> "Lesson":
        """Every ``of``-th image from ``index`` on; the first part has the report."""
        rows = self.batch.rows(index, of)
        return Lesson(
            self.batch.part(index, of),
            [
                TeacherOutput(
                    answer.logits_NCHW[rows],
                    {name: each[rows] for name, each in answer.features.items()},
                )
                for answer in self.answers
            ],
            [taught.part(index, of) for taught in self.taught],
            self.report if index == 0 else {},
        )
