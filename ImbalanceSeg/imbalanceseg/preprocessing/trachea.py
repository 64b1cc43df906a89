"""The trachea in a chest CT, found as what it is: a round column of air in the upper chest."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from imbalanceseg.geometry import Grid, image_from_array, resample

_AIR_HU = -800
_AREA_MM2 = (60.0, 700.0)
_MIN_LENGTH_MM = 20.0
_LARGE_VOXELS = 2**27
_FINEST_MM = 0.5

_Column = list[tuple[int, NDArray[np.bool_]]]


def tracheal_column(ct: sitk.Image) -> sitk.Image | None:
    """The lumen of the trachea between larynx and carina, as far as it is round.

    Round air within the body is followed slice by slice from the top through the upper two thirds
    of the scan; the longest column wins.

    Args:
        ct: 3D CT in HU, any orientation.

    Returns:
        uint8 image on the grid of ``ct``, 1 in the column, or None when no column of at least
        20 mm was found.
    """
    grid = Grid.of(ct).oriented_lps()
    if ct.GetNumberOfPixels() > _LARGE_VOXELS:
        # The trachea is wide: its column in half a millimetre is the same, and far smaller.
        grid = grid.with_spacing(tuple(max(_FINEST_MM, step) for step in grid.spacing_mm))
    # In a function of its own: the copy is large, and gone before the next one is made.
    column = _upright_column(resample(ct, grid, "nearest"))
    return None if column is None else resample(column, Grid.of(ct), "nearest")


def _upright_column(upright: sitk.Image) -> sitk.Image | None:
    values = sitk.GetArrayViewFromImage(upright)
    longest = _longest_column(values, float(np.prod(upright.GetSpacing()[:2])))
    if len(longest) * upright.GetSpacing()[2] < _MIN_LENGTH_MM:
        return None
    mask = np.zeros(values.shape, np.uint8)
    for k, disc in longest:
        mask[k] = disc
    return image_from_array(mask, Grid.of(upright))


def _longest_column(values: NDArray[np.number], pixel_mm2: float) -> _Column:
    columns: list[_Column] = []
    longest: _Column = []
    for k in range(values.shape[0] - 1, values.shape[0] // 3, -1):
        continued = []
        for disc in _round_air(values[k], pixel_mm2):
            above = [c for c in columns if (c[-1][1] & disc).any()]
            column = [*max(above, key=len, default=[]), (k, disc)]
            continued.append(column)
            longest = max(longest, column, key=len)
        columns = continued
    return longest


def _round_air(values: NDArray[np.number], pixel_mm2: float) -> list[NDArray[np.bool_]]:
    """Round discs of air in an axial slice that do not touch its border."""
    from scipy import ndimage

    numbers, _ = ndimage.label(values < _AIR_HU)
    areas = np.bincount(numbers.ravel()) * pixel_mm2
    discs = []
    for number, box in enumerate(ndimage.find_objects(numbers), start=1):
        if not _AREA_MM2[0] <= areas[number] <= _AREA_MM2[1]:
            continue
        rows, columns = (span.stop - span.start for span in box)
        at_border = any(
            span.start == 0 or span.stop == n for span, n in zip(box, values.shape, strict=True)
        )
        fills = areas[number] / pixel_mm2 / (rows * columns)
        # A disc fills 0.79 of its box; a coronally or sagittally flat trachea is up to 2 to 1.
        if not at_border and fills > 0.6 and 0.45 < rows / columns < 2.2:
            discs.append(numbers == number)
    return discs
