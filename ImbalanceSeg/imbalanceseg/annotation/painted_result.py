"""What a painted annotation says about a result: its own voxels, and what cannot be."""

from __future__ import annotations

import cc3d
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from imbalanceseg.annotation.annotation import Annotation, ConfirmedSlice
from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.labels import BACKGROUND, UNLABELLED

_ASIDE_MM = 10.0
"""So far aside may a structure go from one painted slice to the next and be still one."""
_SURROUNDINGS_MM = 20.0
_LEAST_BESIDE = 0.7
_MOST_PIECES_A_SLICE = 2.0


def with_annotation(labels: sitk.Image, annotation: Annotation) -> sitk.Image:
    """A result in which what was painted stands, and nothing lies apart that cannot.

    Where all that was painted hangs together from slice to slice, one structure was painted: then
    pieces that touch none of it are something else that looks alike. Lesions, which come and go
    from slice to slice, keep all their pieces, and so do classes that nobody looked for.

    Args:
        labels: uint8, on the annotation's grid.
        annotation: of the scan.
    """
    found = sitk.GetArrayFromImage(labels)
    said = _said(found, annotation)
    known = said != UNLABELLED
    found[known] = said[known]
    if hangs_together(annotation):
        sought = _sought(found, annotation)
        pieces = cc3d.connected_components(sought, connectivity=26)
        painted = np.unique(pieces[_foreground(annotation.labels)])
        found[sought & ~np.isin(pieces, painted[painted > 0])] = BACKGROUND
    return image_from_array(found, annotation.grid)


def said_of(labels: sitk.Image, annotation: Annotation) -> sitk.Image:
    """What was said of a result, uint8, 255 where nothing was.

    Where only some of the classes were looked for, "background" says nothing of a voxel in which
    the result has one of the others.

    Args:
        labels: uint8, on the annotation's grid.
        annotation: of the scan.
    """
    return image_from_array(_said(sitk.GetArrayViewFromImage(labels), annotation), annotation.grid)


def _said(found: NDArray[np.uint8], annotation: Annotation) -> NDArray[np.uint8]:
    if annotation.classes is None:
        return annotation.labels
    hidden = (annotation.labels == BACKGROUND) & _foreground(found) & ~_sought(found, annotation)
    return np.where(hidden, UNLABELLED, annotation.labels).astype(np.uint8)


def _sought(found: NDArray[np.uint8], annotation: Annotation) -> NDArray[np.bool_]:
    """Foreground of the classes that were looked for."""
    if annotation.classes is None:
        return found != BACKGROUND
    return np.isin(found, annotation.classes)


def only_near(hardness: sitk.Image, labels: sitk.Image) -> sitk.Image:
    """A hardness map that is 0 farther than 20 mm from the labels; as it was where there are none.

    Of one structure only the surroundings can be right or wrong; elsewhere what looks alike was
    dropped already, and its doubt would hide the rest.

    Args:
        hardness: float32 in [0, 1].
        labels: uint8 on the same grid.
    """
    found = sitk.GetArrayViewFromImage(labels) != BACKGROUND
    if not found.any():
        return hardness
    spacing = labels.GetSpacing()[::-1]
    window = []
    for axis, step in enumerate(spacing):
        hit = np.flatnonzero(found.any(axis=tuple(a for a in range(3) if a != axis)))
        reach = int(np.ceil(_SURROUNDINGS_MM / step))
        window.append(slice(max(0, int(hit[0]) - reach), int(hit[-1]) + reach + 1))
    inside = tuple(window)
    values = sitk.GetArrayViewFromImage(hardness)
    kept = np.zeros_like(values)
    near = distance_transform_edt(~found[inside], sampling=spacing) <= _SURROUNDINGS_MM
    kept[inside] = np.where(near, values[inside], 0)
    return image_from_array(kept, Grid.of(hardness))


def hangs_together(annotation: Annotation) -> bool:
    """Whether one structure was painted, as far as the slices show it.

    At least seven in ten of the painted pieces lie beside painted foreground of a neighbouring
    slice, and there are at most two a slice. Beside means less than 10 mm aside, seen along the
    axis that the slice is normal to. Two confirmed slices with foreground are needed.
    """
    shown = shown_in(annotation)
    if len(shown) < 2:
        return False
    beside = [piece for one in shown for piece in _beside(annotation, one, _neighbours(one, shown))]
    few = len(beside) <= _MOST_PIECES_A_SLICE * len(shown)
    return few and sum(beside) >= _LEAST_BESIDE * len(beside)


def shown_in(annotation: Annotation) -> list[ConfirmedSlice]:
    """The confirmed slices that show foreground."""
    return [one for one in annotation.confirmed if _plane(annotation, one).any()]


def _neighbours(one: ConfirmedSlice, shown: list[ConfirmedSlice]) -> list[ConfirmedSlice]:
    """The next slices on both sides, and those of other axes.

    All slices together would show something beside everything.
    """
    alike = [other for other in shown if other.axis == one.axis and other != one]
    before = [other for other in alike if other.index < one.index]
    after = [other for other in alike if other.index > one.index]
    nearest = [max(before)] if before else []
    nearest += [min(after)] if after else []
    return nearest + [other for other in shown if other.axis != one.axis]


def _beside(
    annotation: Annotation, one: ConfirmedSlice, others: list[ConfirmedSlice]
) -> list[bool]:
    """Of every piece in a slice, whether foreground of the others lies beside it."""
    axis = 2 - one.axis
    elsewhere = np.zeros(annotation.labels.shape, bool)
    for other in others:
        at = tuple(other.index if n == 2 - other.axis else slice(None) for n in range(3))
        elsewhere[at] = _plane(annotation, other)
    elsewhere[tuple(one.index if n == axis else slice(None) for n in range(3))] = False
    projected = elsewhere.any(axis)
    pieces = cc3d.connected_components(_plane(annotation, one), connectivity=8)
    numbers = range(1, int(pieces.max()) + 1)
    if not projected.any():
        return [False for _ in numbers]
    spacing = [s for n, s in enumerate(annotation.grid.spacing_mm[::-1]) if n != axis]
    aside = distance_transform_edt(~projected, sampling=spacing)
    return [bool(aside[pieces == number].min() < _ASIDE_MM) for number in numbers]


def _plane(annotation: Annotation, one: ConfirmedSlice) -> NDArray[np.bool_]:
    return _foreground(annotation.plane(one.axis, one.index))


def _foreground(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.asarray((labels != BACKGROUND) & (labels != UNLABELLED))
