"""Each loss and its gradient against the formula written out pixel by pixel, on random inputs."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kdcore.losses import build
from kdcore.losses.generative import Generator

N, C, H, W = 2, 4, 5, 6
IGNORE = 255
Formula = Callable[[Tensor, Tensor, Tensor], Tensor]


def drawn(seed: int) -> Tensor:
    return torch.randn(N, C, H, W, generator=torch.Generator().manual_seed(seed)).double()


def labels() -> Tensor:
    made = torch.randint(0, C, (N, H, W), generator=torch.Generator().manual_seed(9))
    made[torch.rand(N, H, W, generator=torch.Generator().manual_seed(8)) < 0.3] = IGNORE
    return made


def kind(part: Any) -> str:
    return str(part["kind"]) if isinstance(part, dict) else ""


def places(y: Tensor) -> list[tuple[int, int, int]]:
    return [(n, i, j) for n, i, j in (y != IGNORE).nonzero().tolist()]


def mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean()


def kl(p: Tensor, q: Tensor) -> Tensor:
    return (p * (p / q).log()).sum()


def correlation(a: Tensor, b: Tensor) -> Tensor:
    return F.cosine_similarity(a - a.mean(), b - b.mean(), dim=0)


def kd(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    return 9 * mean([kl((t[n, :, i, j] / 3).softmax(0), (s[n, :, i, j] / 3).softmax(0))
                     for n, i, j in places(y)])  # fmt: skip


def cwd(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    return 9 * mean([kl((t[n, c][y[n] != IGNORE] / 3).softmax(0),
                        (s[n, c][y[n] != IGNORE] / 3).softmax(0))
                     for n in range(N) for c in range(C)])  # fmt: skip


def cgd(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """Groups of three of four channels: 0, 1, 2 and 3."""
    return mean([kl((t[n, c][:, y[n] != IGNORE].flatten() / 3).softmax(0),
                    (s[n, c][:, y[n] != IGNORE].flatten() / 3).softmax(0))
                 for n in range(N) for c in (slice(0, 3), slice(3, 4))])  # fmt: skip


def dist(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    p = torch.stack([(s[n, :, i, j] / 3).softmax(0) for n, i, j in places(y)])
    q = torch.stack([(t[n, :, i, j] / 3).softmax(0) for n, i, j in places(y)])
    of_pixels = mean([correlation(a, b) for a, b in zip(p, q, strict=True)])
    of_classes = mean([correlation(p[:, c], q[:, c]) for c in range(C)])
    return 9 * (2 * (1 - of_pixels) + 0.5 * (1 - of_classes))


def dkd(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    values = []
    for n, i, j in places(y):
        p, q = (t[n, :, i, j] / 3).softmax(0), (s[n, :, i, j] / 3).softmax(0)
        true, others = int(y[n, i, j]), [c for c in range(C) if c != int(y[n, i, j])]
        binary = kl(torch.stack([p[true], 1 - p[true]]), torch.stack([q[true], 1 - q[true]]))
        values.append(binary + 5 * kl(p[others] / p[others].sum(), q[others] / q[others].sum()))
    return 9 * mean(values)


def logit_std(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    def z(x: Tensor) -> Tensor:
        return (x - x.mean()) / (x.std() + 1e-7) / 3

    return 9 * mean([kl(z(t[n, :, i, j]).softmax(0), z(s[n, :, i, j]).softmax(0))
                     for n, i, j in places(y)])  # fmt: skip


def ofa(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    values = []
    for n, i, j in places(y):
        p, q, true = t[n, :, i, j].softmax(0), s[n, :, i, j].softmax(0), int(y[n, i, j])
        others = sum(p[c] ** 1.4 * q[c].log() for c in range(C) if c != true)
        values.append(-((p[true] + 1) ** 1.4 - 1) * q[true].log() - others)
    return mean(values)


def boundary(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    edge, body = torch.full_like(y, IGNORE), torch.full_like(y, IGNORE)
    for n, i, j in places(y):
        around = {int(y[n, a, b]) for m, a, b in places(y)
                  if m == n and abs(a - i) <= 1 and abs(b - j) <= 1}  # fmt: skip
        (edge if len(around) > 1 else body)[n, i, j] = y[n, i, j]
    used = [n for n in range(N) if (body[n] != IGNORE).any()]
    inside = cwd(s[used], t[used], body[used]) if len(used) == N else torch.zeros(())
    return 2 * kd(s, t, edge) + 0.5 * inside


def feature_l2(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    return mean([(s[n, c, i, j] - t[n, c, i, j]) ** 2 for n, i, j in places(y) for c in range(C)])


def cosine(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    return mean([1 - s[n, :, i, j] @ t[n, :, i, j] / s[n, :, i, j].norm() / t[n, :, i, j].norm()
                 for n, i, j in places(y)])  # fmt: skip


def pkd(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    rows = (torch.stack([x[n, :, i, j] for n, i, j in places(y)]) for x in (s, t))
    a, b = ([(row - row.mean()) / (row.std() + 1e-6) for row in x.T] for x in rows)
    return mean([(a[c] - b[c]).square().mean() / 2 for c in range(C)])


def at(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    differences = []
    for n in range(N):
        a, b = ((x[n] ** 2).mean(0)[y[n] != IGNORE] for x in (s, t))
        differences.append(a / a.norm() - b / b.norm())
    return torch.cat(differences).square().mean()


def skd(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    def cells(x: Tensor, n: int) -> list[Tensor]:
        found = []
        for i in range(0, H, 2):
            for j in range(0, W, 2):
                inside = y[n, i : i + 2, j : j + 2] != IGNORE
                if inside.any():
                    most = x[n, :, i : i + 2, j : j + 2][:, inside].amax(dim=1)
                    found.append(most / most.norm())
        return found

    values = []
    for n in range(N):
        a, b = cells(s, n), cells(t, n)
        values += [(a[k] @ a[m] - b[k] @ b[m]) ** 2 for k in range(len(a)) for m in range(len(a))]
    return mean(values)


def ifvd(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    values = []
    for n, i, j in places(y):
        same = y[n] == y[n, i, j]
        a, b = (F.cosine_similarity(x[n, :, i, j], x[n][:, same].mean(1), dim=0) for x in (s, t))
        values.append((a - b) ** 2)
    return torch.stack(values).sum() / (N * H * W)


def cirkd(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    s, t = F.normalize(s, dim=1), F.normalize(t, dim=1)
    values = []
    for first in range(N):
        for second in range(N):
            rows = []
            for n, i, j in places(y):
                if n == first:
                    p, q = ((x[n, :, i, j] @ x[second][:, y[second] != IGNORE] / 0.3).softmax(0)
                            for x in (t, s))  # fmt: skip
                    rows.append(kl(p, q))
            values.append(mean(rows))
    return mean(values)


TEACHER_TERMS: list[tuple[dict[str, Any], Formula]] = [
    ({"kind": "kd", "temperature": 3}, kd),
    ({"kind": "cwd", "temperature": 3}, cwd),
    ({"kind": "cgd", "temperature": 3, "group": 3}, cgd),
    ({"kind": "dist", "temperature": 3, "beta": 2, "gamma": 0.5}, dist),
    ({"kind": "dkd", "temperature": 3, "alpha": 1, "beta": 5}, dkd),
    ({"kind": "logit_std", "temperature": 3}, logit_std),
    ({"kind": "ofa", "eps": 1.4}, ofa),
    ({"kind": "boundary", "temperature": 3, "band": 1, "alpha": 2, "beta": 0.5}, boundary),
    ({"kind": "feature_l2"}, feature_l2),
    ({"kind": "cosine"}, cosine),
    ({"kind": "pkd"}, pkd),
    ({"kind": "at"}, at),
    ({"kind": "skd"}, skd),
    ({"kind": "ifvd"}, ifvd),
    ({"kind": "cirkd", "temperature": 0.3}, cirkd),
]


def labels_of(term: dict[str, Any]) -> Tensor:
    if term["kind"] != "boundary":
        return labels()
    halves = labels()
    halves[halves != IGNORE] = 0
    halves[:, :, W // 2 :][halves[:, :, W // 2 :] != IGNORE] = 1
    return halves


@pytest.mark.parametrize(("term", "formula"), TEACHER_TERMS, ids=kind)
@pytest.mark.parametrize("seed", [0, 10])
def test_teacher_terms(term: dict[str, Any], formula: Formula, seed: int) -> None:
    y = labels_of(term)
    student, teacher = drawn(seed).requires_grad_(), drawn(seed + 1)
    expected = formula(student, teacher, y)
    ours = build(term)(student, teacher, y)
    assert ours.item() == pytest.approx(expected.item(), abs=1e-9)
    (expected_grad,) = torch.autograd.grad(expected, student)
    (our_grad,) = torch.autograd.grad(ours, student)
    assert torch.allclose(our_grad, expected_grad, atol=1e-9)


def test_mgd_without_ignored_pixels_is_the_published_sum() -> None:
    torch.manual_seed(3)
    loss = build({"kind": "mgd", "ratio": 0}, channels=(C, C))
    assert isinstance(loss.generator, Generator)
    first, second = loss.generator.first.double(), loss.generator.second.double()
    student, teacher = drawn(0), drawn(1)
    plain = F.conv2d(
        F.conv2d(student, first.weight, first.bias, padding=1).relu(),
        second.weight,
        second.bias,
        padding=1,
    )
    expected = 2e-5 * (plain - teacher).square().sum() / N
    ours = loss(student, teacher, torch.zeros(N, H, W, dtype=torch.int64))
    assert ours.item() == pytest.approx(expected.item(), abs=1e-12)


def probabilities(s: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """(P, C) softmax and one-hot labels of the valid pixels."""
    p = torch.stack([s[n, :, i, j].softmax(0) for n, i, j in places(y)])
    return p, F.one_hot(y[y != IGNORE], C).double()


def ohem(s: Tensor, y: Tensor) -> Tensor:
    p, truth = probabilities(s, y)
    true = (p * truth).sum(1)
    return -true[true < 0.7].log().mean()


def ohem_at_least_half(s: Tensor, y: Tensor) -> Tensor:
    p, truth = probabilities(s, y)
    true = (p * truth).sum(1).sort().values
    return -true[: math.ceil(len(true) / 2)].log().mean()


def focal(s: Tensor, y: Tensor) -> Tensor:
    p, truth = probabilities(s, y)
    true = (p * truth).sum(1)
    return (-((1 - true) ** 1.5) * true.log()).mean()


def tversky(s: Tensor, y: Tensor) -> Tensor:
    p, truth = probabilities(s, y)
    index = [
        (hit + 1) / (hit + 0.2 * ((1 - truth[:, c]) * p[:, c]).sum()
                     + 0.9 * (truth[:, c] * (1 - p[:, c])).sum() + 1)
        for c in range(C)
        for hit in [(truth[:, c] * p[:, c]).sum()]
    ]  # fmt: skip
    return 1 - mean(index)


def lovasz(s: Tensor, y: Tensor) -> Tensor:
    """Σ over the sorted errors m_i of m_i (Δ(first i mistaken) - Δ(first i - 1 mistaken))."""
    p, truth = probabilities(s, y)
    values = []
    for c in range(C):
        errors, positive = (truth[:, c] - p[:, c]).abs(), truth[:, c].bool()
        total, mistaken, before = torch.zeros(()).double(), torch.zeros(len(p)).bool(), 0.0
        for k in errors.argsort(descending=True).tolist():
            mistaken[k] = True
            guessed = positive ^ mistaken
            after = 1 - (guessed & positive).sum().item() / (guessed | positive).sum().item()
            total, before = total + errors[k] * (after - before), after
        values.append(total)
    return mean(values)


def boundary_label(s: Tensor, y: Tensor) -> Tensor:
    known = {(n, i, j) for n, i, j in places(y)}

    def around(n: int, i: int, j: int, reach: int) -> list[tuple[int, int]]:
        return [(a, b) for a in range(i - reach, i + reach + 1)
                for b in range(j - reach, j + reach + 1) if (n, a, b) in known]  # fmt: skip

    def border(m: dict[tuple[int, int, int], Tensor]) -> dict[tuple[int, int, int], Tensor]:
        return {(n, i, j): m[n, i, j] - torch.stack([m[n, a, b] for a, b in around(n, i, j, 1)]).min()
                for n, i, j in known}  # fmt: skip

    values = []
    for c in range(C):
        truth = border({(n, i, j): (y[n, i, j] == c).double() for n, i, j in known})
        guess = border({(n, i, j): s[n, :, i, j].softmax(0)[c] for n, i, j in known})
        for n in range(N):
            own = [(i, j) for m, i, j in known if m == n]

            def share(
                one: dict[tuple[int, int, int], Tensor],
                other: dict[tuple[int, int, int], Tensor],
                n: int = n,
                own: list[tuple[int, int]] = own,
            ) -> Tensor:
                near = [one[n, i, j] * torch.stack([other[n, a, b] for a, b in around(n, i, j, 2)]).max()
                        for i, j in own]  # fmt: skip
                return torch.stack(near).sum() / torch.stack([one[n, i, j] for i, j in own]).sum()

            if sum(truth[n, i, j].item() for i, j in own) > 0:
                precision, recall = share(guess, truth), share(truth, guess)
                values.append(1 - 2 * precision * recall / (precision + recall))
    return mean(values)


LABEL_TERMS: list[tuple[dict[str, Any], Callable[[Tensor, Tensor], Tensor]]] = [
    ({"kind": "ohem"}, ohem),
    ({"kind": "ohem", "threshold": 0, "min_kept": 0.5}, ohem_at_least_half),
    ({"kind": "focal", "gamma": 1.5}, focal),
    ({"kind": "tversky", "alpha": 0.2, "beta": 0.9}, tversky),
    ({"kind": "lovasz"}, lovasz),
    ({"kind": "boundary_label"}, boundary_label),
]


@pytest.mark.parametrize(("term", "formula"), LABEL_TERMS, ids=kind)
def test_label_terms(term: dict[str, Any], formula: Callable[[Tensor, Tensor], Tensor]) -> None:
    student = (2 * drawn(0)).requires_grad_()
    expected = formula(student, labels())
    ours = build(term)(student, None, labels())
    assert ours.item() == pytest.approx(expected.item(), abs=1e-9)
    (expected_grad,) = torch.autograd.grad(expected, student)
    (our_grad,) = torch.autograd.grad(ours, student)
    assert torch.allclose(our_grad, expected_grad, atol=1e-9)


def test_tversky_of_halves_is_dice() -> None:
    halves = build({"kind": "tversky", "alpha": 0.5, "beta": 0.5, "eps": 0.5})
    assert halves(drawn(0), None, labels()).item() == pytest.approx(
        build({"kind": "dice"})(drawn(0), None, labels()).item(), abs=1e-12
    )


def test_focal_at_gamma_zero_is_cross_entropy() -> None:
    assert build({"kind": "focal", "gamma": 0})(drawn(0), None, labels()).item() == pytest.approx(
        build({"kind": "ce"})(drawn(0), None, labels()).item(), abs=1e-12
    )
