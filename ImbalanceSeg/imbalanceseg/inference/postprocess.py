"""From the probability of a scan to its labelmap, and what of it is kept, as a card says."""

from __future__ import annotations

import math
from collections.abc import Collection

import cc3d
import fill_voids
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from imbalanceseg.errors import InputError
from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.inference.leaks import leaks
from imbalanceseg.labels import BACKGROUND, UNLABELLED
from imbalanceseg.models.card import ModelCard
from imbalanceseg.preprocessing.trachea import tracheal_column

STEPS = ("fill_holes", "cut_leaks", "largest", "small")
"""Names of the steps, in the order in which they are taken where the card asks for them.

``fill_holes`` gives enclosed background to the label around it, ``cut_leaks`` removes leaks of an
airway, ``largest`` keeps the largest component of a label or what hangs on the root, and ``small``
removes small components.
"""

_Labels = NDArray[np.uint8]
_Mask = NDArray[np.bool_]


def labelmap_from_probability(
    probability: sitk.Image,
    scan: sitk.Image,
    card: ModelCard,
    threshold: float | None = None,
    without: Collection[str] = (),
) -> sitk.Image:
    """Threshold, then take the steps that the card asks for.

    Args:
        probability: float32 foreground probability on the grid of ``scan``.
        scan: the image it was computed from, in which a root such as the trachea is looked for.
        card: says ``threshold`` and ``root``, and what :func:`cleaned_labels` needs.
        threshold: instead of the card's.
        without: which of :data:`STEPS` to leave out; the root is added by ``"largest"``.

    Returns:
        uint8 labelmap on the same grid, 0 and 1.

    Raises:
        InputError: ``step-unknown``, a name in ``without`` is none of :data:`STEPS`.
    """
    threshold = card.threshold if threshold is None else threshold
    found = (sitk.GetArrayViewFromImage(probability) > threshold).view(np.uint8)
    labels = image_from_array(found, Grid.of(probability))
    return cleaned_labels(labels, card, without, scan)


def cleaned_labels(
    labels: sitk.Image,
    card: ModelCard,
    without: Collection[str] = (),
    scan: sitk.Image | None = None,
) -> sitk.Image:
    """Take the steps that the card asks for.

    Args:
        labels: uint8 labelmap; voxels of 255 stay as they are.
        card: says ``root``, ``cut_leaks``, ``fill_holes``, ``largest_component_of``,
            ``smallest_mm3`` and ``connectivity``.
        without: which of :data:`STEPS` to leave out.
        scan: on the same grid; without it no root is looked for.

    Raises:
        InputError: ``step-unknown``, a name in ``without`` is none of :data:`STEPS`.
    """
    steps = _steps_taken(card, without)
    if not steps:
        return labels
    root = None
    if scan is not None and card.root == "trachea" and steps & {"cut_leaks", "largest"}:
        root = tracheal_column(scan)
    array, grid = sitk.GetArrayFromImage(labels), Grid.of(labels)
    _clean(array, grid, card, steps, root)
    # A mask of the whole scan, no longer needed while the result is copied.
    root = None
    return image_from_array(array, grid)


def require_steps(names: Collection[str]) -> None:
    """Refuse names that are none of :data:`STEPS`.

    Raises:
        InputError: ``step-unknown``.
    """
    unknown = sorted(set(names) - set(STEPS))
    if unknown:
        raise InputError(
            "step-unknown",
            f"There is no post-processing step named {unknown[0]!r}.",
            f"Steps are {', '.join(STEPS)}.",
        )


def _steps_taken(card: ModelCard, without: Collection[str]) -> set[str]:
    require_steps(without)
    asked = {
        "fill_holes": bool(card.fill_holes),
        "cut_leaks": card.cut_leaks,
        "largest": card.root != "none" or bool(card.largest_component_of),
        "small": card.smallest_mm3 > 0,
    }
    return {step for step in STEPS if asked[step]} - set(without)


def _clean(
    labels: _Labels, grid: Grid, card: ModelCard, steps: set[str], root: sitk.Image | None
) -> None:
    """Take ``steps`` in place, within the box around everything there is."""
    rooted = None if root is None else sitk.GetArrayViewFromImage(root)
    box = _box(labels, rooted)
    if box is None:
        return
    part = labels[box]
    trachea = None if rooted is None else rooted[box] > 0
    x, y, z = grid.spacing_mm
    if "fill_holes" in steps:
        _fill_holes(part, card.fill_holes, labels.shape.index(1) if 1 in labels.shape else None)
    if "cut_leaks" in steps and trachea is not None:
        part[leaks(part == 1, trachea, (z, y, x))] = BACKGROUND
    if "largest" in steps:
        if trachea is not None:
            part[:] = _hanging_on(part == 1, trachea)
        else:
            _keep_largest(part, card.largest_component_of, card.connectivity)
    if "small" in steps:
        # Rounding must not drop a component of exactly the size.
        voxels = math.ceil(card.smallest_mm3 / (x * y * z) - 1e-6)
        _drop_small(part, voxels, card.connectivity)


def _box(labels: _Labels, root: NDArray[np.uint8] | None) -> tuple[slice, ...] | None:
    """The smallest box around foreground and root, or None where there is neither."""
    planes = np.zeros(labels.shape[0], np.bool_)
    section = np.zeros(labels.shape[1:], np.bool_)
    # Plane by plane, because a mask of the whole scan would take as much memory as its labels.
    for number, plane in enumerate(labels):
        there = (plane != BACKGROUND) & (plane != UNLABELLED)
        if root is not None:
            there |= root[number] > 0
        planes[number] = there.any()
        section |= there
    if not planes.any():
        return None
    hits = [np.flatnonzero(line) for line in (planes, section.any(axis=1), section.any(axis=0))]
    return tuple(slice(int(hit[0]), int(hit[-1]) + 1) for hit in hits)


def _fill_holes(labels: _Labels, values: Collection[int], flat_axis: int | None) -> None:
    """Give background that a label encloses to it, the labels one after the other.

    Args:
        labels: ``[z, y, x]``, changed in place.
        values: labels whose holes are filled.
        flat_axis: along which the scan has one slice only, whose holes are enclosed within it.
    """
    for value in values:
        mask = labels == value
        if flat_axis is None:
            filled = fill_voids.fill(mask)
        else:
            filled = np.expand_dims(fill_voids.fill(mask.squeeze(flat_axis)), flat_axis)
        labels[filled & (labels == BACKGROUND)] = value


def _keep_largest(labels: _Labels, values: Collection[int], connectivity: int) -> None:
    for value in values:
        found = labels == value
        largest = cc3d.largest_k(found, k=1, connectivity=connectivity) > 0
        labels[found & ~largest] = BACKGROUND


def _drop_small(labels: _Labels, voxels: int, connectivity: int) -> None:
    """Remove components of fewer than ``voxels`` voxels; those of two labels are never one."""
    known = np.where(labels == UNLABELLED, BACKGROUND, labels)
    kept = cc3d.dust(known, threshold=voxels, connectivity=connectivity)
    labels[known != kept] = BACKGROUND


def _hanging_on(found: _Mask, root: _Mask) -> _Mask:
    """The part of ``found`` and ``root`` that is 6-connected to most of the root."""
    joined = cc3d.connected_components(found | root, connectivity=6)
    sizes = np.bincount(joined[root])
    tree: _Mask = joined == sizes.argmax()
    return tree
