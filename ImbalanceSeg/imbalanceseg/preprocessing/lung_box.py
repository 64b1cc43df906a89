"""Where the lungs and the trachea lie in a chest CT, so that nothing else is computed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from imbalanceseg.geometry import Grid, image_from_array, resample

_WORKING_MM = 3.0
_AIR_HU = -400
_THICK_MM = 6.0
_SMALLEST_LUNG_ML = 100.0
_MARGIN_MM = 12.0
_MARGIN_ABOVE_MM = 40.0
"""At a few millimetres the glottis closes: the airway above it counts as a piece of its own."""


@dataclass(frozen=True)
class ChestRegion:
    """Where airways can lie in a chest CT.

    Attributes:
        box: LPS-oriented grid with the CT's own voxels, cropped to lungs and airways.
        body: uint8 image on a coarse grid, 1 inside the trunk and the neck, lungs included.
    """

    box: Grid
    body: sitk.Image


def chest_region(ct: sitk.Image) -> ChestRegion | None:
    """The part of a CT that holds lungs and airways.

    The trunk is what stays of the solid voxels of each axial slice once thin structures (table,
    mattress, clothes) are opened away, holes filled. A thin chest wall is opened away too, so air
    that the slice encloses belongs to the body as well when most of it lies among the trunk; the
    hollow of a table does not. The largest components of air are the lungs with the airways that
    lead into them; consolidated lung is solid, so the box is theirs plus a margin rather than
    their exact outline.

    Args:
        ct: 3D CT in HU, any orientation.

    Returns:
        Box and trunk, or None when no air of at least 100 ml lies inside the body.
    """
    import cc3d

    whole = Grid.of(ct).oriented_lps()
    coarse = whole.with_spacing(tuple(max(_WORKING_MM, s) for s in whole.spacing_mm))
    hu = sitk.GetArrayFromImage(resample(ct, coarse, "linear", outside=-1024))
    air = hu < _AIR_HU
    body = _body(air, coarse.spacing_mm[0])
    voxel_ml = float(np.prod(coarse.spacing_mm)) / 1000.0
    components, count = cc3d.connected_components(air & body, connectivity=26, return_N=True)
    volumes = np.bincount(components.ravel(), minlength=count + 1).astype(float) * voxel_ml
    volumes[0] = 0
    if volumes.max() < _SMALLEST_LUNG_ML:
        return None
    lungs = np.isin(components, np.flatnonzero(volumes > 0.15 * volumes.max()))
    return ChestRegion(
        _with_margin(whole, coarse, lungs), image_from_array(body.astype(np.uint8), coarse)
    )


def _body(air: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Trunk and neck with the air in them; ``air`` is ``[Z, Y, X]`` with axial slices along Z."""
    import cc3d
    from scipy.ndimage import binary_fill_holes
    from skimage.morphology import convex_hull_image

    trunk = np.stack([_trunk(~axial, spacing_mm) for axial in air])
    enclosed = air & np.stack([binary_fill_holes(~axial) for axial in air])
    among = np.stack([convex_hull_image(t) if t.any() else t for t in trunk])
    components, count = cc3d.connected_components(enclosed, connectivity=6, return_N=True)
    sizes = np.bincount(components.ravel(), minlength=count + 1)
    inside = np.bincount(components[among], minlength=count + 1)
    belongs = inside > 0.5 * sizes
    belongs[0] = False
    return np.stack([binary_fill_holes(axial) for axial in trunk | belongs[components]])


def _trunk(solid: np.ndarray, spacing_mm: float) -> np.ndarray:
    """The largest thick region of an axial slice ``[Y, X]``, holes filled."""
    import cc3d
    from scipy.ndimage import binary_fill_holes, binary_opening
    from skimage.morphology import disk

    thick = binary_opening(solid, disk(max(1, round(_THICK_MM / spacing_mm))))
    components = cc3d.connected_components(thick, connectivity=4)
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    if not sizes.max():
        return np.zeros_like(solid)
    filled: np.ndarray = binary_fill_holes(components == sizes.argmax())
    return filled


def _with_margin(whole: Grid, coarse: Grid, mask: np.ndarray) -> Grid:
    where = np.argwhere(mask)[:, ::-1]
    low = coarse.index_to_physical(where.min(0) - 0.5)
    high = coarse.index_to_physical(where.max(0) + 0.5)
    margin = whole.matrix @ np.full(3, _MARGIN_MM)
    margin_above = whole.matrix @ np.array([_MARGIN_MM, _MARGIN_MM, _MARGIN_ABOVE_MM])
    start = np.floor(whole.physical_to_index(low - margin)).astype(int)
    stop = np.ceil(whole.physical_to_index(high + margin_above)).astype(int) + 1
    start = np.clip(start, 0, whole.size)
    stop = np.clip(stop, 0, whole.size)
    return whole.cropped(start, stop - start)
