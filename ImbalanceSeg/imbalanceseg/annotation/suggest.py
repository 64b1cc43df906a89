"""Which slice to paint next.

Painting a slice resolves the hardness in it and, less and less with the distance, around it. Each
suggestion is the slice that resolves most of what painted slices and earlier suggestions leave
over, for its cost; as each takes its share away, suggestions keep apart, within and between axes.
Beside the hardness counts where a structure must go on that painted slices cut through.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from imbalanceseg.annotation.annotation import Annotation, require_annotation_of
from imbalanceseg.annotation.continuation import continuation
from imbalanceseg.annotation.hard_regions import Coarse, HardRegions, hard_regions
from imbalanceseg.annotation.patient_order import PatientOrder
from imbalanceseg.annotation.unresolved import FAR_MM, Unresolved
from imbalanceseg.errors import InputError
from imbalanceseg.geometry import Grid
from imbalanceseg.inference.segmentation import Segmentation

WORTH_PAINTING = 0.02
"""A slice is suggested if it resolves at least this share of the hardness of the scan."""
OUTLINE_EDGE = 100.0
"""Edge in voxels of a square that takes twice as long to paint as it takes to open a slice."""
_OFF_CENTRE = 0.5
"""Offset from the centre, in standard deviations of the hardness, that is worth a word."""
_OFF_CENTRE_MM = 3.0
_WORDS = (("right", "left"), ("front", "back"), ("lower", "upper"))
_NOUNS = {"right": " side", "left": " side", "lower": " part", "upper": " part"}
_SPOKEN_ORDER = (0, 2, 1)


@dataclass(frozen=True)
class SliceSuggestion:
    """A slice worth painting.

    Attributes:
        axis: index axis of the image that the slice is normal to: 0 i, 1 j, 2 k.
        index: along it, from 0.
        score: hardness it would resolve for its cost, as a share of the best suggestion's.
        reason: a phrase for people.
    """

    axis: int
    index: int
    score: float
    reason: str


def suggest_slices(
    result: Segmentation, annotation: Annotation | None = None, n: int = 5
) -> list[SliceSuggestion]:
    """The slices that are best painted next, the best first.

    The cost of a slice is ``1 + sqrt(a) / OUTLINE_EDGE``: opening it, and drawing an outline that
    grows with the root of the area ``a`` of what was found in it. The area is counted in squares of
    the finest spacing, so that slices through thick voxels are not taken for cheap ones.

    Args:
        result: of the scan; see :func:`~imbalanceseg.annotation.hard_regions.hard_regions` for
            what of it is used.
        annotation: what is painted already; on the scan's grid.
        n: how many slices at most.

    Returns:
        At most ``n`` suggestions, each of a slice that is not painted. Suggestions that would
        resolve less than :data:`WORTH_PAINTING` of the hardness that was there before anything was
        painted are left out: an empty list says that another slice is not worth painting.

    Raises:
        InputError: ``suggestions-none``, n is less than 1; or the labels are no labels.
        GeometryError: the annotation or a map is on another grid than the labels.
    """
    if n < 1:
        raise InputError(
            "suggestions-none", f"{n} slices cannot be suggested.", "Ask for at least one."
        )
    if annotation is not None:
        require_annotation_of(result.labels, annotation)
    order = PatientOrder.of(Grid.of(result.labels))
    regions = hard_regions(result, order)
    if annotation is not None:
        regions = _going_on(regions, continuation(annotation, order))
    left = Unresolved(regions.amount, order, annotation)
    costs = [_cost(regions, order, axis) for axis in range(3)]
    place = _Places(regions, order)
    chosen: list[SliceSuggestion] = []
    best = 0.0
    while len(chosen) < n and (found := _best(left, costs)):
        axis, position, value = found
        best = best or value
        peak = left.peak(axis, position)
        chosen.append(
            SliceSuggestion(
                axis=order.axes[axis],
                index=order.position(axis, position),
                score=value / best,
                reason=f"{place.phrase(peak)}, {_distance(left, peak)}",
            )
        )
        left.paint(axis, position)
    return chosen


def _going_on(regions: HardRegions, expected: Coarse) -> HardRegions:
    """Hard regions, and where painted structures are expected."""
    if not expected.any():
        return regions
    if not regions.name:
        return replace(regions, amount=expected, name="painted structure")
    return replace(regions, amount=regions.amount + expected)


def _best(left: Unresolved, costs: list[NDArray[np.float64]]) -> tuple[int, int, float] | None:
    """Patient axis, position and value of the best slice, or None if none is worth it."""
    best: tuple[int, int, float] | None = None
    for axis, gains in enumerate(left.gains()):
        worth = (gains >= WORTH_PAINTING * left.total) & ~left.painted[axis]
        values = np.where(worth, gains / costs[axis], 0)
        position = int(values.argmax())
        if values[position] > (best[2] if best else 0):
            best = axis, position, float(values[position])
    return best


def _cost(regions: HardRegions, order: PatientOrder, axis: int) -> NDArray[np.float64]:
    """Of each slice along a patient axis, in units of opening one."""
    lengths = order.block_lengths(axis)
    others = tuple(2 - other for other in range(3) if other != axis)
    voxels = regions.found.sum(axis=others, dtype=np.float64) / lengths
    steps = [step for other, step in enumerate(order.grid.spacing_mm) if other != axis]
    squares = voxels * steps[0] * steps[1] / min(order.grid.spacing_mm) ** 2
    return np.repeat(1 + np.sqrt(squares) / OUTLINE_EDGE, lengths)


class _Places:
    """Words for where a point lies, seen from the centre of the hardness."""

    def __init__(self, regions: HardRegions, order: PatientOrder) -> None:
        self._grid = order.grid
        self._name = regions.name
        means, variances = [], []
        for axis, step in enumerate(order.grid.spacing_mm):
            others = tuple(2 - other for other in range(3) if other != axis)
            profile = regions.amount.sum(axis=others, dtype=np.float64)
            at = order.block_centres(axis)
            mean = np.average(at, weights=profile)
            means.append(mean)
            variances.append(np.average((at - mean) ** 2, weights=profile) * step**2)
        self._centre_mm = self._grid.index_to_physical(means)
        self._spread_mm = np.sqrt(self._grid.matrix**2 @ np.asarray(variances))

    def phrase(self, index: tuple[float, float, float]) -> str:
        if not self._name:
            return "no hard region, near the middle of the scan"
        offset = self._grid.index_to_physical(index) - self._centre_mm
        least = np.maximum(_OFF_CENTRE * self._spread_mm, _OFF_CENTRE_MM)
        words = [_WORDS[n][int(offset[n] > 0)] for n in _SPOKEN_ORDER if abs(offset[n]) > least[n]]
        if not words:
            return f"{self._name} in the middle"
        return f"{self._name} at the {' '.join(words)}{_NOUNS.get(words[-1], '')}"


def _distance(painted: Unresolved, index: tuple[float, float, float]) -> str:
    slices, strokes = painted.slice_distance_mm(index), painted.stroke_distance_mm(index)
    if np.isinf(min(slices, strokes)):
        return "nothing painted yet"
    if slices <= strokes:
        return f"{slices:.0f} mm from any painted slice"
    more = "more than " if strokes >= FAR_MM else ""
    return f"{more}{strokes:.0f} mm from any painted voxel"
