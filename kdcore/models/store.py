"""A model folder: `model.safetensors` (weights) and `model.json` (card). Nothing is ever unpickled."""

import json
from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from kdcore.errors import SpecError
from kdcore.files import write_atomically, write_text
from kdcore.models.network import SegmentationModel, build_model
from kdcore.spec.base import Sha256, Spec
from kdcore.spec.dataset import ClassEntry
from kdcore.spec.model import ModelSpec
from kdcore.spec.train import Size

WEIGHTS, CARD = "model.safetensors", "model.json"


class ModelCard(Spec):
    """What a model is, beside its weights."""

    model: ModelSpec
    classes: tuple[ClassEntry, ...]
    dataset: Sha256
    size: Size
    """Crop in training, height and width in pixels."""
    step: int
    metrics: dict[str, float]
    kdcore: str


def save_model(model: SegmentationModel, card: ModelCard, folder: Path) -> None:
    """Write the folder; the card comes last, so a folder with a card is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.contiguous().cpu() for name, value in model.net.state_dict().items()}
    write_atomically(folder / WEIGHTS, lambda path: save_file(state, path))
    write_text(folder / CARD, json.dumps(card.to_json(), indent=2))


def read_card(folder: Path, *, field: str = "model") -> ModelCard:
    """Raises: SpecError, when there is no card or it is not one."""
    try:
        return ModelCard.model_validate_json((folder / CARD).read_bytes())
    except (OSError, ValidationError) as error:
        raise SpecError(
            f"{folder} holds no model: {error}", field=field, remedy="a folder with model.json"
        ) from error


def load_model(folder: Path, *, field: str = "model") -> tuple[SegmentationModel, ModelCard]:
    """The network with its weights, in eval mode, and its card.

    Raises: SpecError, naming ``field``, when weights and card do not belong together.
    """
    card = read_card(folder, field=field)
    # The weights are in the folder: what the network once started from is not needed again.
    spec = card.model.model_copy(update={"weights": None})
    model = build_model(spec, len(card.classes), field=field)
    try:
        model.net.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise SpecError(
            f"{folder / WEIGHTS} does not fit its card: {str(error)[:500]}", field=field
        ) from error
    return model.eval(), card
