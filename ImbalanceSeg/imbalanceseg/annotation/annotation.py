"""What a person has said about a scan: finished slices, strokes and clicks, and nothing else.

"Not painted" is not "background": only in a slice that was confirmed is what is left free
background. Everywhere else the value is 255, unlabelled. Source: Cicek et al., MICCAI 2016,
arXiv 1606.06650.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from imbalanceseg.errors import GeometryError, InputError
from imbalanceseg.geometry import Grid, image_from_array, require_same_grid
from imbalanceseg.labels import BACKGROUND, UNLABELLED
from imbalanceseg.metrics.masks import label_values

Labels = NDArray[np.uint8]


@dataclass(frozen=True, order=True)
class ConfirmedSlice:
    """A slice in which everything is labelled.

    Attributes:
        axis: index axis of the image that the slice is normal to: 0 i, 1 j, 2 k, as SimpleITK
            counts them. Of an axial scan the axial slices have axis 2.
        index: along that axis, from 0.
    """

    axis: int
    index: int


@dataclass(frozen=True)
class Conflict:
    """A label that was replaced by another: the last one wins.

    Attributes:
        voxels: how many had another label.
        was: the label most of them had.
        now: the label most of them have now.
    """

    voxels: int
    was: int
    now: int

    def __str__(self) -> str:
        return (
            f"{self.voxels} voxels that were labelled {self.was} are labelled {self.now} now: "
            "the last label counts."
        )


class Annotation:
    """Labels of some voxels of a scan.

    Attributes:
        grid: of the scan.
        labels: uint8 ``[z, y, x]`` on that grid: 0 background, 1..K classes, 255 unlabelled.
        confirmed: slices in which everything is labelled, in the order they were confirmed.
        classes: foreground classes that were looked for; None for all. Where some were not,
            "background" may hide them.
    """

    def __init__(self, grid: Grid, classes: Iterable[int] | None = None) -> None:
        self.grid = grid
        self.labels: Labels = np.full(grid.size[::-1], UNLABELLED, np.uint8)
        self.confirmed: list[ConfirmedSlice] = []
        self.classes = None if classes is None else _checked_classes(classes)

    @classmethod
    def of(cls, image: sitk.Image, classes: Iterable[int] | None = None) -> Annotation:
        """Nothing labelled yet, on the grid of a scan.

        Raises:
            GeometryError: the image is not 3D.
            InputError: ``annotation-classes``.
        """
        return cls(Grid.of(image), classes)

    @classmethod
    def from_labels(
        cls,
        labels: sitk.Image,
        confirmed: Iterable[ConfirmedSlice] = (),
        classes: Iterable[int] | None = None,
    ) -> Annotation:
        """An annotation from its image.

        Args:
            labels: 0..K, and 255 where nobody has said anything.
            confirmed: slices whose unlabelled voxels are background.
            classes: see :class:`Annotation`.

        Raises:
            InputError: ``annotation-not-labels``, ``slice-outside`` or ``annotation-classes``.
            GeometryError: the image is not 3D.
        """
        annotation = cls(Grid.of(labels), classes)
        annotation.labels[...] = _checked_labels(label_values(labels, "annotation"))
        for one in confirmed:
            annotation.confirm(one.axis, one.index)
        return annotation

    @property
    def image(self) -> sitk.Image:
        """The labels as an image on the scan's grid."""
        return image_from_array(self.labels, self.grid)

    @property
    def known(self) -> NDArray[np.bool_]:
        """Where something is labelled, ``[z, y, x]``."""
        return np.asarray(self.labels != UNLABELLED)

    @property
    def values(self) -> tuple[int, ...]:
        """Foreground classes that occur, sorted."""
        found = np.flatnonzero(np.bincount(self.labels.ravel(), minlength=256))
        return tuple(int(v) for v in found if v not in (BACKGROUND, UNLABELLED))

    def copy(self) -> Annotation:
        """One that can be changed by itself."""
        twin = Annotation(self.grid, self.classes)
        twin.labels[...] = self.labels
        twin.confirmed = list(self.confirmed)
        return twin

    def plane(self, axis: int, index: int) -> Labels:
        """A view of one slice of ``labels``.

        Raises:
            InputError: ``slice-outside``.
        """
        self._require(axis, index)
        return self.labels[_at(axis, index)]

    def paint(self, labels: NDArray[np.integer]) -> Conflict | None:
        """Label voxels without saying anything of the others.

        Args:
            labels: ``[z, y, x]``; 255 where nothing is said.

        Raises:
            InputError: ``annotation-not-labels``.
            GeometryError: ``shape-mismatch``.
        """
        given = _checked_labels(labels)
        if given.shape != self.labels.shape:
            image_from_array(given, self.grid)
        return self._put(self.labels, given)

    def paint_slice(self, axis: int, index: int, labels: NDArray[np.integer]) -> Conflict | None:
        """Label and confirm a slice: what is 255 in ``labels`` becomes background.

        Args:
            axis: see :class:`ConfirmedSlice`.
            index: along it.
            labels: two-dimensional, axes in the order of ``[z, y, x]`` without ``axis``.

        Raises:
            InputError: ``slice-outside``, ``annotation-not-labels`` or ``slice-shape``.
        """
        view = self.plane(axis, index)
        given = _checked_labels(labels)
        if given.shape != view.shape:
            raise InputError(
                "slice-shape",
                f"A slice of shape {given.shape} does not fit slices of shape {view.shape}.",
                "Give the slice on the scan's own grid.",
            )
        conflict = self._put(view, np.where(given == UNLABELLED, BACKGROUND, given))
        self.confirm(axis, index)
        return conflict

    def confirm(self, axis: int, index: int) -> None:
        """Say that a slice is finished: what is unlabelled in it is background.

        Raises:
            InputError: ``slice-outside``.
        """
        view = self.plane(axis, index)
        view[view == UNLABELLED] = BACKGROUND
        one = ConfirmedSlice(axis, index)
        if one not in self.confirmed:
            self.confirmed.append(one)

    def unconfirm(self, axis: int, index: int) -> None:
        """Take a confirmation back: background is unlabelled again, but not on other slices.

        A slice that is not confirmed is left as it is.

        Raises:
            InputError: ``slice-outside``.
        """
        view = self.plane(axis, index)
        if ConfirmedSlice(axis, index) not in self.confirmed:
            return
        self.confirmed = [one for one in self.confirmed if one != ConfirmedSlice(axis, index)]
        elsewhere = np.zeros(self.labels.shape, bool)
        for one in self.confirmed:
            elsewhere[_at(one.axis, one.index)] = True
        view[(view == BACKGROUND) & ~elsewhere[_at(axis, index)]] = UNLABELLED

    def click(
        self, point_mm: Sequence[float], label: int, radius_mm: float = 1.0
    ) -> Conflict | None:
        """Label a small ball, at least the voxel that the point lies in.

        Confirmed slices are left as they are: they have been looked at with more care.

        Args:
            point_mm: LPS, in mm.
            label: 0..K.
            radius_mm: of the ball.

        Raises:
            InputError: ``click-outside``, ``click-label`` or ``click-radius``.
        """
        _require_click(label, radius_mm)
        point = np.asarray(point_mm, np.float64)
        centre = self.grid.physical_to_index(point if np.isfinite(point).all() else np.zeros(3))
        nearest = np.rint(centre) if np.isfinite(point).all() else np.full(3, -1.0)
        if np.any(nearest < 0) or np.any(nearest >= self.grid.size):
            raise InputError(
                "click-outside",
                f"The point ({', '.join(f'{x:g}' for x in point)}) does not lie in the scan.",
                "Click inside the scan.",
            )
        reach = np.ceil(radius_mm / np.asarray(self.grid.spacing_mm))
        start = np.maximum(nearest - reach, 0).astype(int)
        stop = np.minimum(nearest + reach + 1, self.grid.size).astype(int)
        axes = [
            (np.arange(first, last) - c) * step
            for first, last, c, step in zip(start, stop, centre, self.grid.spacing_mm, strict=True)
        ]
        x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
        ball = np.asarray(x**2 + y**2 + z**2 <= radius_mm**2).transpose(2, 1, 0)
        ball[tuple((nearest - start).astype(int)[::-1])] = True
        for one in self.confirmed:
            if start[one.axis] <= one.index < stop[one.axis]:
                ball[_at(one.axis, one.index - int(start[one.axis]))] = False
        box = tuple(slice(a, b) for a, b in zip(start[::-1], stop[::-1], strict=True))
        given = np.where(ball, np.uint8(label), np.uint8(UNLABELLED))
        return self._put(self.labels[box], given)

    def _put(self, into: Labels, given: Labels) -> Conflict | None:
        said = given != UNLABELLED
        replaced = said & (into != UNLABELLED) & (into != given)
        conflict = None
        if replaced.any():
            was, now = (int(np.bincount(x[replaced]).argmax()) for x in (into, given))
            conflict = Conflict(int(replaced.sum()), was, now)
        into[said] = given[said]
        return conflict

    def _require(self, axis: int, index: int) -> None:
        if axis in (0, 1, 2) and 0 <= index < self.grid.size[axis]:
            return
        size = " x ".join(map(str, self.grid.size))
        raise InputError(
            "slice-outside",
            f"There is no slice {index} along axis {axis} in a scan of {size} voxels.",
            "Axes are 0, 1 and 2, and slices are counted from 0.",
        )


