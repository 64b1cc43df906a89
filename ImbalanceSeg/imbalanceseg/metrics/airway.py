"""How much of a bronchial tree a segmentation finds, and how much it leaks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from imbalanceseg.geometry import Grid, require_same_grid
from imbalanceseg.labels import UNLABELLED
from imbalanceseg.metrics.airway_tree import AirwayTree, tree_of
from imbalanceseg.metrics.centreline import filled, largest_component
from imbalanceseg.metrics.masks import Mask, foreground, label_values, upright
from imbalanceseg.metrics.overlap import overlap

_FOUND_PERCENT = 80


@dataclass(frozen=True)
class AirwayScore:
    """A predicted airway tree against a reference.

    P is the largest 26-connected component of the prediction, S the centreline of the largest
    component of the reference. Two empty masks score 1 with no leakage. An empty prediction scores
    0 against a tree, and so does any prediction against an empty reference.

    Attributes:
        length_detected: share of the voxels of S inside P (tree length detected). Slices at
            least twice as thick as a pixel is wide are divided first, so they do not bias it.
        branch_detected: share of branches with at least 80 % of their centreline voxels inside P.
        precision: share of P that lies in the reference.
        dice: Dice coefficient of the whole prediction with the reference.
        dice_largest: Dice coefficient of P with the reference.
        leakage_mm3: volume of P outside the reference.
        leakage_rate: that volume over the volume of the reference; infinite when it is empty.
        detected_length_mm: length of S inside P.
        reference_length_mm: length of S.
        length_detected_mm_share: their ratio; unlike voxel counts it counts diagonals in full.
        detected_branches: number of branches found.
        reference_branches: number of branches.
    """

    length_detected: float
    branch_detected: float
    precision: float
    dice: float
    dice_largest: float
    leakage_mm3: float
    leakage_rate: float
    detected_length_mm: float
    reference_length_mm: float
    length_detected_mm_share: float
    detected_branches: int
    reference_branches: int


def airway_score(
    prediction: sitk.Image, reference: sitk.Image, region: sitk.Image | None = None
) -> AirwayScore:
    """Score a predicted airway tree.

    Components and branches are found in the whole masks; after that only what lies inside
    ``region`` counts, and a branch without centreline there is left out.

    Args:
        prediction: 3D label image; any value but 0 and 255 is airway.
        reference: label image on the same grid; voxels with 255 are ignored in both.
        region: image on the same grid, nonzero where to score, for example
            :func:`~imbalanceseg.metrics.larynx.below_larynx`; everywhere when None.

    Returns:
        The figures; the same for every storage order of the axes.

    Raises:
        GeometryError: the grids differ.
        InputError: an image is no label image.

    Source: length and branches detected as in EXACT'09 (Lo et al., IEEE TMI 2012) and ATM'22.
    """
    require_same_grid(prediction, reference, ("prediction", "reference"))
    labels = label_values(reference, "reference")
    counted = labels != UNLABELLED
    found = foreground(label_values(prediction, "prediction")) & counted
    truth = foreground(labels)
    if region is not None:
        require_same_grid(region, reference, ("region", "reference"))
        counted = counted & (sitk.GetArrayViewFromImage(region) != 0)
    (found, truth, counted), grid = upright(
        [found, truth, counted], Grid.of(reference), around=found | truth
    )
    tree = tree_of(truth, grid) if truth.any() else None
    return _score(found, truth, counted, tree, float(np.prod(grid.spacing_mm)))


def length_detected(
    prediction: sitk.Image, reference: sitk.Image, region: sitk.Image | None = None
) -> float:
    """Share of the reference's centreline voxels that the prediction covers.

    Arguments and errors as in :func:`airway_score`.
    """
    return airway_score(prediction, reference, region).length_detected


def _score(
    found: Mask, truth: Mask, counted: Mask, tree: AirwayTree | None, voxel_mm3: float
) -> AirwayScore:
    largest = largest_component(found)
    whole = overlap(found & counted, truth & counted)
    main = overlap(largest & counted, truth & counted)
    leakage = main.prediction_only * voxel_mm3
    reference = (main.both + main.reference_only) * voxel_mm3
    lines = _lines_found(largest, counted, tree)
    # Without any centreline to find, finding nothing is all there is to find.
    nothing_to_find = float(main.prediction_only == 0)
    return AirwayScore(
        length_detected=_share(lines.voxels_found, lines.voxels, nothing_to_find),
        branch_detected=_share(lines.branches_found, lines.branches, nothing_to_find),
        precision=main.precision,
        dice=whole.dice,
        dice_largest=main.dice,
        leakage_mm3=leakage,
        leakage_rate=_share(leakage, reference, float("inf") if leakage else 0.0),
        detected_length_mm=lines.mm_found,
        reference_length_mm=lines.mm,
        length_detected_mm_share=_share(lines.mm_found, lines.mm, nothing_to_find),
        detected_branches=lines.branches_found,
        reference_branches=lines.branches,
    )


@dataclass(frozen=True)
class _Lines:
    """Counts along the centreline."""

    voxels: int = 0
    voxels_found: int = 0
    mm: float = 0.0
    mm_found: float = 0.0
    branches: int = 0
    branches_found: int = 0


def _lines_found(largest: Mask, counted: Mask, tree: AirwayTree | None) -> _Lines:
    if tree is None:
        return _Lines()
    at = tuple(tree.centreline.voxels.T)
    inside = counted[at]
    # The centreline may run through a cavity that was filled in the reference.
    hit = filled(largest)[at] & inside
    lengths = tree.centreline.point_lengths_mm
    size = len(tree.branches) + 1
    whole = np.bincount(tree.point_branches[inside], minlength=size)[1:]
    covered = np.bincount(tree.point_branches[hit], minlength=size)[1:]
    scored = whole > 0
    return _Lines(
        voxels=int(inside.sum()),
        voxels_found=int(hit.sum()),
        mm=float(lengths[inside].sum()),
        mm_found=float(lengths[hit].sum()),
        branches=int(scored.sum()),
        # Whole numbers: 0.8 * whole would round a branch of exactly 80 % either way.
        branches_found=int((scored & (100 * covered >= _FOUND_PERCENT * whole)).sum()),
    )


def _share(part: float, whole: float, of_nothing: float) -> float:
    return part / whole if whole else of_nothing
