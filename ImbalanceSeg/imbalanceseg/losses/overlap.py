"""Losses of overlap: Dice, Jaccard, Tversky, and their sums with cross entropy.

The formulas are MONAI's. What is ours is that they see labelled voxels only: MONAI's losses have no
mask of voxels that works with every one of its classes and versions.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from imbalanceseg.errors import InputError
from imbalanceseg.losses.cross_entropy import surprise
from imbalanceseg.losses.voxels import LabelledVoxels, labelled_voxels, pooled

_SMALLEST_JACCARD = 1e-5


def dice_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    smooth: float = 1e-5,
    batch: bool = False,
) -> Tensor:
    """``1 - (2 sum pg + s) / (sum p + sum g + s)``, mean over foreground classes and samples.

    A sample without the class gives ``1 - s / (sum p + s)``, nearly 1 with hardly any gradient when
    ``smooth`` is small: with rare classes take ``batch``.

    Args:
        logits: ``[B, C, ...]``; one channel is foreground against background.
        target: ``[B, 1, ...]``, classes; 255 where unlabelled.
        mask: ``[B, 1, ...]``, non-zero where labelled.
        smooth: ``s``.
        batch: sums run over the whole batch instead of each sample.
    """
    from monai.losses.dice import DiceLoss

    loss = DiceLoss(smooth_nr=smooth, smooth_dr=smooth)
    return _overlap(loss, labelled_voxels(logits, target, mask), batch)


def dice_squared_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    smooth: float = 1e-5,
    batch: bool = False,
) -> Tensor:
    """:func:`dice_loss` with squares in the denominator (V-Net; Milletari et al., 3DV 2016)."""
    from monai.losses.dice import DiceLoss

    loss = DiceLoss(smooth_nr=smooth, smooth_dr=smooth, squared_pred=True)
    return _overlap(loss, labelled_voxels(logits, target, mask), batch)


def iou_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    smooth: float = 1e-5,
    batch: bool = False,
) -> Tensor:
    """``1 - (sum pg + s) / (sum p + sum g - sum pg + s)``; the rest as in :func:`dice_loss`."""
    from monai.losses.dice import DiceLoss

    # MONAI's Jaccard doubles numerator and denominator, so that its constant counts half.
    loss = DiceLoss(jaccard=True, smooth_nr=2 * smooth, smooth_dr=2 * smooth)
    return _overlap(loss, labelled_voxels(logits, target, mask), batch)


def tversky_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    miss_weight: float = 0.7,
    smooth: float = 1e-5,
    batch: bool = False,
) -> Tensor:
    """``1 - (TP + s) / (TP + a FN + (1 - a) FP + s)``; the rest as in :func:`dice_loss`.

    Source: Salehi et al., MLMI 2017.

    Args:
        logits: ``[B, C, ...]``.
        target: ``[B, 1, ...]``, classes; 255 where unlabelled.
        mask: ``[B, 1, ...]``, non-zero where labelled.
        miss_weight: ``a``, the weight of missed voxels, named in words because MONAI's ``alpha``
            is the other weight; 0.5 gives Dice.
        smooth: ``s``.
        batch: sums run over the whole batch instead of each sample.
    """
    from monai.losses.tversky import TverskyLoss

    if not 0 <= miss_weight <= 1:
        raise InputError(
            "loss-constant",
            f"Tversky loss cannot use a miss_weight of {miss_weight}.",
            "It lies between 0 and 1; 0.5 gives Dice.",
        )
    loss = TverskyLoss(alpha=1 - miss_weight, beta=miss_weight, smooth_nr=smooth, smooth_dr=smooth)
    return _overlap(loss, labelled_voxels(logits, target, mask), batch)


def dice_ce_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    dice_weight: float = 1.0,
    ce_weight: float = 1.0,
    smooth: float = 1e-5,
    batch: bool = False,
) -> Tensor:
    """Weighted sum of :func:`dice_loss` and cross entropy over all labelled voxels."""
    from monai.losses.dice import DiceLoss

    samples = labelled_voxels(logits, target, mask)
    overlap = _overlap(DiceLoss(smooth_nr=smooth, smooth_dr=smooth), samples, batch)
    everything = pooled(samples)
    entropy = surprise(everything).sum() / max(everything.count, 1)
    return dice_weight * overlap + ce_weight * entropy


def iou_bce_loss(
    logits: Tensor, target: Tensor, mask: Tensor | None = None, *, smooth: float = 1e-5
) -> Tensor:
    """Cross entropy minus the logarithm of the soft Jaccard index over the batch.

    The index is not let below 1e-5, where its logarithm would run away. Source: Iglovikov and
    Shvets, TernausNet, arXiv 1801.05746; the index of the whole batch instead of a mean over pixels
    is our reading.

    Args:
        logits: ``[B, C, ...]``; with several classes the logarithms are averaged.
        target: ``[B, 1, ...]``, classes; 255 where unlabelled.
        mask: ``[B, 1, ...]``, non-zero where labelled.
        smooth: added to intersection and union.
    """
    voxels = pooled(labelled_voxels(logits, target, mask))
    p, g = voxels.probability()[voxels.foreground()], voxels.truth()[voxels.foreground()]
    both = (p * g).sum(1)
    jaccard = (both + smooth) / (p.sum(1) + g.sum(1) - both + smooth)
    entropy = surprise(voxels).sum() / max(voxels.count, 1)
    return entropy - torch.log(jaccard.clamp_min(_SMALLEST_JACCARD)).mean()


def _overlap(
    loss: Callable[[Tensor, Tensor], Tensor], samples: list[LabelledVoxels], batch: bool
) -> Tensor:
    """Mean of a loss over samples; those without labelled voxels do not count."""
    seen = [s for s in samples if s.count]
    if not seen:
        return pooled(samples).nothing()
    rows = [pooled(seen)] if batch else seen
    terms = []
    for row in rows:
        classes = row.foreground()
        terms.append(loss(row.probability()[classes][None], row.truth()[classes][None]))
    return torch.stack(terms).mean()
