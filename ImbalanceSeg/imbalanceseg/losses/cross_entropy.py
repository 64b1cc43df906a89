"""Cross entropy and what imbalance made of it: weights of classes and voxels, and focal loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from imbalanceseg.errors import InputError
from imbalanceseg.losses.voxels import LabelledVoxels, labelled_voxels, pooled


def cross_entropy_loss(logits: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean of ``-log p`` of the true class over all labelled voxels of the batch.

    Args:
        logits: ``[B, C, ...]``; one channel is foreground against background.
        target: ``[B, 1, ...]``, classes; 255 where unlabelled.
        mask: ``[B, 1, ...]``, non-zero where labelled.
    """
    voxels = pooled(labelled_voxels(logits, target, mask))
    return surprise(voxels).sum() / max(voxels.count, 1)


def binary_cross_entropy_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    positive_weight: float = 1.0,
) -> Tensor:
    """Mean of ``softplus(z) - z g`` over labelled voxels and channels.

    With several channels every class is judged by itself against all others, channel 0 being the
    background.

    Args:
        logits: ``[B, C, ...]``.
        target: ``[B, 1, ...]``, classes; 255 where unlabelled.
        mask: ``[B, 1, ...]``, non-zero where labelled.
        positive_weight: factor on the term of the voxels that belong to the channel's class.
    """
    voxels = pooled(labelled_voxels(logits, target, mask))
    per_voxel = F.binary_cross_entropy_with_logits(
        voxels.logits,
        voxels.truth(),
        pos_weight=voxels.logits.new_tensor(positive_weight),
        reduction="sum",
    )
    return per_voxel / max(voxels.logits.numel(), 1)


def weighted_cross_entropy_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    *,
    class_weight: Sequence[float] | None = None,
) -> Tensor:
    """Cross entropy with a weight a voxel: ``sum w (-log p) / sum w``.

    Constant weights give plain cross entropy. The U-Net's border map
    (:func:`~imbalanceseg.losses.weights.border_weight`) is one such ``weight`` (Ronneberger et al.,
    MICCAI 2015); there the sum is not divided by the weights.

    Args:
        logits: ``[B, C, ...]``.
        target: ``[B, 1, ...]``, classes; 255 where unlabelled.
        mask: ``[B, 1, ...]``, non-zero where labelled.
        weight: ``[B, 1, ...]``, not negative; None for 1. No gradient flows through it.
        class_weight: weight of every class, background first (two numbers for one channel);
            multiplies ``weight``.
    """
    voxels = pooled(labelled_voxels(logits, target, mask, {"weight": weight}))
    factor = voxels.logits.new_ones(voxels.count)
    if weight is not None:
        factor = voxels.maps["weight"][0].detach().to(factor)
    if class_weight is not None:
        factor = factor * per_class(class_weight, voxels)
    return weighted_mean(surprise(voxels), factor)


def focal_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    gamma: float = 2.0,
    foreground_weight: float | None = None,
) -> Tensor:
    """Cross entropy that fades where the network is right: mean of ``-a (1 - p)^gamma log p``.

    ``p`` is the probability of the true class. MONAI's form is not used: with several classes it
    also averages over the zeros of the other channels. Source: Lin et al., ICCV 2017.

    Args:
        logits: ``[B, C, ...]``.
        target: ``[B, 1, ...]``, classes; 255 where unlabelled.
        mask: ``[B, 1, ...]``, non-zero where labelled.
        gamma: at least 0; 0 gives cross entropy.
        foreground_weight: ``a`` on foreground, ``1 - a`` on background; None weighs both 1. The
            0.25 of the detection paper lowers the weight of foreground: for rare lesions use 0.5 to
            0.75.
    """
    if not gamma >= 0:
        raise InputError("loss-constant", f"Focal loss cannot use gamma {gamma}.", "Use 0 or more.")
    voxels = pooled(labelled_voxels(logits, target, mask))
    log_p = -surprise(voxels)
    # (1 - p)^gamma through its logarithm: near p = 1 the difference 1 - p has lost its digits, and
    # the power has no finite slope for gamma below 1.
    fading = torch.exp(gamma * log_of_rest(log_p)) if gamma else torch.ones_like(log_p)
    loss = -fading * log_p
    if foreground_weight is not None:
        a = foreground_weight
        loss = loss * torch.where(voxels.target > 0, a, 1.0 - a)
    return loss.sum() / max(voxels.count, 1)


def surprise(voxels: LabelledVoxels) -> Tensor:
    """``-log p`` of the true class, ``[N]``."""
    if voxels.binary:
        z, g = voxels.logits[0], voxels.target
        return F.softplus(torch.where(g > 0, -z, z))
    return F.cross_entropy(voxels.logits[None], voxels.target[None], reduction="none")[0]


def log_of_rest(log_p: Tensor) -> Tensor:
    """``log(1 - p)`` from ``log p``, finite and with a finite slope also at ``p = 1``."""
    tiny = torch.finfo(log_p.dtype).eps
    return torch.log(-torch.expm1(log_p.clamp(max=-tiny)))


def per_class(class_weight: Sequence[float], voxels: LabelledVoxels) -> Tensor:
    """The weight of every voxel's class, ``[N]``.

    Raises:
        InputError: ``loss-constant`` when there are not as many weights as classes.
    """
    classes = 2 if voxels.binary else voxels.logits.shape[0]
    if len(class_weight) != classes or min(class_weight) < 0:
        raise InputError(
            "loss-constant",
            f"The class weights {tuple(class_weight)} are not one for each of {classes} classes.",
            "Give the background's weight first; none is negative.",
        )
    return voxels.logits.new_tensor(class_weight)[voxels.target]


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """``sum w x / sum w``; 0 with a graph when all weights are 0."""
    total = weight.sum()
    return (values * weight).sum() / total.clamp_min(torch.finfo(total.dtype).tiny)
