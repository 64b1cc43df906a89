"""Surface distances of shapes whose distances are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from imbalanceseg.metrics.surface import assd_mm, hausdorff_mm, surface_dice

SPACING = (3.0, 1.0, 0.5)
ANY_MASK = arrays(np.bool_, (4, 5, 6))


def block(shift: tuple[int, int, int] = (0, 0, 0)) -> np.ndarray:
    mask = np.zeros((16, 16, 16), bool)
    mask[4:9, 4:9, 4:9] = True
    return np.roll(mask, shift, (0, 1, 2))


@pytest.mark.parametrize(("axis", "step"), list(enumerate(SPACING)))
def test_a_shifted_block_is_as_far_as_it_was_shifted(axis: int, step: float) -> None:
    shift = [0, 0, 0]
    shift[axis] = 2
    moved = block((shift[0], shift[1], shift[2]))
    assert hausdorff_mm(block(), moved, SPACING) == pytest.approx(2 * step)
    assert hausdorff_mm(block(), moved, SPACING, 95) <= 2 * step + 1e-6


def test_the_percentile_forgives_a_single_far_voxel() -> None:
    stray = block()
    stray[15, 6, 6] = True
    assert hausdorff_mm(stray, block(), SPACING) == pytest.approx(7 * 3.0)
    assert hausdorff_mm(stray, block(), SPACING, 95) == 0.0


def test_the_tolerance_decides_what_counts_as_the_same_surface() -> None:
    moved = block((1, 0, 0))
    assert surface_dice(block(), block(), SPACING, 0) == 1.0
    assert surface_dice(block(), moved, SPACING, 3.0) == pytest.approx(1.0)
    assert 0 < surface_dice(block(), moved, SPACING, 1.0) < 1
    far = block((7, 7, 7))
    assert surface_dice(block(), far, SPACING, 0.5) == pytest.approx(0, abs=0.01)


def test_surface_dice_weighs_surface_elements_by_their_area() -> None:
    """A slab of 9x9 voxels: moving its two broad faces costs more than moving its rim."""
    slab = np.zeros((20, 20, 20), bool)
    slab[8:11, 5:14, 5:14] = True
    broad = surface_dice(slab, np.roll(slab, 1, 0), (1, 1, 1), 0.5)
    rim = surface_dice(slab, np.roll(slab, 1, 1), (1, 1, 1), 0.5)
    assert broad < 0.45 < 0.8 < rim


@settings(max_examples=40, deadline=None)
@given(ANY_MASK, ANY_MASK)
def test_identities(first: np.ndarray, second: np.ndarray) -> None:
    there, back = (hausdorff_mm(*pair, SPACING) for pair in ((first, second), (second, first)))
    assert there == back
    assert hausdorff_mm(first, second, SPACING, 95) <= there
    assert assd_mm(first, second, SPACING) <= there
    dice = surface_dice(first, second, SPACING, 1.0)
    assert 0 <= dice <= 1
    assert dice == pytest.approx(surface_dice(second, first, SPACING, 1.0))
    assert surface_dice(first, first, SPACING, 0) == 1.0
    if np.isfinite(there):
        assert surface_dice(first, second, SPACING, 1.0) <= surface_dice(
            first, second, SPACING, there + 5.0
        )


def test_the_box_around_both_masks_cuts_no_surface_off() -> None:
    """Shapes at the border of the array have a surface there too."""
    first, second = block(), block((1, 1, 0))
    tight = first[4:10, 4:10, 4:9], second[4:10, 4:10, 4:9]
    for metric in (hausdorff_mm, assd_mm):
        assert metric(*tight, SPACING) == pytest.approx(metric(first, second, SPACING))
    assert surface_dice(*tight, SPACING, 0.7) == pytest.approx(
        surface_dice(first, second, SPACING, 0.7)
    )


def test_empty_masks_are_defined() -> None:
    empty = np.zeros_like(block())
    assert surface_dice(empty, empty, SPACING, 1.0) == 1.0
    assert surface_dice(empty, block(), SPACING, 1.0) == 0.0
    assert surface_dice(block(), empty, SPACING, 1.0) == 0.0
    assert hausdorff_mm(empty, empty, SPACING) == 0.0
    assert hausdorff_mm(empty, block(), SPACING) == float("inf")
