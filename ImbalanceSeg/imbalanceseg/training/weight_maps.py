"""The weight maps of the papers for a batch of patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from imbalanceseg.labels import BACKGROUND, UNLABELLED
from imbalanceseg.losses.weights import (
    border_weight,
    centerline_distance_weight,
    local_imbalance_weight,
)
from imbalanceseg.training.patches import PatchBatch

WeightName = Literal["border", "centerline", "local_imbalance"]


def weight_map(
    name: WeightName, label: Tensor, components: Tensor, spacing_mm: Sequence[float]
) -> Tensor:
    """The ``weight`` of a loss for every patch of a batch, each for itself.

    Args:
        name: ``"border"``: the U-Net's, on the background between ``components``, its width 5 of
            the smallest voxels; there is none where they abut, so train on :func:`parted_label`.
            ``"centerline"`` and ``"local_imbalance"``: of the airway papers.
        label: integers ``[B, 1, ...]``, 2 or 3 axes; 255 unlabelled.
        components: integers ``[B, 1, ...]``, one number an instance, 0 on background.
        spacing_mm: along the patches' axes.

    Returns:
        float32 ``[B, 1, ...]`` on the label's device, 0 where unlabelled.
    """
    labels, numbers = label.cpu().numpy()[:, 0], components.cpu().numpy()[:, 0]
    maps = [_one(name, *case, spacing_mm) for case in zip(labels, numbers, strict=True)]
    return torch.from_numpy(np.stack(maps))[:, None].to(label.device)


def weighted(batch: PatchBatch, name: WeightName, spacing_mm: Sequence[float]) -> PatchBatch:
    """The batch with a weight; with ``"border"``, its label is parted."""
    label = parted_label(batch.label, batch.components) if name == "border" else batch.label
    weight = weight_map(name, label, batch.components, spacing_mm)
    return replace(batch, label=label, weight=weight)


def parted_label(label: Tensor, components: Tensor) -> Tensor:
    """The label, background where instances abut: what the U-Net's border weight is made for.

    Args:
        label: integers ``[B, 1, ...]``, 2 or 3 axes; 255 unlabelled.
        components: integers, same shape, one number an instance, 0 on background.

    Returns:
        As ``label``; voxels that lie against another instance, diagonally too, are 0.

    Source: Ronneberger et al., MICCAI 2015, section 3.
    """
    numbers = components.cpu().numpy()[:, 0]
    apart = torch.from_numpy(np.stack([_abutting(case) for case in numbers]))[:, None]
    known = label != UNLABELLED
    return label.masked_fill(apart.to(label.device) & known, BACKGROUND)


def _abutting(components: NDArray[Any]) -> NDArray[np.bool_]:
    highest = np.iinfo(components.dtype).max
    foreground = components > 0
    largest = ndimage.maximum_filter(components, size=3)
    smallest = ndimage.minimum_filter(np.where(foreground, components, highest), size=3)
    return foreground & (largest != smallest)


def _one(
    name: WeightName,
    label: NDArray[Any],
    components: NDArray[Any],
    spacing_mm: Sequence[float],
) -> NDArray[np.float32]:
    if name == "border":
        weight = _border(label, components, spacing_mm)
    else:
        flat = label.ndim == 2
        volume, spacing = (label[None], (1.0, *spacing_mm)) if flat else (label, spacing_mm)
        if name == "centerline":
            weight = centerline_distance_weight(volume, spacing)
        else:
            weight = local_imbalance_weight(volume)
        weight = weight.reshape(label.shape)
    return np.where(label == UNLABELLED, np.float32(0), weight)


def _border(
    label: NDArray[Any], components: NDArray[Any], spacing_mm: Sequence[float]
) -> NDArray[np.float32]:
    known = label != UNLABELLED
    foreground = known & (label != BACKGROUND)
    ratios = [step / min(spacing_mm) for step in spacing_mm]
    weight = border_weight(np.where(foreground, components, 0), ratios, balance=False)
    # Balanced by what is labelled.
    share = float(foreground.sum()) / max(int(known.sum()), 1)
    if 0 < share < 1:
        weight += np.where(foreground, 0.5 / share, 0.5 / (1 - share)).astype(np.float32) - 1
    return weight
