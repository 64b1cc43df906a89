"""Dice in which hard voxels weigh more, and the hardness itself.

Source: Wang et al., MICCAI 2019, arXiv 1906.03906.
"""

from __future__ import annotations

import torch
from torch import Tensor

from imbalanceseg.errors import InputError
from imbalanceseg.losses.voxels import labelled, labelled_voxels, pooled


def hardness_weighted_dice_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    emphasis: float = 0.6,
    smooth: float = 1e-5,
    detach: bool = True,
) -> Tensor:
    """``1 - (2 sum w p g + e) / (sum w (p + g) + e)`` with ``w = emphasis |p - g| + 1 - emphasis``.

    Sums run over the batch; with several channels the mean over all classes, background included.

    ``detach`` keeps the gradient from flowing through ``w``. The authors let it flow; then, beyond
    ``p = 1 / (2 emphasis)`` (0.83 by default) and while the overlap is poor, the gradient on
    foreground is positive: voxels that are surely right are pushed back.

    Args:
        logits: ``[B, C, ...]``.
        target: ``[B, 1, ...]``, classes; 255 where unlabelled.
        mask: ``[B, 1, ...]``, non-zero where labelled.
        emphasis: lambda of the paper, in [0, 1]; 0 gives soft Dice. Some code calls ``1 - lambda``
            lambda.
        smooth: ``e``.
        detach: treat the weights as constants.
    """
    if not 0 <= emphasis <= 1:
        raise InputError(
            "loss-constant",
            f"Hardness-weighted Dice cannot use an emphasis of {emphasis}.",
            "It lies between 0 and 1; 0 gives Dice.",
        )
    voxels = pooled(labelled_voxels(logits, target, mask))
    p, g = voxels.probability(), voxels.truth()
    weight = emphasis * (p - g).abs() + (1 - emphasis)
    if detach:
        weight = weight.detach()
    hit, total = (weight * p * g).sum(1), (weight * (p + g)).sum(1)
    return (1 - (2 * hit + smooth) / (total + smooth)).mean()


@torch.no_grad()
def voxel_hardness(logits: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """How wrong the network is at every voxel: 1 minus the probability of the true class.

    For one channel that is ``|p - g|``.

    Args:
        logits: ``[B, C, ...]``.
        target: ``[B, 1, ...]``, classes; 255 where unlabelled.
        mask: ``[B, 1, ...]``, non-zero where labelled.

    Returns:
        float32 ``[B, 1, ...]`` in [0, 1]; 0 where unlabelled.
    """
    inside = labelled(target, mask)
    known = torch.where(inside, target.long(), 0)
    wide = logits.float()
    if logits.shape[1] == 1:
        hardness = (torch.sigmoid(wide) - (known > 0).float()).abs()
    else:
        hardness = 1 - torch.softmax(wide, 1).gather(1, known)
    return torch.where(inside, hardness, 0.0)
