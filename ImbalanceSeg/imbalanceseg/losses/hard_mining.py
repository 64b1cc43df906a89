"""Online hard example mining: all positives, and the negatives that the network finds hardest."""

from __future__ import annotations

import torch
from torch import Tensor

from imbalanceseg.errors import InputError
from imbalanceseg.losses.cross_entropy import surprise
from imbalanceseg.losses.voxels import labelled_voxels, pooled


def ohem_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    negatives_per_positive: float = 3.0,
    least_share: float = 1e-3,
) -> Tensor:
    """Mean cross entropy over all foreground voxels and the worst background voxels of the batch.

    Chosen are ``negatives_per_positive`` times as many background voxels as there are foreground
    voxels, and never fewer than ``least_share`` of all labelled voxels, so that a batch without
    foreground still teaches. With more allowed than there are, this is cross entropy.

    Args:
        logits: ``[B, C, ...]``.
        target: ``[B, 1, ...]``, classes; 255 where unlabelled.
        mask: ``[B, 1, ...]``, non-zero where labelled.
        negatives_per_positive: at least 0.
        least_share: in [0, 1].
    """
    if not (negatives_per_positive >= 0 and 0 <= least_share <= 1):
        raise InputError(
            "loss-constant",
            f"Hard mining cannot use {negatives_per_positive} negatives per positive and a least "
            f"share of {least_share}.",
            "The first is not negative, the second lies between 0 and 1.",
        )
    voxels = pooled(labelled_voxels(logits, target, mask))
    losses = surprise(voxels)
    positive = voxels.target > 0
    positives = int(positive.sum())
    wanted = max(negatives_per_positive * positives, least_share * voxels.count, 1)
    kept = min(round(wanted), voxels.count - positives)
    with torch.no_grad():
        hardest = losses.masked_fill(positive, -torch.inf).topk(kept).indices
    return (losses[positive].sum() + losses[hardest].sum()) / max(positives + kept, 1)
