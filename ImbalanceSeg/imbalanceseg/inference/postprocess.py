"""From the probability of a scan to its labelmap, and what of it is kept, as a card says."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from imbalanceseg.errors import InputError
from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.inference.leaks import leaks
from imbalanceseg.inference.slabs import Components, planes_within, spans
from imbalanceseg.labels import BACKGROUND, UNLABELLED
from imbalanceseg.models.card import ModelCard
from imbalanceseg.preprocessing.trachea import tracheal_column

STEPS = ("hysteresis", "fill_holes", "cut_leaks", "largest", "small")
"""Names of the steps, in the order in which they are taken where the card asks for them.

``hysteresis`` removes components without a voxel above ``high_threshold``, ``fill_holes``
gives enclosed background to the label around it, ``cut_leaks`` removes leaks of an airway,
``largest`` keeps the largest component of a label or what hangs on the root, and ``small`` removes
small components.
"""

_CERTAIN = 2
"""What lies above ``high_threshold`` in labels that are not cleaned yet; there is one segment."""

_SHARE = 0.25
"""Of the memory allowed, for components; labels and maps lie beside them."""

_Labels = NDArray[np.uint8]
_Mask = NDArray[np.bool_]
_Box = tuple[slice, ...]


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
        card: says ``threshold``, ``high_threshold`` and ``root``, and what
            :func:`cleaned_labels` needs.
        threshold: instead of the card's.
        without: which of :data:`STEPS` to leave out; the root is added by ``"largest"``.

    Returns:
        uint8 labelmap on the same grid, 0 and 1.

    Raises:
        InputError: ``step-unknown``, a name in ``without`` is none of :data:`STEPS`.
    """
    threshold = card.threshold if threshold is None else threshold
    array = sitk.GetArrayViewFromImage(probability)
    found = labels_above(array, threshold, card.high_threshold)
    labels = image_from_array(found, Grid.of(probability))
    return cleaned_labels(labels, card, without, scan)


def labels_above(
    probability: NDArray[np.float32], threshold: float, high_threshold: float | None
) -> NDArray[np.uint8]:
    """Where a single segment is found, and for :func:`clean` where that is certain.

    Returns:
        1 above ``threshold``; 2 above ``high_threshold``, too, where there is one.
    """
    labels = (probability > threshold).view(np.uint8)
    if high_threshold is not None:
        labels[probability > max(threshold, high_threshold)] = _CERTAIN
    return labels


def cleaned_labels(
    labels: sitk.Image,
    card: ModelCard,
    without: Collection[str] = (),
    scan: sitk.Image | None = None,
) -> sitk.Image:
    """Take the steps that the card asks for.

    Args:
        labels: uint8 labelmap with the values that :func:`clean` takes.
        card: see :func:`clean`.
        without: which of :data:`STEPS` to leave out.
        scan: on the same grid; without it no root is looked for.

    Raises:
        InputError: ``step-unknown``, a name in ``without`` is none of :data:`STEPS`.
    """
    if not _steps_taken(card, without) and card.high_threshold is None:
        return labels
    array, grid = sitk.GetArrayFromImage(labels), Grid.of(labels)
    clean(array, grid, card, without, scan)
    return image_from_array(array, grid)


