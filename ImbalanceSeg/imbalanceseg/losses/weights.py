"""Maps of a label that losses need: weights of voxels, distances, heat maps.

Every function takes one case as a numpy array and knows nothing of torch, so that a data loader can
call it before a batch exists.
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
    spacing = _spacing(spacing_mm, 3)
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


def local_imbalance(label: np.ndarray, side: int = 7) -> np.ndarray:
    """Share of foreground in the neighbourhood of every voxel, mirrored at the border.

    Low values on the foreground mark what a network loses: few foreground voxels among many of
    background. Source: Zheng et al., MICCAI 2021.

    Args:
        label: ``[Z, Y, X]``, foreground greater than 0; 255 is unlabelled and counts as background.
        side: of the neighbourhood, odd.

    Returns:
        float32 ``[Z, Y, X]`` in [0, 1].
    """
    foreground = _foreground(label).astype(np.float32)
    return np.clip(ndimage.uniform_filter(foreground, size=side, mode="mirror"), 0, 1)


def signed_distance(foreground: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """Distance to the surface, positive outside, at most 0 inside.

    Outside it is the distance to the nearest foreground voxel; inside that to the nearest
    background voxel less the smallest spacing, so that the outermost voxels of an isotropic object
    have 0. All 0 where there is no surface. Source: Kervadec et al., MIDL 2019.

    Args:
        foreground: bool, 1 to 3 axes.
        spacing_mm: voxel size along the array's axes.

    Returns:
        float32, the array's shape, in mm.
    """
    distance = distance_across(foreground, spacing_mm)
    if not distance.any():
        return distance
    return np.where(foreground, min(spacing_mm) - distance, distance).astype(np.float32)


def distance_across(foreground: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """Distance to the nearest voxel of the other side, positive everywhere.

    All 0 where there is no other side. Arguments and unit as for :func:`signed_distance`.
    """
    import edt

    spacing = _spacing(spacing_mm, foreground.ndim)
    # On whole numbers ~ would be no complement.
    foreground = np.asarray(foreground, dtype=bool)
    if not foreground.any() or foreground.all():
        return np.zeros(foreground.shape, np.float32)
    sides = (edt.edt(side, anisotropy=spacing) for side in (foreground, ~foreground))
    return np.add(*sides, dtype=np.float32)


def border_weight(
    instances: np.ndarray,
    spacing_mm: Sequence[float] | None = None,
    strength: float = 10.0,
    width: float = 5.0,
    background_only: bool = True,
    balance: bool = True,
) -> np.ndarray:
    """The U-Net's weight map: high in the narrow gaps between neighbouring instances.

    ``w = w_c + strength exp(-(d1 + d2)^2 / (2 width^2))`` with the distances to the nearest and the
    second nearest instance. Source: Ronneberger et al., MICCAI 2015, section 3.

    Args:
        instances: integer labels, 2 or 3 axes, 0 background, one number an instance; 255 is an
            instance like any other.
        spacing_mm: voxel size; distances are in pixels when None.
        strength: w0 of the paper.
        width: sigma of the paper, in the unit of the distances.
        background_only: no bonus inside instances.
        balance: ``w_c`` is the inverse frequency of foreground and background, 1 on average;
            otherwise 1.

    Returns:
        float32, the array's shape.
    """
    import edt

    spacing = _spacing(spacing_mm or (1.0,) * instances.ndim, instances.ndim)
    foreground = instances > 0
    weight = np.ones(instances.shape, np.float32)
    share = float(foreground.mean()) if instances.size else 0.0
    if balance and 0 < share < 1:
        weight = np.where(foreground, 0.5 / share, 0.5 / (1 - share)).astype(np.float32)
    numbers = np.unique(instances[foreground])
    if len(numbers) < 2:
        return weight
    # Only the two smallest distances are kept: all of them would be instances x voxels.
    nearest = np.full(instances.shape, np.inf, np.float32)
    second = nearest.copy()
    for number in numbers:
        distance = edt.edt(instances != number, anisotropy=spacing)
        second = np.minimum(second, np.maximum(nearest, distance))
        nearest = np.minimum(nearest, distance)
    bonus = strength * np.exp(-((nearest + second) ** 2) / (2 * width**2))
    if background_only:
        bonus[foreground] = 0
    return weight + bonus.astype(np.float32)


def center_heatmap(components: np.ndarray, sigma_voxels: float = 2.0) -> np.ndarray:
    """A Gaussian of height 1 on the centre of mass of every component; the largest where they meet.

    Args:
        components: integer labels, 0 background, one number a component.
        sigma_voxels: width.

    Returns:
        float32, the array's shape, in [0, 1].
    """
    heat = np.zeros(components.shape, np.float32)
    numbers = np.unique(components[components > 0])
    centers = ndimage.center_of_mass(components > 0, components, numbers) if len(numbers) else []
    reach = int(np.ceil(4 * sigma_voxels))
    for center in centers:
        low = [max(0, int(c) - reach) for c in center]
        box = tuple(slice(a, int(c) + reach + 2) for a, c in zip(low, center, strict=True))
        part = heat[box]
        axes = np.meshgrid(
            *(a + np.arange(n) - c for a, n, c in zip(low, part.shape, center, strict=True)),
            indexing="ij",
            sparse=True,
        )
        squared = sum(a.astype(np.float32) ** 2 for a in axes)
        np.maximum(part, np.exp(-squared / (2 * sigma_voxels**2)), out=part)
    return heat


def _spacing(spacing_mm: Sequence[float], axes: int) -> tuple[float, ...]:
    spacing = tuple(float(s) for s in spacing_mm)
    if len(spacing) != axes or not all(np.isfinite(s) and s > 0 for s in spacing):
        raise InputError(
            "spacing-invalid",
            f"The spacing {spacing} is not {axes} positive lengths in mm.",
            "Give the voxel size along each axis, in the order of the array.",
        )
    return spacing


def _foreground(label: np.ndarray) -> np.ndarray:
    if label.ndim != 3:
        raise InputError(
            "label-not-3d",
            f"A label array of shape {label.shape} is not [Z, Y, X].",
            "Give the label of one case, without batch or channel axes.",
        )
    return (label > 0) & (label != UNLABELLED)