def require_annotation_of(image: sitk.Image, annotation: Annotation) -> None:
    """Refuse an annotation of another scan.

    Raises:
        GeometryError: ``grid-mismatch``.
    """
    # Making an image of a large annotation takes long, so that is left to the error.
    if Grid.of(image).same_as(annotation.grid):
        return
    try:
        require_same_grid(image, annotation.image, ("scan", "annotation"))
    except GeometryError as error:
        raise GeometryError(
            error.code, error.message, "Give the annotation that was painted on this scan."
        ) from error


def _at(axis: int, index: int) -> tuple[slice | int, ...]:
    """A slice of ``[z, y, x]`` by the axis that SimpleITK counts."""
    return tuple(index if axis == 2 - n else slice(None) for n in range(3))


def _require_click(label: int, radius_mm: float) -> None:
    if not BACKGROUND <= label < UNLABELLED:
        raise InputError(
            "click-label",
            f"A click cannot give the label {label}.",
            "Give 0 for background, or a class from 1 to 254.",
        )
    # Written so that NaN fails it.
    if not 0 <= radius_mm < float("inf"):
        raise InputError(
            "click-radius",
            f"The radius {radius_mm:g} mm of a click is not usable.",
            "Give a radius in mm, at least 0.",
        )


def _checked_labels(labels: NDArray[np.integer]) -> Labels:
    values = np.asarray(labels)
    whole = np.issubdtype(values.dtype, np.integer) or values.dtype == bool
    if whole and (not values.size or (values.min() >= 0 and values.max() <= UNLABELLED)):
        return values.astype(np.uint8)
    raise InputError(
        "annotation-not-labels",
        "The annotation holds values that are not whole numbers from 0 to 255.",
        "Give 0 for background, 1 and up for classes and 255 for what is not labelled.",
    )


def _checked_classes(classes: Iterable[int]) -> tuple[int, ...]:
    found = tuple(sorted(set(classes)))
    if found and all(0 < int(value) < UNLABELLED for value in found):
        return found
    raise InputError(
        "annotation-classes",
        f"{found} are not classes that can be annotated.",
        "Name at least one label from 1 to 254.",
    )
