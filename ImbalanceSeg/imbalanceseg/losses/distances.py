"""Losses of distance: how far from the true surface the prediction lies."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from imbalanceseg.errors import InputError
from imbalanceseg.losses.voxels import labelled, labelled_voxels, pooled, require_shapes
from imbalanceseg.losses.weights import distance_across, signed_distance


def boundary_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    distance: Tensor | None = None,
    *,
    spacing_mm: Sequence[float] | None = None,
) -> Tensor:
    """Mean of ``p phi``: probability times the signed distance to the true surface.

    Negative for a good prediction; smallest for the true label among binary predictions. It pulls
    little at first: add it to an overlap loss with the weights of :func:`boundary_schedule`. A
    class that a sample does not hold has ``phi = 0``. Source: Kervadec et al., MIDL 2019.

    Args:
        logits: ``[B, C, ...]``.
        target: ``[B, 1, ...]``, classes; 255 where unlabelled.
        mask: ``[B, 1, ...]``, non-zero where labelled.
        distance: ``[B, F, ...]``, ``phi`` of the F foreground classes (one for one channel), from
            :func:`~imbalanceseg.losses.weights.signed_distance`; computed from ``target`` when
            None, which costs a distance transform a class and sample.
        spacing_mm: voxel size along the axes of space, for that computation; 1 when None.
    """
    require_shapes(logits, target, mask)
    if distance is None:
        distance = _per_class(signed_distance, logits, target, mask, spacing_mm)
    voxels = pooled(labelled_voxels(logits, target, mask, class_maps={"distance": distance}))
    p = voxels.probability()[voxels.foreground()]
    phi = voxels.maps["distance"].to(p)
    return (p * phi).sum() / max(p.numel(), 1)


def boundary_schedule(epoch: int, step: float = 0.01, floor: float = 0.1) -> tuple[float, float]:
    """Weights of the overlap loss and of the boundary loss, moved from one to the other.

    Begins with (1, ``step``) and moves ``step`` an epoch; the overlap loss keeps ``floor``.
    Source: the authors' code (Kervadec et al., MIDL 2019).
    """
    moved = step * epoch
    return max(1.0 - moved, floor), min(step + moved, 1.0)


def hausdorff_dt_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    distance: Tensor | None = None,
    *,
    exponent: float = 2.0,
    spacing_mm: Sequence[float] | None = None,
) -> Tensor:
    """Mean of ``(p - g)^2 (d_P^a + d_G^a)``: errors weigh by their distance from both surfaces.

    ``d_P`` belongs to the prediction at probability 0.5 and costs a distance transform a step and
    class; no gradient flows through it. Where prediction and label are both empty or both full
    there is no surface, and the loss is 0. Source: Karimi and Salcudean, IEEE TMI 39(2), 2020.

    Args:
        logits: ``[B, C, ...]``.
        target: ``[B, 1, ...]``, classes; 255 where unlabelled.
        mask: ``[B, 1, ...]``, non-zero where labelled.
        distance: ``[B, F, ...]``, from
            :func:`~imbalanceseg.losses.weights.distance_across`; computed when None.
        exponent: ``a``.
        spacing_mm: voxel size along the axes of space; 1 when None.
    """
    require_shapes(logits, target, mask)
    if distance is None:
        distance = _per_class(distance_across, logits, target, mask, spacing_mm)
    with torch.no_grad():
        found = logits > 0 if logits.shape[1] == 1 else logits.argmax(1, keepdim=True)
        predicted = _per_class(distance_across, logits, found, labelled(target, mask), spacing_mm)
    maps: dict[str, Tensor | None] = {"distance": distance, "predicted": predicted}
    voxels = pooled(labelled_voxels(logits, target, mask, class_maps=maps))
    p, g = (x[voxels.foreground()] for x in (voxels.probability(), voxels.truth()))
    field = sum(voxels.maps[name].to(p) ** exponent for name in maps)
    return ((p - g) ** 2 * field).sum() / max(p.numel(), 1)


def _per_class(
    distance: Callable[[np.ndarray, Sequence[float]], np.ndarray],
    logits: Tensor,
    label: Tensor,
    mask: Tensor | None,
    spacing_mm: Sequence[float] | None,
) -> Tensor:
    """``distance`` of every foreground class, ``[B, F, ...]`` on the logits' device."""
    spacing = tuple(spacing_mm or (1.0,) * (logits.ndim - 2))
    if len(spacing) != logits.ndim - 2:
        raise InputError(
            "spacing-invalid",
            f"The spacing {spacing} does not fit {logits.ndim - 2} axes of space.",
            "Give one length in mm an axis.",
        )
    classes = torch.where(labelled(label, mask), label.long(), 0).cpu().numpy()[:, 0]
    channels = logits.shape[1]
    masks = [classes > 0] if channels == 1 else [classes == c for c in range(1, channels)]
    maps = np.stack([[distance(m, spacing) for m in per_class] for per_class in masks], 1)
    return torch.from_numpy(maps).to(logits.device)
