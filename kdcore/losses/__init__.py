"""Losses as pure functions, and `build`, which makes a module of a term's spec.

In every one ignored pixels are masked out, the mean runs over the valid pixels, arithmetic is
float32 or better, and an input without valid pixels gives exactly 0 with zero gradients.
"""

from kdcore.losses.feature import pkd
from kdcore.losses.label import class_weights, cross_entropy, dice
from kdcore.losses.response import cwd, kd
from kdcore.losses.terms import Loss, build

__all__ = ["Loss", "build", "class_weights", "cross_entropy", "cwd", "dice", "kd", "pkd"]
