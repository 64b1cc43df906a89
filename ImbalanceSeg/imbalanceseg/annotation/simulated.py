"""A simulated person who annotates from a reference: paints slices and clicks on errors.

For tests and benchmarks. The same seed gives the same annotation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import cc3d
import edt
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from imbalanceseg.annotation.annotation import Annotation, ConfirmedSlice, Labels
from imbalanceseg.errors import InputError
from imbalanceseg.geometry import Grid, require_same_grid
from imbalanceseg.labels import BACKGROUND, UNLABELLED
from imbalanceseg.metrics.masks import bounding_box, foreground, label_values

_NOISE_LENGTH_MM = 4.0
"""Over which a hand drifts off a border and back: the standard deviation of the smoothing."""


class Click(NamedTuple):
    """A correction by one point.

    Attributes:
        point_mm: LPS, in mm: the centre of a voxel.
        label: what the reference has there; 0 takes something away.
    """

    point_mm: tuple[float, float, float]
    label: int


def evenly_spaced_slices(
    reference: sitk.Image, n: int, axis: int, offset: float = 0.0
) -> list[ConfirmedSlice]:
    """Slices at equal steps over the extent of the foreground, without its ends.

    Each holds foreground: where the one that is due does not, the nearest takes its place.

    Args:
        reference: label image.
        n: how many; fewer come back where fewer slices hold foreground.
        axis: see :class:`ConfirmedSlice`.
        offset: moves all of them by this part of a step, -0.5 to 0.5.

    Returns:
        In ascending order.

    Raises:
        InputError: ``reference-empty``, ``slice-count`` or ``slice-axis``.
    """
    free = _crossing(reference, n, axis)
    first, last = free[0], free[-1]
    if len(free) - 2 >= n:
        free = free[1:-1]
    chosen: list[int] = []
    for place in range(1, min(n, len(free)) + 1):
        due = first + (place + offset) / (n + 1) * (last - first)
        chosen.append(min(free, key=lambda index: abs(index - due)))
        free.remove(chosen[-1])
    return [ConfirmedSlice(axis, index) for index in sorted(chosen)]


def random_slices(reference: sitk.Image, n: int, axis: int, seed: int = 0) -> list[ConfirmedSlice]:
    """Slices drawn from those that hold foreground, each at most once.

    Arguments, result and errors as in :func:`evenly_spaced_slices`.
    """
    free = _crossing(reference, n, axis)
    drawn = np.random.default_rng(seed).choice(free, min(n, len(free)), replace=False)
    return [ConfirmedSlice(axis, int(index)) for index in sorted(drawn)]


def paint_slices(
    reference: sitk.Image,
    slices: Iterable[ConfirmedSlice],
    boundary_noise_mm: float = 0.0,
    seed: int = 0,
) -> Annotation:
    """Slices copied from a reference and confirmed.

    Args:
        reference: label image, 0..K.
        slices: which; where two of them cross, the later one wins.
        boundary_noise_mm: standard deviation of the distance between a painted border and the
            true one, in the plane; 0 copies exactly. A slice gets the same noise whichever others
            are painted.
        seed: of the noise.

    Returns:
        An annotation on the reference's grid.

    Raises:
        InputError: ``slice-outside``, ``boundary-noise-invalid`` or ``reference-unlabelled``.
    """
    annotation = Annotation.of(reference)
    add_slices(annotation, reference, slices, boundary_noise_mm, seed)
    return annotation


def add_slices(
    annotation: Annotation,
    reference: sitk.Image,
    slices: Iterable[ConfirmedSlice],
    boundary_noise_mm: float = 0.0,
    seed: int = 0,
) -> None:
    """Paint slices into an annotation; arguments and errors as in :func:`paint_slices`.

    Raises:
        GeometryError: ``grid-mismatch``.
    """
    if not 0 <= boundary_noise_mm < float("inf"):
        raise InputError(
            "boundary-noise-invalid",
            f"A boundary noise of {boundary_noise_mm} mm cannot be used.",
            "Give a distance in mm that is not negative.",
        )
    require_same_grid(reference, annotation.image, ("reference", "annotation"))
    truth = label_values(reference, "reference")
    for one in slices:
        annotation.plane(one.axis, one.index)
        plane = np.take(truth, one.index, 2 - one.axis)
        if hidden := int((plane == UNLABELLED).sum()):
            raise InputError(
                "reference-unlabelled",
                f"The reference says nothing of {hidden} voxels of slice {one.index} along axis "
                f"{one.axis}, so the slice cannot be finished.",
                "Choose slices in which everything is labelled.",
            )
        if boundary_noise_mm:
            spacing = [s for a, s in enumerate(annotation.grid.spacing_mm) if a != one.axis][::-1]
            draw = np.random.default_rng([seed, one.axis, one.index])
            plane = _with_moved_borders(plane, spacing, boundary_noise_mm, draw)
        annotation.paint_slice(one.axis, one.index, plane)


def paint_suggested(
    reference: sitk.Image,
    most: int,
    suggest: Callable[[Annotation], ConfirmedSlice | None],
    boundary_noise_mm: float = 0.0,
    seed: int = 0,
) -> Iterator[Annotation]:
    """Paint the slice that is suggested, ask again, and so on.

    Args:
        reference: label image, 0..K.
        most: number of slices to paint.
        suggest: which slice to paint next, after what is painted; None ends it.
        boundary_noise_mm: see :func:`paint_slices`.
        seed: of the noise.

    Yields:
        The annotation after each slice, a copy.

    Raises:
        InputError: as :func:`paint_slices`.
    """
    annotation = Annotation.of(reference)
    for _ in range(most):
        one = suggest(annotation.copy())
        if one is None:
            return
        add_slices(annotation, reference, [one], boundary_noise_mm, seed)
        yield annotation.copy()


def click_on_largest_error(
    labels: sitk.Image, reference: sitk.Image, said: Annotation | None = None
) -> Click | None:
    """Where a person would click first: the middle of the largest error.

    An error is a 26-connected component of wrong voxels of one reference label, and its middle the
    voxel deepest inside it.

    Args:
        labels: a segmentation.
        reference: label image on the same grid; voxels with 255 are never wrong.
        said: what is labelled in it is not clicked again.

    Returns:
        The click, or None where nothing is wrong.

    Raises:
        GeometryError: ``grid-mismatch``.
    """
    require_same_grid(labels, reference, ("segmentation", "reference"))
    truth = label_values(reference, "reference")
    wrong = (label_values(labels, "segmentation") != truth) & (truth != UNLABELLED)
    if said is not None:
        require_same_grid(reference, said.image, ("reference", "annotation"))
        wrong &= ~said.known
    if not wrong.any():
        return None
    box = bounding_box(wrong)
    # One class a value, as neighbouring errors of two classes take two clicks.
    classes = np.where(wrong[box], truth[box].astype(np.uint16) + 1, np.uint16(0))
    components = cc3d.connected_components(classes, connectivity=26)
    largest = components == 1 + int(np.bincount(components.ravel())[1:].argmax())
    spacing = reference.GetSpacing()[::-1]
    depth = edt.edt(np.ascontiguousarray(largest), anisotropy=spacing, black_border=True)
    deepest = np.argwhere(depth == depth.max())
    # Of a long error many voxels are equally deep; a person clicks on none of its ends.
    inside = deepest[((deepest - deepest.mean(0)) ** 2).sum(1).argmin()]
    at = [int(i) + span.start for i, span in zip(inside, box, strict=True)]
    x, y, z = (float(v) for v in Grid.of(reference).index_to_physical(at[::-1]))
    return Click((x, y, z), int(truth[tuple(at)]))


def click_until_right(
    labels: sitk.Image,
    reference: sitk.Image,
    most: int,
    answer: Callable[[Click], sitk.Image],
    said: Annotation | None = None,
) -> Iterator[tuple[Click, sitk.Image]]:
    """Click on the largest error, wait for the answer, and so on until nothing is wrong.

    Args:
        labels: the segmentation to begin with.
        reference: label image on the same grid.
        most: number of clicks.
        answer: the segmentation after a click.
        said: see :func:`click_on_largest_error`; where ``answer`` adds the clicks to it, no place
            is clicked twice.

    Yields:
        Each click and the segmentation that answered it.

    Raises:
        GeometryError: ``grid-mismatch``.
    """
    for _ in range(most):
        click = click_on_largest_error(labels, reference, said)
        if click is None:
            return
        labels = answer(click)
        yield click, labels


def _crossing(reference: sitk.Image, n: int, axis: int) -> list[int]:
    """The slices along an axis that hold foreground."""
    if axis not in (0, 1, 2):
        raise InputError("slice-axis", f"There is no axis {axis}.", "Axes are 0, 1 and 2.")
    if n < 1:
        raise InputError(
            "slice-count", f"{n} slices cannot be painted.", "Give a number of at least 1."
        )
    mask = foreground(label_values(reference, "reference"))
    others = tuple(a for a in range(3) if a != 2 - axis)
    found = np.flatnonzero(mask.any(axis=others))
    if not len(found):
        raise InputError(
            "reference-empty",
            "The reference has no foreground, so there is nothing to paint.",
            "Give a reference in which at least one voxel has a label from 1 to 254.",
        )
    return [int(index) for index in found]


def _with_moved_borders(
    plane: NDArray[np.integer],
    spacing_mm: Sequence[float],
    noise_mm: float,
    draw: np.random.Generator,
) -> Labels:
    """A slice whose borders drift by a smooth random distance.

    Of every label the signed distance to its border is taken, a smooth field is added, and the
    highest wins. Two labels meet where the sums are equal, so their border moves by half the
    difference of two fields.
    """
    sigma = [_NOISE_LENGTH_MM / s for s in spacing_mm]
    best = np.full(plane.shape, -np.inf)
    moved = np.full(plane.shape, BACKGROUND, np.uint8)
    for value in np.unique(plane):
        white = draw.standard_normal(plane.shape)
        field = ndimage.gaussian_filter(white, sigma, mode="wrap")
        field *= np.sqrt(2) * noise_mm / max(float(field.std()), 1e-12)
        score = _signed_distance_mm(plane == value, spacing_mm) + field
        moved[score > best] = value
        best = np.maximum(best, score)
    return moved


def _signed_distance_mm(
    mask: NDArray[np.bool_], spacing_mm: Sequence[float]
) -> NDArray[np.float64]:
    """To the border, which runs half a voxel beyond the outermost centres; positive inside."""
    if mask.all():
        return np.full(mask.shape, np.inf)
    half = min(spacing_mm) / 2
    inside = ndimage.distance_transform_edt(mask, spacing_mm)
    outside = ndimage.distance_transform_edt(~mask, spacing_mm)
    return np.asarray(np.where(mask, inside - half, half - outside))
