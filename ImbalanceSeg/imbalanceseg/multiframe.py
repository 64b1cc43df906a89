"""Enhanced CT and MR: one DICOM file that holds all slices of a volume."""

from __future__ import annotations

import io
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbalanceseg.errors import InputError
from imbalanceseg.geometry import Grid
from imbalanceseg.reading import printable, quiet_readers


def multiframe_grid(path: Path, name: str) -> Grid:
    """Where the voxels of the file lie; k runs along the slice normal.

    Args:
        path: the file.
        name: its series, for the messages.

    Raises:
        InputError: ``dicom-unreadable``; ``dicom-frames`` where its frames make no volume, or
            several.
    """
    geometry = _attempted(path, lambda image: image.get_volume_geometry())
    if geometry is None:
        raise InputError(
            "dicom-frames",
            f"The frames of the series {name} make no volume, or several: they lie at unequal "
            "distances, or more than one in each place.",
            "Export one phase, echo or b-value with equal steps.",
        )
    return volume_grid(geometry)[0]


def multiframe_voxels(path: Path, grid: Grid) -> NDArray[np.generic]:
    """Rescaled values ``[z, y, x]`` on the grid of the file: int32 where they are whole.

    Raises:
        InputError: ``dicom-unreadable``.
    """
    volume = _attempted(path, lambda image: image.get_volume(apply_real_world_transform=False))
    turned = volume_grid(volume)[1]
    values = np.asarray(volume.array)
    if values.shape != grid.size[::-1]:
        raise _unreadable(path, f"its pixels are {values.shape}")
    values = values[::-1] if turned else values
    whole = np.isfinite(values).all() and np.array_equal(values, np.rint(values))
    fits = whole and np.abs(values).max() < 2**31
    return np.ascontiguousarray(values.astype(np.int32 if fits else np.float32))


def volume_grid(place: Any) -> tuple[Grid, bool]:
    """Grid of highdicom's volume with right-handed axes, and whether its slices are reversed."""
    affine = np.asarray(place.affine, np.float64)
    along, origin = affine[:3, :3][:, ::-1].copy(), affine[:3, 3].copy()
    slices, rows, columns = (int(n) for n in place.spatial_shape)
    turned = bool(np.linalg.det(along) < 0)
    if turned:
        origin += along[:, 2] * (slices - 1)
        along[:, 2] *= -1
    spacing = np.linalg.norm(along, axis=0)
    x, y, z = (float(n) for n in origin)
    i, j, k = (float(n) for n in spacing)
    cosines = tuple(float(c) for c in (along / spacing).ravel())
    return Grid((columns, rows, slices), (i, j, k), (x, y, z), cosines), turned


def _attempted(path: Path, what: Any) -> Any:
    import highdicom as hd

    try:
        # highdicom writes a trace to the terminal before it raises.
        with quiet_readers(), redirect_stderr(io.StringIO()):
            return what(hd.imread(path, lazy_frame_retrieval=True))
    except Exception as error:  # the parsers raise almost anything
        raise _unreadable(path, error) from error


def _unreadable(path: Path, why: object) -> InputError:
    return InputError(
        "dicom-unreadable",
        f"The DICOM file {path.name} cannot be read ({printable(why, 100)}).",
        "Copy or export the series again.",
    )
