"""Hugging Face's Mask2Former on Swin, its masks and their classes made into logits of pixels."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import Mask2FormerConfig, Mask2FormerModel

from kdcore.models.choices import choose, construct
from kdcore.models.hugging_face import STAGES, SWINS, configure, load_backbone
from kdcore.spec.model import ModelSpec

_SMALLEST = 1e-6


def build_mask2former(spec: ModelSpec, classes: int, field: str) -> nn.Module:
    """`swin_tiny` .. `swin_base`; options are `Mask2FormerConfig`'s. Raises: SpecError."""
    backbone = choose(SWINS, spec, field)()
    net = construct(Mask2Former, spec, field, backbone_config=backbone, num_labels=classes)
    assert isinstance(net, Mask2Former)
    load_backbone(net.encoder, spec, field)
    return net


class Mask2Former(nn.Module):
    """Logits at stride 4: log of Σ over queries of P(class | query) · P(pixel in the query's mask).

    The sum is what Cheng et al., arXiv:2107.06278, section 3.3, take the maximum of; the softmax of
    its log is the sum normalised over classes, so that losses on logits apply. Computed in float32.
    """

    stage_names = STAGES

    def __init__(self, *, num_labels: int, **settings: Any) -> None:
        super().__init__()
        config = configure(Mask2FormerConfig, num_labels=num_labels, **settings)
        # Not Mask2FormerForUniversalSegmentation: its matching loss, unused here, needs scipy.
        self.model = Mask2FormerModel(config)
        self.class_predictor = nn.Linear(self.model.config.hidden_dim, num_labels + 1)

    @property
    def encoder(self) -> nn.Module:
        encoder: nn.Module = self.model.pixel_level_module.encoder
        return encoder

    def forward(self, images_NCHW: Tensor) -> Tensor:
        outputs = self.model(images_NCHW, output_hidden_states=True, return_dict=True)
        queries_NQD = outputs.transformer_decoder_intermediate_states[-1].transpose(0, 1)
        return semantic_logits(self.class_predictor(queries_NQD), outputs.masks_queries_logits[-1])


def semantic_logits(classes_NQC: Tensor, masks_NQHW: Tensor) -> Tensor:
    """(N, C - 1, H, W) from logits of classes, the last one "no object", and of masks."""
    with torch.autocast(classes_NQC.device.type, enabled=False):
        classes_NQC = classes_NQC.float().softmax(-1)[..., :-1]
        scores_NCHW = torch.einsum("nqc,nqhw->nchw", classes_NQC, masks_NQHW.float().sigmoid())
        return scores_NCHW.clamp(min=_SMALLEST).log()
