"""Losses as pure functions, and `build`, which makes a module of a term's spec.

In every one ignored pixels are masked out, the mean runs over the valid pixels unless its docstring
says otherwise, arithmetic is float32 or better, and an input without valid pixels gives exactly 0
with zero gradients.
"""

from kdcore.losses.balance import class_weights
from kdcore.losses.border import boundary, boundary_label
from kdcore.losses.channel import cgd, cwd
from kdcore.losses.feature import at, cosine, feature_l2, ifvd, pkd
from kdcore.losses.generative import Projection, mgd
from kdcore.losses.label import cross_entropy, focal, ohem
from kdcore.losses.region import dice, lovasz, tversky
from kdcore.losses.relation import cirkd, dist, skd
from kdcore.losses.response import dkd, kd, logit_std, ofa
from kdcore.losses.terms import Loss, build

__all__ = [
    "Loss",
    "Projection",
    "at",
    "boundary",
    "boundary_label",
    "build",
    "cgd",
    "cirkd",
    "class_weights",
    "cosine",
    "cross_entropy",
    "cwd",
    "dice",
    "dist",
    "dkd",
    "feature_l2",
    "focal",
    "ifvd",
    "kd",
    "logit_std",
    "lovasz",
    "mgd",
    "ofa",
    "ohem",
    "pkd",
    "skd",
    "tversky",
]
