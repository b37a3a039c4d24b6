"""Training and distillation of segmentation models. Knows run directories and nothing of the service."""

__version__ = "0.1.0"
