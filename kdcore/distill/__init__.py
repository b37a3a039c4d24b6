"""Teachers, their ensembles and the weighted sum of terms that a student minimises."""

from kdcore.distill.ensemble import ensemble

__all__ = ["ensemble"]