def clean(
    labels: NDArray[np.uint8],
    grid: Grid,
    card: ModelCard,
    without: Collection[str] = (),
    scan: sitk.Image | None = None,
    budget: int | None = None,
) -> None:
    """Take the steps that the card asks for in place.

    Args:
        labels: ``[z, y, x]``; voxels of 255 stay as they are. Where the card has a
            ``high_threshold``, those of :func:`labels_above`.
        grid: where they lie.
        card: says ``high_threshold``, ``root``, ``cut_leaks``, ``fill_holes``,
            ``largest_component_of``, ``smallest_mm3`` and ``connectivity``.
        without: which of :data:`STEPS` to leave out.
        scan: on ``grid``; without it no root is looked for.
        budget: bytes that may be taken, labels and maps included; no limit when None. The labels
            that come out do not depend on it.

    Raises:
        InputError: ``step-unknown``, a name in ``without`` is none of :data:`STEPS`.
    """
    steps = _steps_taken(card, without)
    if not steps and card.high_threshold is None:
        return
    root = None
    if scan is not None and card.root == "trachea" and steps & {"cut_leaks", "largest"}:
        root = _Root.of(tracheal_column(scan))
    box = _box(labels, root)
    if box is None:
        return
    part = labels[box]
    planes = len(part) if budget is None else planes_within(part.shape, int(_SHARE * budget))
    rooted = None if root is None else root.within(box)
    x, y, z = grid.spacing_mm
    if "hysteresis" in steps:
        _drop_uncertain(part, card.connectivity, planes)
    if card.high_threshold is not None:
        for plane in part:
            plane[plane == _CERTAIN] = 1
    if "fill_holes" in steps:
        flat = labels.shape.index(1) if 1 in labels.shape else None
        _fill_holes(part, card.fill_holes, flat, planes)
    if "cut_leaks" in steps and rooted is not None:
        _cut_leaks(part, rooted, (z, y, x), planes)
    if "largest" in steps:
        if rooted is not None:
            _keep_rooted(part, rooted, planes)
        else:
            _keep_largest(part, card.largest_component_of, card.connectivity, planes)
    if "small" in steps:
        # Rounding must not drop a component of exactly the size.
        voxels = math.ceil(card.smallest_mm3 / (x * y * z) - 1e-6)
        _drop_small(part, voxels, card.connectivity, planes)


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
        "hysteresis": card.high_threshold is not None,
        "fill_holes": bool(card.fill_holes),
        "cut_leaks": card.cut_leaks,
        "largest": card.root != "none" or bool(card.largest_component_of),
        "small": card.smallest_mm3 > 0,
    }
    return {step for step in STEPS if asked[step]} - set(without)


@dataclass(frozen=True)
class _Root:
    """A mask of a small part of a volume.

    Attributes:
        mask: ``[z, y, x]``.
        box: where it lies in the volume.
        shape: of the volume.
    """

    mask: _Mask
    box: _Box
    shape: tuple[int, ...]

    @classmethod
    def of(cls, image: sitk.Image | None) -> _Root | None:
        """What is not 0 in an image; the image is no longer needed."""
        if image is None:
            return None
        array = sitk.GetArrayViewFromImage(image)
        box = _box(array, None)
        return None if box is None else cls(array[box] > 0, box, array.shape)

    def within(self, box: _Box) -> _Root:
        """The same in a part of the volume that holds all of it."""
        moved = tuple(
            slice(own.start - outer.start, own.stop - outer.start)
            for own, outer in zip(self.box, box, strict=True)
        )
        return _Root(self.mask, moved, tuple(one.stop - one.start for one in box))

    def __getitem__(self, span: slice) -> _Mask:
        """Planes of the volume."""
        found = np.zeros((span.stop - span.start, *self.shape[1:]), np.bool_)
        top, *section = self.box
        start, stop = max(span.start, top.start), min(span.stop, top.stop)
        if start < stop:
            inside = (slice(start - span.start, stop - span.start), *section)
            found[inside] = self.mask[start - top.start : stop - top.start]
        return found


def _box(labels: _Labels, root: _Root | None) -> _Box | None:
    """The smallest box around foreground and root, or None where there is neither."""
    planes = np.zeros(labels.shape[0], np.bool_)
    section = np.zeros(labels.shape[1:], np.bool_)
    # Plane by plane, because a mask of the whole scan would take as much memory as its labels.
    for number, plane in enumerate(labels):
        there = (plane != BACKGROUND) & (plane != UNLABELLED)
        planes[number] = there.any()
        section |= there
    if root is not None:
        planes[root.box[0]] = True
        section[root.box[1:]] = True
    if not planes.any():
        return None
    hits = [np.flatnonzero(line) for line in (planes, section.any(axis=1), section.any(axis=0))]
    return tuple(slice(int(hit[0]), int(hit[-1]) + 1) for hit in hits)


