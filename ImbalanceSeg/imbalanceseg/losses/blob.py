"""blob loss: every instance counts the same, however small it is.

Source: Kofler et al., IPMI 2023, arXiv 2205.08209. The loop over instances is replaced by one
scatter, which gives the same value in a time that does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from imbalanceseg.errors import InputError
from imbalanceseg.losses.components import label_components
from imbalanceseg.losses.voxels import LabelledVoxels, labelled_voxels, pooled, require_shapes


def blob_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    components: Tensor | None = None,
    *,
    base: str = "dice",
    global_weight: float = 2.0,
    blob_weight: float = 1.0,
    smooth: float = 1e-5,
    miss_weight: float = 0.7,
) -> Tensor:
    """``global_weight * L(whole sample) + blob_weight * mean over instances of L(instance)``.

    The term of an instance sees its voxels and the background, never another instance of its class:
    a missed small lesion costs as much as a missed large one, and a false positive is counted in
    every term. That last point makes tiny instances push against false positives rather than
    towards themselves, so keep ``global_weight`` at least as large as ``blob_weight``.

    The instance part is the mean over samples that have instances, 0 where none has.

    Args:
        logits: ``[B, C, ...]``; with several channels every foreground class is judged against all
            others.
        target: ``[B, 1, ...]``, classes; 255 where unlabelled.
        mask: ``[B, 1, ...]``, non-zero where labelled.
        components: ``[B, 1, ...]``, instance numbers from 1, each of one class; voxels with 0 are
            in no instance. From :func:`~imbalanceseg.losses.components.label_components` when None.
        base: ``"dice"``, ``"bce"`` (mean over the voxels that a term sees) or ``"tversky"``.
        global_weight: alpha of the paper.
        blob_weight: beta of the paper.
        smooth: of Dice and Tversky.
        miss_weight: weight of missed voxels in Tversky.
    """
    if base not in _BASES:
        raise InputError(
            "loss-constant",
            f"blob loss has no base loss {base!r}.",
            f"Base losses: {', '.join(_BASES)}.",
        )
    require_shapes(logits, target, mask)
    if components is None:
        components = label_components(target, mask, binary=logits.shape[1] == 1)
    samples = labelled_voxels(logits, target, mask, {"components": components})
    formula = _Formula(_BASES[base], smooth, miss_weight)
    whole, instances = [], []
    for sample in samples:
        if not sample.count:
            continue
        terms = [_class_terms(sample, channel, formula) for channel in _channels(sample)]
        whole.append(torch.stack([t for t, _ in terms]).mean())
        found = torch.cat([t for _, t in terms])
        if len(found):
            instances.append(found.mean())
    if not whole:
        return pooled(samples).nothing()
    total = global_weight * torch.stack(whole).mean()
    return total + blob_weight * torch.stack(instances).mean() if instances else total


@dataclass(frozen=True)
class _Sums:
    """What a base loss needs to know of the voxels that it sees; scalars or ``[instances]``."""

    hit: Tensor
    predicted: Tensor
    true: Tensor
    entropy: Tensor
    voxels: Tensor


@dataclass(frozen=True)
class _Formula:
    of: Callable[[_Sums, float, float], Tensor]
    smooth: float
    miss_weight: float

    def __call__(self, sums: _Sums) -> Tensor:
        return self.of(sums, self.smooth, self.miss_weight)


def _dice(s: _Sums, smooth: float, _: float) -> Tensor:
    return 1 - (2 * s.hit + smooth) / (s.predicted + s.true + smooth)


def _tversky(s: _Sums, smooth: float, miss_weight: float) -> Tensor:
    wrong = miss_weight * (s.true - s.hit) + (1 - miss_weight) * (s.predicted - s.hit)
    return 1 - (s.hit + smooth) / (s.hit + wrong + smooth)


def _bce(s: _Sums, _smooth: float, _miss_weight: float) -> Tensor:
    return s.entropy / s.voxels


_BASES = {"dice": _dice, "bce": _bce, "tversky": _tversky}


def _channels(sample: LabelledVoxels) -> list[int]:
    return [0] if sample.binary else list(range(1, sample.logits.shape[0]))


def _class_terms(sample: LabelledVoxels, channel: int, formula: _Formula) -> tuple[Tensor, Tensor]:
    """The base loss of one class on the whole sample, and on each of its instances ``[N]``."""
    own = sample.target == (1 if sample.binary else channel)
    p = sample.probability()[channel]
    z = _one_against_rest(sample, channel)
    g = own.to(p)
    rows = torch.stack([p * g, p, g, F.softplus(torch.where(own, -z, z)), torch.ones_like(p)])
    whole = formula(_Sums(*rows.sum(1)))
    # Bin 0 is background, bin 1 foreground that belongs to no instance, the rest are instances.
    number = sample.maps["components"][0].long()
    bin_ = torch.where(own, number + 1, 0)
    sums = rows.new_zeros(len(rows), int(bin_.max()) + 1).index_add(1, bin_, rows)
    instances = sums[:, 2:]
    instances = instances[:, instances[2] > 0]
    return whole, formula(_Sums(*(sums[:, :1] + instances)))


def _one_against_rest(sample: LabelledVoxels, channel: int) -> Tensor:
    """Logit of the channel's probability."""
    if sample.binary:
        return sample.logits[0]
    others = [c for c in range(sample.logits.shape[0]) if c != channel]
    return sample.logits[channel] - torch.logsumexp(sample.logits[others], 0)
