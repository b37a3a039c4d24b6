"""Layouts: from the files of a dataset to its pairs of image and mask."""

from kdcore.data.layouts.opening import Opened, open_layout

__all__ = ["Opened", "open_layout"]
