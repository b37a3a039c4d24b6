"""Networks: built from a spec, wrapped alike, saved as safetensors + card, measured, tapped."""

from kdcore.models.network import SegmentationModel, build_model
from kdcore.models.store import ModelCard, load_model, save_model

__all__ = ["ModelCard", "SegmentationModel", "build_model", "load_model", "save_model"]
