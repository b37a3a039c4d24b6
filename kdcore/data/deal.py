"""What is drawn from the names: splits for data that comes without, and masks to withhold."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from kdcore.data.listing import Pair
from kdcore.spec.dataset import Deal


def deal(pairs: Sequence[Pair], spec: Deal) -> dict[str, list[Pair]]:
    """``pairs`` as train, val and (where it has a share) test; groups stay together."""
    groups: dict[str, list[Pair]] = {}
    for pair in sorted(pairs, key=lambda pair: pair.id):
        groups.setdefault(_group(pair, spec), []).append(pair)
    dealt: dict[str, list[Pair]] = {"train": [], "val": [], **({"test": []} if spec.test else {})}
    if spec.blocks:
        for members in groups.values():
            _cut(members, dealt, spec)
        return dealt
    wanted = {"val": spec.val * len(pairs), "test": spec.test * len(pairs)}
    for name in sorted(groups, key=_draw):
        # The first groups in the order of their digests fill val, then test; the rest is train.
        split = next((s for s in dealt if s != "train" and len(dealt[s]) < wanted[s]), "train")
        dealt[split].extend(groups[name])
    return {name: sorted(members, key=lambda pair: pair.id) for name, members in dealt.items()}


def withhold(pairs: Sequence[Pair], share: float) -> tuple[list[Pair], dict[str, Path]]:
    """``share`` of ``pairs`` (one at least), and the images of the others by ``train/`` and id."""
    drawn = sorted(pairs, key=lambda pair: _draw(pair.id))
    kept = {pair.id for pair in drawn[: max(1, round(share * len(pairs)))]}
    others = {f"train/{pair.id}": pair.image for pair in pairs if pair.id not in kept}
    return [pair for pair in pairs if pair.id in kept], others


def _group(pair: Pair, spec: Deal) -> str:
    name = pair.group or pair.id
    return name.split(spec.group_before)[0] if spec.group_before else name


def _draw(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def _cut(members: list[Pair], dealt: dict[str, list[Pair]], spec: Deal) -> None:
    first = round(len(members) * (1 - spec.val - spec.test))
    second = round(len(members) * (1 - spec.test))
    dealt["train"] += members[:first]
    dealt["val"] += members[first:second]
    if spec.test:
        dealt["test"] += members[second:]