def _drop_uncertain(labels: _Labels, connectivity: int, planes: int) -> None:
    """Remove components that are certain nowhere."""
    found = Components(partial(_foreground, labels), labels.shape, connectivity, planes)
    _remove(labels, found, found.sizes(partial(_of, labels, _CERTAIN)) == 0)


def _fill_holes(
    labels: _Labels, values: Collection[int], flat_axis: int | None, planes: int
) -> None:
    """Give background that a label encloses to it, the labels one after the other.

    Args:
        labels: ``[z, y, x]``, changed in place.
        values: labels whose holes are filled.
        flat_axis: along which the scan has one slice only, whose holes are enclosed within it.
        planes: of a slab.
    """
    axes = [axis for axis in range(3) if axis != flat_axis]
    for value in values:
        others = Components(partial(_other_than, labels, value), labels.shape, 6, planes)
        holes = ~others.at_border(axes)
        holes[0] = False
        if holes.any():
            for span, hole in others.where(holes):
                labels[span][hole & (labels[span] == BACKGROUND)] = value


def _cut_leaks(
    labels: _Labels, root: _Root, spacing_mm: tuple[float, float, float], planes: int
) -> None:
    """Remove leaks of label 1, which follow from the voxels of it and of the root."""
    voxels, rooted = [], []
    for span in spans(len(labels), planes):
        there = root[span]
        found = np.argwhere((labels[span] == 1) | there)
        rooted.append(there[tuple(found.T)])
        voxels.append(found + np.array((span.start, 0, 0)))
    airway = np.concatenate(voxels)
    removed = airway[leaks(airway, np.concatenate(rooted), spacing_mm)]
    labels[tuple(removed.T)] = BACKGROUND


def _keep_rooted(labels: _Labels, root: _Root, planes: int) -> None:
    """Keep the part of label 1 and the root that is 6-connected to most of the root."""
    joined = Components(partial(_rooted, labels, root), labels.shape, 6, planes)
    sizes = joined.sizes(root.__getitem__)
    for span, tree in joined.where(np.arange(len(sizes)) == sizes.argmax()):
        labels[span] = tree


def _keep_largest(labels: _Labels, values: Collection[int], connectivity: int, planes: int) -> None:
    for value in values:
        found = Components(partial(_of, labels, value), labels.shape, connectivity, planes)
        sizes = found.sizes()
        _remove(labels, found, np.arange(len(sizes)) != sizes.argmax())


def _drop_small(labels: _Labels, voxels: int, connectivity: int, planes: int) -> None:
    """Remove components of fewer than ``voxels`` voxels; those of two labels are never one."""
    found = Components(partial(_known, labels), labels.shape, connectivity, planes)
    _remove(labels, found, found.sizes() < voxels)


def _remove(labels: _Labels, found: Components, chosen: _Mask) -> None:
    """Turn the chosen components into background."""
    chosen[0] = False
    if chosen.any():
        for span, gone in found.where(chosen):
            labels[span][gone] = BACKGROUND


def _of(labels: _Labels, value: int, span: slice) -> _Mask:
    mask: _Mask = labels[span] == value
    return mask


def _other_than(labels: _Labels, value: int, span: slice) -> _Mask:
    mask: _Mask = labels[span] != value
    return mask


def _foreground(labels: _Labels, span: slice) -> _Mask:
    mask: _Mask = (labels[span] != BACKGROUND) & (labels[span] != UNLABELLED)
    return mask


def _known(labels: _Labels, span: slice) -> _Labels:
    return np.where(labels[span] == UNLABELLED, BACKGROUND, labels[span])


def _rooted(labels: _Labels, root: _Root, span: slice) -> _Mask:
    mask: _Mask = (labels[span] == 1) | root[span]
    return mask
