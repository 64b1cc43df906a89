"""Foreground weight maps of a label: which voxels of a tubular tree count, and how much.

Both functions take one case as a numpy array and know nothing of torch, so that a data loader can
call them before a batch exists. Background weighs 1 in both.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from imbalanceseg.errors import InputError
from imbalanceseg.labels import UNLABELLED


def centerline_distance_weight(
    label: np.ndarray, spacing_mm: Sequence[float], exponent: float = 0.5
) -> np.ndarray:
    """Weight that is 1 on the centre line and falls to 0 at the voxel farthest from it.

    ``1 - (D / D_max)^exponent`` with ``D`` the distance in mm to the nearest centre-line voxel and
    ``D_max`` one number for the whole case, so that every voxel of a thin branch weighs much.
    Source: Zheng et al., IEEE TMI 40(9), 2021; the exponent is our choice.

    Args:
        label: ``[Z, Y, X]``, foreground greater than 0; 255 is unlabelled and counts as background.
        spacing_mm: voxel size along Z, Y, X.
        exponent: below 1 the weight falls fastest near the centre line.

    Returns:
        float32 ``[Z, Y, X]`` in [0, 1]; 1 on background, and everywhere when the foreground is as
        thin as its centre line.

    Raises:
        InputError: ``label-not-3d`` or ``spacing-invalid``.
    """
    from skimage.morphology import skeletonize

    foreground = _foreground(label)
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    if spacing.shape != (3,) or not np.all(np.isfinite(spacing)) or np.any(spacing <= 0):
        raise InputError(
            "spacing-invalid",
            f"The spacing {tuple(spacing_mm)} is not three positive lengths in mm.",
            "Give the voxel size along Z, Y and X.",
        )
    weight = np.ones(foreground.shape, dtype=np.float32)
    box = ndimage.find_objects(foreground.astype(np.uint8))
    if not box:
        return weight
    part = foreground[box[0]]
    skeleton = skeletonize(part) > 0
    distance = ndimage.distance_transform_edt(~skeleton, sampling=spacing)[part]
    farthest = distance.max() if skeleton.any() else 0.0
    if farthest > 0:
        weight[box[0]][part] = 1.0 - (distance / farthest) ** exponent
    return weight


def local_imbalance_weight(label: np.ndarray, exponent: float = 2.5) -> np.ndarray:
    """Weight that grows where few foreground voxels sit among many background voxels.

    ``W = (-log10 f)^exponent`` on the foreground, ``f`` the share of foreground in the 7x7x7
    neighbourhood (mirrored at the border); foreground weighs ``0.95 W + 0.05``, background 1. ``W``
    exceeds 1 where less than a tenth of the neighbourhood is foreground.
    Source: Zheng et al., MICCAI 2021 (local-imbalance-based weight).

    Args:
        label: ``[Z, Y, X]``, foreground greater than 0; 255 is unlabelled and counts as background.
        exponent: the authors draw it from [2, 3] in training.

    Returns:
        float32 ``[Z, Y, X]``, not negative.

    Raises:
        InputError: ``label-not-3d``.
    """
    foreground = _foreground(label)
    share = ndimage.uniform_filter(foreground.astype(np.float64), size=7, mode="mirror")
    inside = np.clip(share[foreground], 1 / 7**3, 1.0)
    weight = np.ones(foreground.shape, dtype=np.float32)
    weight[foreground] = 0.95 * (-np.log10(inside)) ** exponent + 0.05
    return weight


def _foreground(label: np.ndarray) -> np.ndarray:
    if label.ndim != 3:
        raise InputError(
            "label-not-3d",
            f"A label array of shape {label.shape} is not [Z, Y, X].",
            "Give the label of one case, without batch or channel axes.",
        )
    return (label > 0) & (label != UNLABELLED)
