from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from imbalanceseg.errors import InputError
from imbalanceseg.geometry import Grid
from imbalanceseg.synthesis.airway import (
    as_difficult,
    as_scanned,
    chest_phantom,
    ct_over,
    render_case,
)
from imbalanceseg.synthesis.chest_ct import ChestStyle, random_style

CALM = ChestStyle(noise=5.0, resolution_mm=0.0, small_vessel_mm=-50.0)


def voxels(image):
    return sitk.GetArrayFromImage(image)


def test_the_label_is_exactly_where_the_distance_is_negative(tube_in_lung, coarse_chest):
    for anatomy in (tube_in_lung, coarse_chest):
        ct, label = ct_over(anatomy, seed=3)
        np.testing.assert_array_equal(voxels(label), anatomy.airway_distance_mm < 0)
        assert Grid.of(ct) == Grid.of(label) == anatomy.grid
        assert ct.GetPixelID() == sitk.sitkInt16
        assert label.GetPixelID() == sitk.sitkUInt8


def test_the_lumen_is_dark_where_the_label_is(tube_in_lung):
    ct, label = ct_over(tube_in_lung, seed=3, style=CALM)
    hu, inside = voxels(ct), voxels(label) == 1
    assert hu[inside].mean() < CALM.parenchyma - 50
    assert hu[~inside].mean() > CALM.parenchyma - 10


def test_a_phantom_follows_its_seed():
    first = chest_phantom(3, spacing_mm=3.0, scale=0.4)
    again = chest_phantom(3, spacing_mm=3.0, scale=0.4)
    for a, b in zip(first, again, strict=True):
        assert Grid.of(a) == Grid.of(b)
        np.testing.assert_array_equal(voxels(a), voxels(b))
    assert voxels(first[1]).any()


def test_the_seed_decides_the_style_and_the_noise(coarse_chest):
    base = voxels(ct_over(coarse_chest, seed=1, style=CALM)[0])
    np.testing.assert_array_equal(base, voxels(ct_over(coarse_chest, 1, CALM)[0]))
    assert (base != voxels(ct_over(coarse_chest, 2, CALM)[0])).mean() > 0.5
    louder = voxels(ct_over(coarse_chest, 1, replace(CALM, noise=60.0))[0])
    assert (base != louder).mean() > 0.5


@pytest.mark.parametrize("spacing", [(0.7, 0.7, 1.25), (1.0, 1.0, 2.5)])
def test_as_scanned_changes_the_grid_and_nothing_else(tube_in_lung, spacing):
    ct, label = ct_over(tube_in_lung, seed=3, style=CALM)
    scanned, mask = as_scanned(ct, label, spacing)
    assert Grid.of(scanned) == Grid.of(mask)
    assert scanned.GetSpacing() == pytest.approx(spacing)
    assert (scanned.GetPixelID(), mask.GetPixelID()) == (sitk.sitkInt16, sitk.sitkUInt8)
    assert set(np.unique(voxels(mask))) == {0, 1}
    before, after = (voxels(m).sum() * np.prod(m.GetSpacing()) for m in (label, mask))
    assert after == pytest.approx(before, rel=0.08)
    inside = voxels(mask) == 1
    assert voxels(scanned)[inside].mean() < voxels(scanned)[~inside].mean() - 50


def test_a_case_without_masks_is_refused(tmp_path):
    with pytest.raises(InputError) as refused:
        render_case(tmp_path, 1, seed=0)
    assert refused.value.code == "label-map-missing"


def test_the_middle_of_the_dial_leaves_the_style_as_it_is():
    style = random_style(np.random.default_rng(7))
    assert as_difficult(style, 0.5) == style


def test_the_dial_turns_noise_up_and_walls_down():
    styles = [as_difficult(ChestStyle(), d) for d in (0.0, 0.25, 0.5, 0.75, 1.0)]
    for name, growing in (("noise", True), ("resolution_mm", True), ("wall", False)):
        values = [getattr(s, name) for s in styles]
        assert values == sorted(set(values), reverse=not growing), name
    assert styles[-1].noise == pytest.approx(9 * styles[0].noise)


def test_difficulty_leaves_the_label_alone():
    easy, default, hard = (chest_phantom(3, 3.0, 0.4, difficulty=d) for d in (0.0, 0.5, 1.0))
    np.testing.assert_array_equal(voxels(default[0]), voxels(chest_phantom(3, 3.0, 0.4)[0]))
    np.testing.assert_array_equal(voxels(easy[1]), voxels(hard[1]))
    assert (voxels(easy[0]) != voxels(hard[0])).mean() > 0.5


def test_a_difficulty_that_is_none_is_refused():
    with pytest.raises(InputError) as refused:
        chest_phantom(1, 3.0, 0.4, difficulty=float("nan"))
    assert refused.value.code == "difficulty-out-of-range"
