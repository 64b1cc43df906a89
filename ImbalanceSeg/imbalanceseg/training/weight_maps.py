"""The weight maps of the papers, computed once for every prepared case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from imbalanceseg.labels import BACKGROUND, UNLABELLED
from imbalanceseg.losses.weights import (
    border_weight,
    centerline_distance_weight,
    local_imbalance_weight,
)
from imbalanceseg.planning.imbalance import WeightName
from imbalanceseg.planning.prepare import PreparedCase
from imbalanceseg.progress import ProgressCallback, ProgressEvent, ignore_progress


def weigh_cases(
    cases: Sequence[PreparedCase],
    name: WeightName,
    spacing_mm: Sequence[float],
    progress: ProgressCallback = ignore_progress,
) -> None:
    """Compute the weight map of every case that has none yet, and keep it with the case.

    Args:
        cases: prepared.
        name: see :func:`case_weight`; nothing is done for ``"none"``.
        spacing_mm: along their axes.
        progress: receives an event a case.

    Raises:
        OutputError: a map cannot be kept.
    """
    if name == "none":
        return
    for done, case in enumerate(cases):
        progress(ProgressEvent("weights", done, len(cases), case.name))
        if not case.has_weight(name):
            weight = case_weight(name, case.label(), case.components(), spacing_mm)
            case.keep_weight(name, weight)
    progress(ProgressEvent("weights", len(cases), len(cases)))


def case_weight(
    name: WeightName,
    label: NDArray[Any],
    components: NDArray[Any],
    spacing_mm: Sequence[float],
) -> NDArray[np.float32]:
    """The ``weight`` of a loss for a whole case.

    Of the whole case, because what a map is relative to, as the widest place of a tree or the share
    of foreground, would be another in every patch.

    Args:
        name: ``"border"``: the U-Net's, on the background between ``components``, its width 5 of
            the smallest voxels, for a label parted by :func:`parted`. ``"centerline"`` and
            ``"local_imbalance"``: of the airway papers.
        label: integers ``[...]``, 2 or 3 axes; 255 unlabelled.
        components: integers ``[...]``, one number an instance, 0 on background.
        spacing_mm: along the axes.

    Returns:
        float32 ``[...]``, 0 where unlabelled.
    """
    if name == "border":
        weight = _border(parted(label, components), components, spacing_mm)
    else:
        flat = label.ndim == 2
        volume, spacing = (label[None], (1.0, *spacing_mm)) if flat else (label, spacing_mm)
        if name == "centerline":
            weight = centerline_distance_weight(volume, spacing)
        else:
            weight = local_imbalance_weight(volume)
        weight = weight.reshape(label.shape)
    return np.where(label == UNLABELLED, np.float32(0), weight)


def parted(label: NDArray[Any], components: NDArray[Any]) -> NDArray[Any]:
    """The label, background where instances abut: what the U-Net's border weight is made for.

    Args:
        label: integers ``[...]``, 2 or 3 axes; 255 unlabelled.
        components: integers, same shape, one number an instance, 0 on background.

    Returns:
        As ``label``; voxels that lie against another instance, diagonally too, are 0.

    Source: Ronneberger et al., MICCAI 2015, section 3.
    """
    apart = _abutting(components) & (label != UNLABELLED)
    return np.where(apart, label.dtype.type(BACKGROUND), label)


def _abutting(components: NDArray[Any]) -> NDArray[np.bool_]:
    highest = np.iinfo(components.dtype).max
    foreground = components > 0
    largest = ndimage.maximum_filter(components, size=3)
    smallest = ndimage.minimum_filter(np.where(foreground, components, highest), size=3)
    return foreground & (largest != smallest)


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
