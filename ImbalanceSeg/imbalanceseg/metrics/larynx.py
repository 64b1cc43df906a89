"""Where the airway below the larynx begins, so that trees of unequal height can be compared."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.metrics.airway_tree import AirwayTree, parse_airway_tree

# Adult tracheas are 10 to 12 cm long and run obliquely; the glottis lies 2 cm above them.
_GLOTTIS_ABOVE_CARINA_MM = (50.0, 150.0)
# From the vocal folds to the lower border of the cricoid cartilage, where the trachea begins.
_SUBGLOTTIS_MM = 15.0
# The glottis is a slit: the airway is much wider below (trachea) and above (pharynx).
_WIDENING = 1.5


def below_larynx(reference: sitk.Image, tree: AirwayTree | None = None) -> sitk.Image:
    """The part of the grid below the larynx, for the ``region`` of the airway metrics.

    The glottis is the axial slice with the smallest airway cross-section 50 to 150 mm above the
    carina, if the airway is at least 1.5 times as wide somewhere between it and the carina and
    again above it. Everything from 15 mm below it upwards (lower border of the cricoid) is cut
    off. Where no slice qualifies the mask does not reach the larynx and nothing is cut. A tight
    tracheal stenosis or an infant's airway can deceive this rule: check :func:`larynx_level_mm`.

    Args:
        reference: 3D label image of the airways; any value but 0 and 255 is airway.
        tree: the parsed ``reference``, if at hand.

    Returns:
        uint8 image on the grid of ``reference``: 1 below the larynx, 0 above.

    Raises:
        InputError: the mask is empty or no label image.
    """
    level = larynx_level_mm(tree or parse_airway_tree(reference))
    grid = Grid.of(reference)
    x, y, z = (np.arange(n) for n in grid.size)
    step = grid.matrix[2] * np.asarray(grid.spacing_mm)
    height = (
        grid.origin_mm[2]
        + step[2] * z[:, None, None]
        + step[1] * y[None, :, None]
        + step[0] * x[None, None, :]
    )
    return image_from_array((height <= level).astype(np.uint8), grid)


def larynx_level_mm(tree: AirwayTree) -> float:
    """Superior LPS coordinate in mm below which the trachea begins; infinite without a larynx."""
    area = np.count_nonzero(tree.regions == tree.trachea.number, axis=(1, 2))
    middle = [(n - 1) / 2 for n in tree.grid.size[:2]]
    columns = np.array([(*middle, k) for k in range(len(area))])
    height = tree.grid.index_to_physical(columns)[:, 2]
    above = height - tree.carina_mm[2]
    low, high = _GLOTTIS_ABOVE_CARINA_MM
    candidates = np.flatnonzero((above >= low) & (above <= high) & (area > 0))
    if not len(candidates):
        return float("inf")
    glottis = int(candidates[area[candidates].argmin()])
    trachea = area[(above > 0) & (np.arange(len(area)) < glottis)].max(initial=0)
    pharynx = area[glottis + 1 :].max(initial=0)
    if min(trachea, pharynx) < _WIDENING * area[glottis]:
        return float("inf")
    return float(height[glottis] - _SUBGLOTTIS_MM)
