"""The re-arranged head is transformers' own: values, gradients, names, statistics."""

import copy

import pytest
import torch
from torch import Tensor, nn
from transformers import SegformerConfig
from transformers.models.segformer.modeling_segformer import SegformerDecodeHead

from kdcore.models.segformer_head import SegformerHead

WIDTHS = (8, 16, 20, 24)
DTYPES = [(torch.float64, 1e-13), (torch.float32, 3e-6)]


def published(dtype: torch.dtype, *, dropout: float = 0.0) -> SegformerDecodeHead:
    torch.manual_seed(0)
    config = SegformerConfig(
        hidden_sizes=list(WIDTHS), decoder_hidden_size=32, num_labels=5,
        classifier_dropout_prob=dropout,
    )  # fmt: skip
    head = SegformerDecodeHead(config).to(dtype)
    with torch.no_grad():
        for value in (*head.batch_norm.parameters(), head.batch_norm.running_mean):
            value.uniform_(-1, 1)
        head.batch_norm.running_var.uniform_(0.5, 2)
    return head


def maps(dtype: torch.dtype) -> list[Tensor]:
    torch.manual_seed(1)
    return [
        torch.randn(2, width, 24 // 2**stage, 16 // 2**stage, dtype=dtype, requires_grad=True)
        for stage, width in enumerate(WIDTHS)
    ]


def assert_near(one: Tensor, other: Tensor, tolerance: float) -> None:
    assert one.shape == other.shape
    assert (one - other).norm() <= tolerance * other.norm()


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
@pytest.mark.parametrize("training", [False, True])
def test_values_gradients_and_statistics(
    dtype: torch.dtype, tolerance: float, training: bool
) -> None:
    theirs = published(dtype).train(training)
    ours = SegformerHead(copy.deepcopy(theirs)).train(training)
    results = []
    for head in (ours, theirs):
        inputs = maps(dtype)
        logits = head(inputs)
        logits.square().mean().backward()
        results.append((logits, [each.grad for each in inputs]))
    assert_near(results[0][0], results[1][0], tolerance)
    for mine, other in zip(results[0][1], results[1][1], strict=True):
        assert_near(mine, other, tolerance)
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None
        if training and name.endswith("proj.bias"):
            # The batch's mean takes away what they add: their gradient is zero but for rounding.
            assert parameter.grad.abs().max() < tolerance
            continue
        assert_near(parameter.grad, expected[name].grad, tolerance)
    for name in ("running_mean", "running_var"):
        assert_near(getattr(ours.batch_norm, name), getattr(theirs.batch_norm, name), tolerance)
    assert ours.batch_norm.num_batches_tracked == int(training)


def test_state_dicts_are_interchangeable() -> None:
    theirs = published(torch.float32)
    state = theirs.state_dict()
    ours = SegformerHead(SegformerDecodeHead(theirs.config))
    assert list(ours.state_dict()) == list(state)
    ours.load_state_dict(state)
    assert_near(ours.eval()(maps(torch.float32)), theirs.eval()(maps(torch.float32)), 3e-6)


def test_dropout_is_in_training_alone() -> None:
    head = SegformerHead(published(torch.float32, dropout=0.5))
    seen: list[Tensor] = []
    head.classifier.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    nn.init.constant_(head.batch_norm.bias, 9.0)  # so that the activation alone makes no zeros
    head.train()(maps(torch.float32))
    head.eval()(maps(torch.float32))
    assert (seen[0] == 0).float().mean() == pytest.approx(0.5, abs=0.05)
    assert (seen[1] == 0).float().mean() < 0.05


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_folded(dtype: torch.dtype, tolerance: float) -> None:
    head = SegformerHead(published(dtype)).eval()
    folded = head.folded()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert_near(folded(maps(dtype)), head(maps(dtype)), tolerance)


def test_statistics_of_a_batch_are_not_folded() -> None:
    with pytest.raises(AssertionError):
        SegformerHead(published(torch.float32)).train().folded()
