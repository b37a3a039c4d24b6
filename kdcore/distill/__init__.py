"""Teachers, their ensembles and the weighted sum of terms that a student minimises."""

from kdcore.distill.ensemble import ensemble, teacher_weights

__all__ = ["ensemble", "teacher_weights"]
