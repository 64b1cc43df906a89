"""Where the lungs and the trachea lie in a chest CT, so that nothing else is computed."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from imbalanceseg.geometry import Grid, resample

_WORKING_MM = 3.0
_AIR_HU = -400
_SMALLEST_LUNG_ML = 100.0
_MARGIN_MM = 12.0


def airway_box(ct: sitk.Image) -> Grid | None:
    """The part of a CT that holds lungs and airways.

    Air inside the body is air that does not reach the rim of its axial slice. Its largest
    components are the lungs with the airways that lead into them; consolidated lung is solid, so
    the box is theirs plus a margin rather than their exact outline.

    Args:
        ct: 3D CT in HU, any orientation.

    Returns:
        An LPS-oriented grid with the voxels of ``ct`` cropped to the box, or None when no air of at
        least 100 ml lies inside the body.
    """
    import cc3d
    from scipy.ndimage import binary_fill_holes

    whole = Grid.of(ct).oriented_lps()
    spacing = tuple(max(_WORKING_MM, s) for s in whole.spacing_mm)
    coarse = whole.with_spacing(spacing)
    hu = sitk.GetArrayFromImage(resample(ct, coarse, "linear", outside=-1024))
    air = hu < _AIR_HU
    body = np.stack([binary_fill_holes(_largest_2d(~s)) for s in air])
    inside = air & body
    voxel_ml = float(np.prod(coarse.spacing_mm)) / 1000.0
    components, count = cc3d.connected_components(inside, connectivity=26, return_N=True)
    volumes = np.bincount(components.ravel(), minlength=count + 1).astype(float) * voxel_ml
    volumes[0] = 0
    if volumes.max() < _SMALLEST_LUNG_ML:
        return None
    lungs = np.isin(components, np.flatnonzero(volumes > 0.15 * volumes.max()))
    return _with_margin(whole, coarse, lungs)


def _largest_2d(mask: np.ndarray) -> np.ndarray:
    """The largest solid region of a slice: the trunk without table and arms' clothing."""
    import cc3d

    components = cc3d.connected_components(mask, connectivity=8)
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    return components == sizes.argmax() if sizes.max() else mask


def _with_margin(whole: Grid, coarse: Grid, mask: np.ndarray) -> Grid:
    where = np.argwhere(mask)[:, ::-1]
    low = coarse.index_to_physical(where.min(0) - 0.5)
    high = coarse.index_to_physical(where.max(0) + 0.5)
    margin = whole.matrix @ np.full(3, _MARGIN_MM)
    start = np.floor(whole.physical_to_index(low - margin)).astype(int)
    stop = np.ceil(whole.physical_to_index(high + margin)).astype(int) + 1
    start = np.clip(start, 0, whole.size)
    stop = np.clip(stop, 0, whole.size)
    return whole.cropped(start, stop - start)
