"""The slices of a DICOM series as a regular grid, or the reason why they form none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom

from imbalanceseg.dicom_tags import invalid_tag, tag_numbers, tag_text
from imbalanceseg.errors import InputError
from imbalanceseg.geometry import Grid

_SAME_PLACE_MM = 0.01
_UNEVEN_SHARE = 0.05
_MISSING_FROM = 1.5
_ASIDE_PIXELS = 0.25


@dataclass(frozen=True)
class _Plane:
    path: Path
    size: tuple[int, int]
    spacing_mm: tuple[float, float]
    row: np.ndarray
    column: np.ndarray
    position_mm: np.ndarray


def stack(
    headers: Sequence[pydicom.Dataset], files: Sequence[Path], name: str
) -> tuple[list[int], Grid]:
    """Order slices along their normal and give the grid they form.

    Accepted are slices of one size and orientation whose positions lie on one line along the
    normal (to a quarter of a pixel) in equal steps (to a twentieth of a step).

    Args:
        headers: one dataset a slice, in any order.
        files: their files, for the messages.
        name: the series, for the messages.

    Returns:
        The order, as indices into ``headers``, and the grid; its k axis is the slice normal.

    Raises:
        InputError: a tag is missing or unusable, or the slices form no regular grid.
    """
    planes = [_plane(h, p) for h, p in zip(headers, files, strict=True)]
    if len(planes) == 1:
        raise InputError(
            "dicom-single-image",
            f"The series {name} has one slice only, which makes no volume.",
            "Give the folder that holds all slices of the series.",
        )
    _require_one_format(planes, name)
    row = planes[0].row
    column = planes[0].column - (planes[0].column @ row) * row
    column /= np.linalg.norm(column)
    normal = np.cross(row, column)
    depth_mm = np.array([normal @ p.position_mm for p in planes])
    order = [int(n) for n in np.argsort(depth_mm, kind="stable")]
    planes, depth_mm = [planes[n] for n in order], depth_mm[order]
    _require_even_steps(planes, depth_mm, name)
    _require_one_line(planes, depth_mm, normal, name)
    first = [float(x) for x in planes[0].position_mm]
    grid = Grid(
        size=(*planes[0].size, len(planes)),
        spacing_mm=(*planes[0].spacing_mm, float(depth_mm[-1] - depth_mm[0]) / (len(planes) - 1)),
        origin_mm=(first[0], first[1], first[2]),
        direction=tuple(float(x) for x in np.stack([row, column, normal], axis=1).ravel()),
    )
    return order, grid


def _plane(header: pydicom.Dataset, path: Path) -> _Plane:
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
        path=path,
        size=(columns, rows),
        spacing_mm=(float(spacing[1]), float(spacing[0])),
        row=row / lengths[0],
        column=column / lengths[1],
        position_mm=tag_numbers(header, "ImagePositionPatient", 3, path),
    )


def _require_one_format(planes: Sequence[_Plane], name: str) -> None:
    first = planes[0]
    for other in planes[1:]:
        if other.size != first.size or not np.allclose(
            other.spacing_mm, first.spacing_mm, rtol=1e-4, atol=0
        ):
            raise InputError(
                "dicom-mixed-sizes",
                f"The slices of the series {name} differ in size or pixel spacing "
                f"({_format(first)} and {_format(other)}).",
                "Export one acquisition only, without localiser images.",
            )
        turned = max(np.abs(other.row - first.row).max(), np.abs(other.column - first.column).max())
        if turned > 1e-3:
            raise InputError(
                "dicom-mixed-orientations",
                f"The slices of the series {name} differ in orientation, for example "
                f"{first.path.name} and {other.path.name}.",
                "Export one acquisition only, without localiser images.",
            )


def _format(plane: _Plane) -> str:
    return (
        f"{plane.size[0]} x {plane.size[1]} at "
        f"{plane.spacing_mm[0]:.4g} x {plane.spacing_mm[1]:.4g} mm"
    )


def _require_even_steps(planes: Sequence[_Plane], depth_mm: np.ndarray, name: str) -> None:
    steps = np.diff(depth_mm)
    twice = np.flatnonzero(steps < _SAME_PLACE_MM)
    if twice.size:
        one, other = (planes[twice[0] + n].path.name for n in (0, 1))
        raise InputError(
            "dicom-duplicate-positions",
            f"{twice.size + 1} or more slices of the series {name} lie in the same place, "
            f"for example {one} and {other}.",
            "Export one phase, echo or copy of the series only.",
        )
    usual = float(np.median(steps))
    uneven = np.flatnonzero(np.abs(steps - usual) > _UNEVEN_SHARE * usual)
    wide = np.flatnonzero(steps >= _MISSING_FROM * usual)
    drift = np.abs(depth_mm - np.linspace(depth_mm[0], depth_mm[-1], len(planes))).max()
    if not uneven.size and drift <= usual / 2:
        return
    if wide.size and wide.size == uneven.size and wide.size <= max(1, len(steps) // 5):
        missing = int(sum(round(steps[n] / usual) - 1 for n in wide))
        raise InputError(
            "dicom-missing-slice",
            f"The series {name} lacks {missing} {'slice' if missing == 1 else 'slices'}: "
            f"{planes[wide[0]].path.name} and {planes[wide[0] + 1].path.name} lie "
            f"{steps[wide[0]]:.4g} mm apart instead of {usual:.4g} mm.",
            "Export the whole series again.",
        )
    raise InputError(
        "dicom-uneven-spacing",
        f"The slices of the series {name} lie between {steps.min():.4g} and {steps.max():.4g} mm "
        "apart, equal steps are needed.",
        "Export a reconstruction with equal steps, or one part of the series.",
    )


def _require_one_line(
    planes: Sequence[_Plane], depth_mm: np.ndarray, normal: np.ndarray, name: str
) -> None:
    """Refuse slices that are shifted in their own plane against each other."""
    positions = np.array([p.position_mm for p in planes])
    aside = positions - positions[0] - np.outer(depth_mm - depth_mm[0], normal)
    allowed = _ASIDE_PIXELS * min(planes[0].spacing_mm)
    if np.linalg.norm(aside, axis=1).max() <= allowed:
        return
    share = (depth_mm - depth_mm[0]) / (depth_mm[-1] - depth_mm[0])
    bend = aside - np.outer(share, aside[-1])
    if np.linalg.norm(bend, axis=1).max() <= allowed:
        angle = np.degrees(np.arctan2(np.linalg.norm(aside[-1]), depth_mm[-1] - depth_mm[0]))
        raise InputError(
            "gantry-tilt",
            f"The slices of the series {name} are tilted by {angle:.1f} degrees against the "
            "direction in which they are stacked.",
            "Resample the series to an upright grid first, for example with dcm2niix.",
        )
    raise InputError(
        "dicom-shifted-slices",
        f"The slices of the series {name} are shifted sideways against each other.",
        "Export one acquisition only.",
    )
