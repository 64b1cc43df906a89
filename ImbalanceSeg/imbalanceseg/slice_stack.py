"""The slices of a DICOM series as a regular grid, or the reason why they form none.

Slices that are tilted, missing or unevenly spaced are given a grid that the volume is resampled
onto; every such decision is a note for people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray

from imbalanceseg.dicom_tags import invalid_tag, tag_numbers, tag_text
from imbalanceseg.errors import InputError
from imbalanceseg.geometry import Grid

_SAME_PLACE_MM = 0.01
_UNEVEN_SHARE = 0.05
_WIDEST_STEP = 4.0
_MOST_MISSING = 0.2
_MISSING_FROM = 1.5
_ASIDE_PIXELS = 0.25
_STEEPEST_DEGREES = 35.0
_MOST_OTHERS = 0.25
_PHASES = (
    "AcquisitionNumber",
    "TemporalPositionIdentifier",
    "EchoNumbers",
    "EchoTime",
    "TriggerTime",
    "DiffusionBValue",
    "ImageType",
    "ConvolutionKernel",
    "AcquisitionTime",
)


@dataclass(frozen=True)
class Stack:
    """How slices become a volume.

    Attributes:
        order: of the slices that are used, as indices into those given, along the normal.
        grid: of the volume; its k axis is the slice normal.
        depth_mm: of every slice along the normal, from the first slice of the grid.
        aside_mm: ``[slices, 2]``, of every slice along its rows and columns, from the grid.
        regular: whether the slices are those of the grid, so that nothing has to be resampled.
        notes: what was decided, a sentence each, without names of files: those may be patients'.
    """

    order: tuple[int, ...]
    grid: Grid
    depth_mm: NDArray[np.float64]
    aside_mm: NDArray[np.float64]
    regular: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Plane:
    number: int
    path: Path
    uid: str
    localizer: bool
    size: tuple[int, int]
    spacing_mm: tuple[float, float]
    row: np.ndarray
    column: np.ndarray
    position_mm: np.ndarray


def stack(headers: Sequence[pydicom.Dataset], files: Sequence[Path], name: str) -> Stack:
    """Order slices along their normal and give the grid they form.

    Used are the slices of the size and orientation that most have; a few others, such as
    localisers, are left out, and copies of a slice. Slices in equal steps on one line along the
    normal are the volume. It is resampled where a few are missing or steps differ, up to four usual
    steps, and where a tilted gantry shifts each slice against the one before.

    Args:
        headers: one dataset a slice, in any order.
        files: their files, for the messages.
        name: the series, for the messages.

    Raises:
        InputError: a tag is missing or unusable, or the slices form no volume.
    """
    notes: list[str] = []
    planes = [
        _plane(number, h, p) for number, (h, p) in enumerate(zip(headers, files, strict=True))
    ]
    planes = _of_one_format(_without_copies(planes, notes), name, notes)
    if len(planes) == 1:
        raise InputError(
            "dicom-single-image",
            f"The series {name} has one slice only, which makes no volume.",
            "Give the folder that holds all slices of the series.",
        )
    row = planes[0].row
    column = planes[0].column - (planes[0].column @ row) * row
    column /= np.linalg.norm(column)
    normal = np.cross(row, column)
    depth_mm = np.array([normal @ p.position_mm for p in planes])
    order = np.argsort(depth_mm, kind="stable")
    planes, depth_mm = [planes[n] for n in order], depth_mm[order]
    _require_one_each(planes, depth_mm, headers, name)
    count, even = _steps(planes, depth_mm, name, notes)
    positions = np.array([p.position_mm for p in planes])
    moved = positions - positions[0]
    aside_mm = np.stack([moved @ row, moved @ column], axis=1)
    aside_mm, straight = _on_one_line(planes, depth_mm, aside_mm, name, notes)
    low, high = aside_mm.min(axis=0), aside_mm.max(axis=0)
    spacing = np.array(planes[0].spacing_mm)
    more = np.ceil((high - low) / spacing - 1e-6).astype(int)
    columns, rows = (int(n) for n in np.array(planes[0].size) + more)
    first = planes[0].position_mm + low[0] * row + low[1] * column
    grid = Grid(
        size=(columns, rows, count),
        spacing_mm=(*planes[0].spacing_mm, float(depth_mm[-1] - depth_mm[0]) / (count - 1)),
        origin_mm=(float(first[0]), float(first[1]), float(first[2])),
        direction=tuple(float(x) for x in np.stack([row, column, normal], axis=1).ravel()),
    )
    return Stack(
        tuple(p.number for p in planes),
        grid,
        depth_mm - depth_mm[0],
        aside_mm - low,
        even and straight,
        tuple(notes),
    )


def _plane(number: int, header: pydicom.Dataset, path: Path) -> _Plane:
    if tag_text(header, "SamplesPerPixel") not in ("", "1"):
        raise InputError(
            "image-not-scalar",
            f"The DICOM file {path.name} is a colour image, one value a voxel is needed.",
            "Pick the series with the original slices.",
        )
    cosines = tag_numbers(header, "ImageOrientationPatient", 6, path)
    row, column = cosines[:3], cosines[3:]
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if abs(row @ column) > 1e-3 or max(abs(length - 1) for length in lengths) > 1e-2:
        raise invalid_tag(path, "ImageOrientationPatient")
    spacing = tag_numbers(header, "PixelSpacing", 2, path)
    rows, columns = (int(tag_numbers(header, k, 1, path)[0]) for k in ("Rows", "Columns"))
    if spacing.min() <= 0:
        raise invalid_tag(path, "PixelSpacing")
    if min(rows, columns) < 1:
        raise invalid_tag(path, "Rows")
    return _Plane(
        number=number,
        path=path,
        uid=tag_text(header, "SOPInstanceUID"),
        localizer="LOCALIZER" in tag_text(header, "ImageType").upper(),
        size=(columns, rows),
        spacing_mm=(float(spacing[1]), float(spacing[0])),
        row=row / lengths[0],
        column=column / lengths[1],
        position_mm=tag_numbers(header, "ImagePositionPatient", 3, path),
    )


def _without_copies(planes: Sequence[_Plane], notes: list[str]) -> list[_Plane]:
    """One of the files that hold the same instance."""
    seen: set[str] = set()
    kept = []
    for plane in planes:
        if plane.uid and plane.uid in seen:
            continue
        seen.add(plane.uid)
        kept.append(plane)
    if len(kept) < len(planes):
        notes.append(f"{_count(len(planes) - len(kept), 'copy', 'copies')} of slices left out.")
    return kept


def _of_one_format(planes: Sequence[_Plane], name: str, notes: list[str]) -> list[_Plane]:
    """The slices whose size, spacing and orientation most have, if they are nearly all."""
    if any(not plane.localizer for plane in planes):
        kept = [plane for plane in planes if not plane.localizer]
        if len(kept) < len(planes):
            number = _count(len(planes) - len(kept), "localiser", "localisers")
            notes.append(f"{number} left out.")
        planes = kept
    groups: list[list[_Plane]] = []
    for plane in planes:
        for group in groups:
            if _alike(plane, group[0]) and not _turned(plane, group[0]):
                group.append(plane)
                break
        else:
            groups.append([plane])
    groups.sort(key=len, reverse=True)
    largest, others = groups[0], [plane for group in groups[1:] for plane in group]
    if not others:
        return largest
    if len(others) <= _MOST_OTHERS * len(largest):
        number = _count(len(others), "image", "images")
        notes.append(f"{number} of another size or orientation left out.")
        return largest
    first, other = largest[0], others[0]
    if not _alike(first, other):
        raise InputError(
            "dicom-mixed-sizes",
            f"The slices of the series {name} differ in size or pixel spacing "
            f"({_format(first)} and {_format(other)}).",
            "Export one acquisition only, without localiser images.",
        )
    raise InputError(
        "dicom-mixed-orientations",
        f"The slices of the series {name} differ in orientation, for example "
        f"{first.path.name} and {other.path.name}.",
        "Export one acquisition only, without localiser images.",
    )


def _alike(one: _Plane, other: _Plane) -> bool:
    """Of one size and pixel spacing."""
    same_spacing = np.allclose(one.spacing_mm, other.spacing_mm, rtol=1e-4, atol=0)
    return one.size == other.size and bool(same_spacing)


def _turned(one: _Plane, other: _Plane) -> bool:
    """In another orientation."""
    rows, columns = np.abs(one.row - other.row), np.abs(one.column - other.column)
    return bool(max(rows.max(), columns.max()) > 1e-3)


def _format(plane: _Plane) -> str:
    return (
        f"{plane.size[0]} x {plane.size[1]} at "
        f"{plane.spacing_mm[0]:.4g} x {plane.spacing_mm[1]:.4g} mm"
    )


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _require_one_each(
    planes: Sequence[_Plane],
    depth_mm: NDArray[np.float64],
    headers: Sequence[pydicom.Dataset],
    name: str,
) -> None:
    """Refuse several slices in one place: which of them is meant, only people know."""
    twice = np.flatnonzero(np.diff(depth_mm) < _SAME_PLACE_MM)
    if not twice.size:
        return
    one, other = (planes[twice[0] + n] for n in (0, 1))
    raise InputError(
        "dicom-duplicate-positions",
        f"{twice.size + 1} or more slices of the series {name} lie in the same place, "
        f"for example {one.path.name} and {other.path.name}."
        + _difference(headers[one.number], headers[other.number]),
        "Export one phase, echo or copy of the series only.",
    )


def _difference(one: pydicom.Dataset, other: pydicom.Dataset) -> str:
    for keyword in _PHASES:
        a, b = tag_text(one, keyword), tag_text(other, keyword)
        if a != b:
            return f" They differ in {keyword}: {a or 'nothing'}, {b or 'nothing'}."
    return ""


def _steps(
    planes: Sequence[_Plane], depth_mm: NDArray[np.float64], name: str, notes: list[str]
) -> tuple[int, bool]:
    """How many slices the volume has, and whether they are those given."""
    steps = np.diff(depth_mm)
    usual = float(np.median(steps))
    uneven = np.flatnonzero(np.abs(steps - usual) > _UNEVEN_SHARE * usual)
    drift = np.abs(depth_mm - np.linspace(depth_mm[0], depth_mm[-1], len(planes))).max()
    if not uneven.size and drift <= usual / 2:
        return len(planes), True
    wide = np.flatnonzero(steps >= _MISSING_FROM * usual)
    missing = int(sum(round(steps[n] / usual) - 1 for n in wide))
    # More gaps than a few are a series of two spacings.
    lacks = 0 < wide.size == uneven.size <= max(1, len(steps) // 5)
    fillable = steps.max() <= _WIDEST_STEP * usual and steps.min() * _WIDEST_STEP >= usual
    if lacks and fillable and missing <= _MOST_MISSING * len(planes):
        notes.append(
            f"{_count(missing, 'slice is', 'slices are')} missing, the first after "
            f"slice {wide[0] + 1}; interpolated between neighbours."
        )
    elif not lacks and fillable:
        notes.append(
            f"Slices lie {steps.min():.4g} to {steps.max():.4g} mm apart; interpolated every "
            f"{usual:.4g} mm."
        )
    elif lacks:
        raise InputError(
            "dicom-missing-slice",
            f"The series {name} lacks {_count(missing, 'slice', 'slices')}: "
            f"{planes[wide[0]].path.name} and {planes[wide[0] + 1].path.name} lie "
            f"{steps[wide[0]]:.4g} mm apart instead of {usual:.4g} mm.",
            "Export the whole series again.",
        )
    else:
        raise InputError(
            "dicom-uneven-spacing",
            f"The slices of the series {name} lie between {steps.min():.4g} and "
            f"{steps.max():.4g} mm apart, which is too uneven for a volume.",
            "Export a reconstruction with equal steps, or one part of the series.",
        )
    return round(float(depth_mm[-1] - depth_mm[0]) / usual) + 1, False


def _on_one_line(
    planes: Sequence[_Plane],
    depth_mm: NDArray[np.float64],
    aside_mm: NDArray[np.float64],
    name: str,
    notes: list[str],
) -> tuple[NDArray[np.float64], bool]:
    """How far slices lie aside in their own plane: nowhere, or evenly more from slice to slice."""
    allowed = _ASIDE_PIXELS * min(planes[0].spacing_mm)
    if np.linalg.norm(aside_mm, axis=1).max() <= allowed:
        return np.zeros_like(aside_mm), True
    length = depth_mm[-1] - depth_mm[0]
    share = (depth_mm - depth_mm[0]) / length
    tilt = np.outer(share, aside_mm[-1])
    angle = float(np.degrees(np.arctan2(np.linalg.norm(aside_mm[-1]), length)))
    if np.linalg.norm(aside_mm - tilt, axis=1).max() > allowed:
        raise InputError(
            "dicom-shifted-slices",
            f"The slices of the series {name} are shifted sideways against each other.",
            "Export one acquisition only.",
        )
    if angle > _STEEPEST_DEGREES:
        raise InputError(
            "gantry-tilt",
            f"The slices of the series {name} are tilted by {angle:.1f} degrees against the "
            "direction in which they are stacked.",
            "Resample the series to an upright grid first, for example with dcm2niix.",
        )
    notes.append(f"Tilted by {angle:.1f} degrees; resampled onto an upright grid.")
    return tilt, False


def resampled_stack(slices: NDArray[np.generic], made: Stack) -> NDArray[np.generic]:
    """The volume of slices that are not those of its grid.

    In their own plane and between slices values are interpolated linearly; what no slice shows gets
    the lowest value of all.

    Args:
        slices: ``[slices, rows, columns]``, in the order of the stack.
        made: see :func:`stack`.

    Returns:
        ``[z, y, x]`` on the stack's grid, in the type of the slices.
    """
    from scipy import ndimage

    whole = np.issubdtype(slices.dtype, np.integer)
    empty = slices.min()
    columns, rows, count = made.grid.size
    aside = made.aside_mm[:, ::-1] / np.array(made.grid.spacing_mm[1::-1])

    def placed(number: int) -> NDArray[np.float32]:
        canvas = np.full((rows, columns), empty, np.float32)
        canvas[: slices.shape[1], : slices.shape[2]] = slices[number]
        if not aside[number].any():
            return canvas
        moved: NDArray[np.float32] = ndimage.shift(
            canvas, aside[number], order=1, cval=float(empty)
        )
        return moved

    volume = np.empty((count, rows, columns), slices.dtype)
    known: dict[int, NDArray[np.float32]] = {}
    for k in range(count):
        depth = min(k * made.grid.spacing_mm[2], float(made.depth_mm[-1]))
        above = int(np.clip(np.searchsorted(made.depth_mm, depth, side="left"), 1, None))
        pair = above - 1, min(above, len(slices) - 1)
        known = {n: known[n] if n in known else placed(n) for n in pair}
        low, high = made.depth_mm[pair[0]], made.depth_mm[pair[1]]
        share = (depth - low) / (high - low)
        between = (1 - share) * known[pair[0]] + share * known[pair[1]]
        volume[k] = np.rint(between) if whole else between
    return volume
