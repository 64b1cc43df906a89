"""Lovasz extension of the Jaccard index: a convex surrogate that is exact on binary predictions.

Source: Berman et al., CVPR 2018; written from the formula.
"""

from __future__ import annotations

import torch
from torch import Tensor

from imbalanceseg.losses.voxels import LabelledVoxels, labelled_voxels, pooled


def lovasz_loss(
    logits: Tensor, target: Tensor, mask: Tensor | None = None, *, batch: bool = False
) -> Tensor:
    """Lovasz hinge for one channel, Lovasz softmax over the classes present for several.

    Args:
        logits: ``[B, C, ...]``.
        target: ``[B, 1, ...]``, classes; 255 where unlabelled.
        mask: ``[B, 1, ...]``, non-zero where labelled.
        batch: one Jaccard index for the whole batch instead of the mean over samples.
    """
    samples = labelled_voxels(logits, target, mask)
    rows = [pooled(samples)] if batch else samples
    terms = [_of_row(row) for row in rows if row.count]
    return torch.stack(terms).mean() if terms else pooled(samples).nothing()


def lovasz_extension(errors: Tensor, truth: Tensor) -> Tensor:
    """The extension of the Jaccard loss at ``errors``.

    Args:
        errors: ``[N]``; for binary predictions 1 where wrong, 0 where right.
        truth: ``[N]`` of 0 and 1.

    Returns:
        Scalar; for errors of 0 and 1 exactly ``1 - IoU``.
    """
    ordered, order = errors.sort(descending=True)
    return (ordered * jaccard_slope(truth[order])).sum()


def jaccard_slope(truth: Tensor) -> Tensor:
    """Rise of the Jaccard loss as voxel after voxel, in this order, turns wrong; ``[N]``."""
    truth = truth.double()
    total = truth.sum()
    hit, extra = total - truth.cumsum(0), (1 - truth).cumsum(0)
    loss = 1 - hit / (total + extra)
    loss[1:] = loss.diff()
    return loss


def _of_row(row: LabelledVoxels) -> Tensor:
    if row.binary:
        truth = row.truth()[0]
        ordered, order = (1 - row.logits[0] * (2 * truth - 1)).sort(descending=True)
        slope = jaccard_slope(truth[order]).to(ordered)
        return (torch.relu(ordered) * slope).sum()
    p, g = row.probability(), row.truth()
    present = [c for c in range(len(p)) if bool(g[c].any())]
    return torch.stack([lovasz_extension((g[c] - p[c]).abs(), g[c]).to(p) for c in present]).mean()
