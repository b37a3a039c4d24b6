"""What single levers of speed bring: `python -m benchmarks.levers [NAME ...]`, on all cores of a CPU.

Each lever is a few ways to do the same work. They take turns (ABBA); nothing else should run on the
machine. Freed memory is kept, as in a training, but where that is the lever. Weights are random.
"""

import ctypes
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from transformers.models.segformer.modeling_segformer import SegformerDecodeHead, SegformerModel

from kdcore.models.frozen import freeze
from kdcore.models.network import SegmentationModel, build_model
from kdcore.models.segformer_head import SegformerHead
from kdcore.run.memory import keep_freed_memory
from kdcore.spec.model import ModelSpec

CLASSES, SIDE, BATCH, ROUNDS = 19, 512, 2, 5
Ways = Mapping[str, Callable[[], None]]


def main(names: list[str]) -> None:
    keep_freed_memory()
    torch.set_num_threads(os.cpu_count() or 1)
    print(f"{torch.get_num_threads()} threads, ", end="")
    print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, ", end="")
    print(f"{BATCH} images of {SIDE}x{SIDE}, median (least) of {ROUNDS} in ms")
    for name in names or LEVERS:
        print(f"\n{name}")
        times = measured(LEVERS[name]())
        first = statistics.median(next(iter(times.values())))
        for way, values in times.items():
            middle = statistics.median(values)
            print(
                f"  {way:<44} {1e3 * middle:7.0f} ({1e3 * min(values):.0f})  {first / middle:.2f}x"
            )


def measured(ways: Ways) -> dict[str, list[float]]:
    """Seconds of each way; one call of each comes before."""
    for way in ways.values():
        way()
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(ROUNDS):
        for name in list(ways)[:: 1 if turn % 2 == 0 else -1]:
            begun = time.perf_counter()
            ways[name]()
            times[name].append(time.perf_counter() - begun)
    return times


def segformer_student() -> Ways:
    published, ours = _published(_network("segformer", "mit_b1")), _network("segformer", "mit_b1")
    return {
        "published head, fp32": partial(_trained, published),
        "split head, fp32": partial(_trained, ours),
        "published head, bf16": partial(_trained, published, half=True),
        "split head, bf16": partial(_trained, ours, half=True),
    }


def segformer_teacher() -> Ways:
    published = _published(_network("segformer", "mit_b3")).eval()
    split = _network("segformer", "mit_b3").eval()
    frozen = freeze(_network("segformer", "mit_b3"))
    return {
        "published head, fp32": partial(_asked, published),
        "split head, fp32": partial(_asked, split),
        "frozen, fp32": partial(_asked, frozen),
        "published head, bf16": partial(_asked, published, half=True),
        "frozen, bf16": partial(_asked, frozen, half=True),
    }


def cnn_teacher() -> Ways:
    return _frozen_ways("deeplabv3plus", "resnet50")


def depthwise_teacher() -> Ways:
    return _frozen_ways("unetplusplus", "efficientnet-b4")


def inference_mode() -> Ways:
    small, large = (freeze(_network("unet", f"tu-mobilenetv3_{name}")) for name in _MOBILENETS)
    return {
        f"{mode.__name__}, {name}": partial(_asked, net, mode=mode)
        for name, net in (("small", small), ("large", large))
        for mode in (torch.no_grad, torch.inference_mode)
    }


def channels_last() -> Ways:
    ways: dict[str, Callable[[], None]] = {}
    for arch, encoder in _CONVOLUTIONAL:
        for layout in (torch.contiguous_format, torch.channels_last):
            net = _network(arch, encoder)
            net.lay_out(layout)
            for half in (False, True):
                name = f"{arch} {encoder} {str(layout)[6:]} {'bf16' if half else 'fp32'}"
                ways[name] = partial(_trained, net, half=half)
    return ways


def freed_memory() -> Ways:
    ways: dict[str, Callable[[], None]] = {}
    for arch, encoder in (_CONVOLUTIONAL[0], ("segformer", "mit_b1")):
        for half in (False, True):
            net = _network(arch, encoder)
            if arch != "segformer":
                net.lay_out(torch.channels_last)
            for name, set_up in (("given back", _give_back), ("kept", keep_freed_memory)):
                way = f"{name}, {arch} {encoder} {'bf16' if half else 'fp32'}"
                ways[way] = partial(_after, set_up, partial(_trained, net, half=half))
    return ways


def _after(set_up: Callable[[], None], way: Callable[[], None]) -> None:
    set_up()
    way()


def _give_back() -> None:
    """What glibc does by itself."""
    libc = ctypes.CDLL(None)
    for option, default in ((-4, 65_536), (-3, 131_072), (-1, 131_072)):
        libc.mallopt(option, default)
    libc.malloc_trim(0)


def optimizer() -> Ways:
    ways: dict[str, Callable[[], None]] = {}
    for kind in (torch.optim.AdamW, torch.optim.SGD):
        for fused in (False, True):
            net = _network("segformer", "mit_b1")
            _trained(net, keep=True)
            made = kind(net.parameters(), lr=1e-6, fused=fused)
            ways[f"{kind.__name__} {'fused' if fused else 'default'}"] = made.step
    return ways


_MOBILENETS = ("small_100", "large_100")
_CONVOLUTIONAL = (
    ("unet", "tu-mobilenetv3_large_100"),
    ("fpn", "efficientnet-b0"),
    ("deeplabv3plus", "resnet50"),
)
LEVERS: dict[str, Callable[[], Ways]] = {
    each.__name__: each
    for each in (
        segformer_student,
        segformer_teacher,
        cnn_teacher,
        depthwise_teacher,
        inference_mode,
        channels_last,
        freed_memory,
        optimizer,
    )
}


def _frozen_ways(arch: str, encoder: str) -> Ways:
    plain = _network(arch, encoder).eval()
    frozen, turned = (freeze(_network(arch, encoder)) for _ in range(2))
    turned.lay_out(torch.channels_last)
    return {
        f"{name}, {'bf16' if half else 'fp32'}": partial(_asked, net, half=half)
        for half in (False, True)
        for name, net in (
            ("plain", plain),
            ("frozen", frozen),
            ("frozen, channels last", turned),
        )
    }


def _network(arch: str, encoder: str) -> SegmentationModel:
    torch.manual_seed(0)
    return build_model(ModelSpec.model_validate({"arch": arch, "encoder": encoder}), CLASSES)


def _published(model: SegmentationModel) -> SegmentationModel:
    """With transformers' own decode head."""
    net: nn.Module = model.net
    assert isinstance(net.decode_head, SegformerHead)
    config = cast(SegformerModel, model.encoder.segformer).config
    head = SegformerDecodeHead(config)  # type: ignore[no-untyped-call]
    head.load_state_dict(net.decode_head.state_dict())
    net.decode_head = head
    return model


def _trained(model: SegmentationModel, *, half: bool = False, keep: bool = False) -> None:
    """One pass forward and backward."""
    model.train()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        logits_NCHW: Tensor = model(_images())
    logits_NCHW.float().square().mean().backward()  # type: ignore[no-untyped-call]
    if not keep:
        model.zero_grad()


def _asked(
    model: SegmentationModel,
    *,
    half: bool = False,
    mode: Callable[[], torch.no_grad | torch.inference_mode] = torch.no_grad,
) -> None:
    with mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        model(_images())


def _images() -> Tensor:
    return torch.full((BATCH, 3, SIDE, SIDE), 128, dtype=torch.uint8)


if __name__ == "__main__":
    main(sys.argv[1:])
