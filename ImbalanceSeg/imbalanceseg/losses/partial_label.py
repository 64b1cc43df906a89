"""The loss of sparse annotation: a few slices, a few strokes, or only some of the classes.

Sources: Cicek et al., MICCAI 2016, arXiv 1606.06650 (a weight of 0 on unlabelled voxels); Shi et
al., Medical Image Analysis 70, 2021 (marginal loss for classes that nobody annotated).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from imbalanceseg.errors import InputError
from imbalanceseg.losses.cross_entropy import per_class, surprise, weighted_mean
from imbalanceseg.losses.voxels import LabelledVoxels, labelled_voxels, pooled


def partial_label_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    *,
    class_weight: Sequence[float] | None = None,
    annotated_classes: Sequence[int] | None = None,
    dice_weight: float = 1.0,
    smooth: float = 1e-5,
) -> Tensor:
    """Cross entropy plus Dice over the labelled voxels of the batch.

    Cross entropy is ``sum w (-log p) / sum w``, so that a patch with few labelled voxels keeps its
    scale. Dice is the mean over the foreground classes that occur among the labelled voxels: a
    class that is absent from the painted slices must not be pushed to zero in the whole volume.

    Args:
        logits: ``[B, C, ...]``.
        target: ``[B, 1, ...]``, classes; 255 where unlabelled.
        mask: ``[B, 1, ...]``, non-zero where labelled.
        weight: ``[B, 1, ...]``, how many voxels each one stands for, in both terms; None for 1.
        class_weight: weight of every class in cross entropy, background first; None for 1.
        annotated_classes: foreground classes that the annotator looked for. The probability of all
            others is added to background's, for there "background" may hide them. None for all.
        dice_weight: weight of Dice; cross entropy has 1.
        smooth: of Dice.

    Returns:
        Scalar; 0 with a zero gradient when nothing is labelled.
    """
    voxels = pooled(labelled_voxels(logits, target, mask, {"weight": weight}))
    if not voxels.count:
        return voxels.nothing()
    counted = voxels.logits.new_ones(voxels.count)
    if weight is not None:
        counted = voxels.maps["weight"][0].detach().to(counted)
    of_class = counted if class_weight is None else counted * per_class(class_weight, voxels)
    if annotated_classes is not None:
        voxels = merge_into_background(voxels, annotated_classes)
    entropy = weighted_mean(surprise(voxels), of_class)
    p, g = (x[voxels.foreground()] for x in (voxels.probability(), voxels.truth()))
    size = (counted * g).sum(1)
    dice = 1 - (2 * (counted * p * g).sum(1) + smooth) / ((counted * p).sum(1) + size + smooth)
    present = size > 0
    if not present.any():
        return entropy
    return entropy + dice_weight * dice[present].mean()


def merge_into_background(
    voxels: LabelledVoxels, annotated_classes: Sequence[int]
) -> LabelledVoxels:
    """The same voxels with the classes that were not annotated made part of the background.

    Raises:
        InputError: ``loss-constant`` when a class is not a foreground channel of the logits.
    """
    channels = voxels.logits.shape[0]
    if voxels.binary:
        allowed, wanted = {1}, [1]
    else:
        allowed, wanted = set(range(1, channels)), sorted(set(annotated_classes))
    if not set(annotated_classes) <= allowed or not annotated_classes:
        raise InputError(
            "loss-constant",
            f"The annotated classes {tuple(annotated_classes)} are not foreground classes of "
            f"logits with {channels} channels.",
            f"Name at least one of {', '.join(map(str, sorted(allowed)))}.",
        )
    if voxels.binary:
        return voxels
    others = [c for c in range(channels) if c not in wanted]
    merged = torch.logsumexp(voxels.logits[others], 0, keepdim=True)
    renumbered = voxels.target.new_zeros(channels)
    renumbered[wanted] = torch.arange(1, len(wanted) + 1, device=voxels.target.device)
    return LabelledVoxels(
        torch.cat([merged, voxels.logits[wanted]]), renumbered[voxels.target], voxels.maps
    )
