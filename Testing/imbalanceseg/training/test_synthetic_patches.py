from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation

from imbalanceseg.geometry import Grid
from imbalanceseg.synthesis.anatomy import ChestAnatomy
from imbalanceseg.training import synthetic_patches
from imbalanceseg.training.synthetic_patches import (
    PatchSampling,
    SyntheticAirwayPatches,
    normalized,
)

STILL = PatchSampling(rotation_degrees=0.0, zoom=(1.0, 1.0))


def ball_chest(radius_mm: float) -> ChestAnatomy:
    """A ball of airway in the middle of 72 voxels of lung, 1 mm."""
    side = 72
    offsets = np.indices((side,) * 3) - (side - 1) / 2
    to_centre = np.sqrt((offsets**2).sum(0))
    even = np.ones((side,) * 3, np.float16)
    return ChestAnatomy(
        grid=Grid((side,) * 3, (1.0,) * 3, (0.0,) * 3, tuple(np.eye(3).ravel())),
        airway_distance_mm=np.clip(to_centre - radius_mm, -12, 12).astype(np.float16),
        airway_radius_mm=2 * even,
        centerline_weight=np.where(to_centre < radius_mm, 0.5, 1.0).astype(np.float16),
        solid_distance_mm=12 * even,
        lung_distance_mm=-12 * even,
        fissure_distance_mm=12 * even,
        body_distance_mm=-40 * even,
    )


def test_patches_repeat_with_their_seed(small_chest):
    first = SyntheticAirwayPatches([small_chest], seed=4)
    again = SyntheticAirwayPatches([small_chest], seed=4)
    other = SyntheticAirwayPatches([small_chest], seed=5)
    for _ in range(2):
        one, two, three = (source.batch(2, 16) for source in (first, again, other))
        for a, b in zip(one, two, strict=True):
            assert torch.equal(a, b)
        assert not torch.equal(one[0], three[0])


def test_a_batch_has_one_channel_and_values_in_range(small_chest):
    hu, label, weight = SyntheticAirwayPatches([small_chest], seed=1).batch(3, 24)
    for part in (hu, label, weight):
        assert part.shape == (3, 1, 24, 24, 24)
        assert part.dtype == torch.float32
        assert bool(torch.isfinite(part).all())
    assert float(hu.min()) >= -1024
    assert float(hu.max()) <= 3071
    assert set(label.unique().tolist()) <= {0.0, 1.0}
    assert float(weight.min()) >= 0
    assert float(weight.max()) <= 1 + 1e-6, "but for rounding of the interpolation"


def test_no_two_patches_of_a_source_are_alike(small_chest):
    hu, _, _ = SyntheticAirwayPatches([small_chest], seed=1).batch(3, 16)
    assert not torch.equal(hu[0], hu[1])
    assert not torch.equal(hu[1], hu[2])


def test_the_label_marks_what_is_dark(small_chest):
    """Voxels of the label are darker than the walls and lung around them."""
    wide = PatchSampling(small_airway=0.0, airway=1.0)
    hu, label, _ = SyntheticAirwayPatches([small_chest], 2, wide).batch(10, 24)
    darker = []
    for image, mask in zip(hu[:, 0].numpy(), label[:, 0].numpy() > 0, strict=True):
        shell = binary_dilation(mask, iterations=2) & ~mask
        if mask.sum() > 30:
            darker.append(image[shell].mean() - image[mask].mean())
    assert len(darker) >= 5
    assert np.mean(darker) > 50
    assert np.mean(np.array(darker) > 0) >= 0.8


def test_airway_centred_patches_hold_airway(small_chest):
    def holding(sampling: PatchSampling) -> float:
        _, label, _ = SyntheticAirwayPatches([small_chest], 3, sampling).batch(12, 16)
        return float((label.flatten(1).sum(1) > 0).float().mean())

    assert holding(PatchSampling(small_airway=0.0, airway=1.0)) > 0.9
    assert holding(PatchSampling(small_airway=1.0, airway=0.0)) > 0.9
    assert holding(PatchSampling(small_airway=0.0, airway=0.0)) < 0.9


def test_wide_airways_are_visited_evenly_along_their_length():
    """A tube four times as wide has 16 times the voxels of one as long, and as many patches."""
    chest = ball_chest(5.0)
    _, y, x = np.indices(chest.airway_distance_mm.shape)
    thin = np.hypot(y - 18, x - 18) - 3
    thick = np.hypot(y - 48, x - 48) - 12
    tubes = replace(
        chest,
        airway_distance_mm=np.clip(np.minimum(thin, thick), -12, 12).astype(np.float16),
        airway_radius_mm=np.where(thin < thick, 3, 12).astype(np.float16),
    )
    places = synthetic_patches._centres(tubes)["airway"]
    rng = np.random.default_rng(0)
    drawn = np.stack([places.drawn(rng) for _ in range(2000)])
    assert np.mean(drawn[:, 1] < 33) == pytest.approx(0.5, abs=0.05)
    assert drawn[:, 0].min() < 4
    assert drawn[:, 0].max() > 67


@pytest.mark.parametrize("seed", range(6))
def test_without_turn_or_zoom_the_warp_is_a_flipped_crop(small_chest, seed):
    source = SyntheticAirwayPatches([small_chest], seed, STILL)
    draws = copy.deepcopy(source.rng)
    draws.uniform(0, 1)
    draws.normal(size=3)
    flips = draws.choice([-1.0, 1.0], 3, p=[0.3, 0.7])
    voxel, side = np.array([60, 40, 55]), 17
    warped = source._warp(source.stacks[0], voxel, side, 1.0)
    z, y, x = (slice(v - side // 2, v + side // 2 + 1) for v in voxel)
    crop = source.stacks[0][:, z, y, x].float()
    expected = crop.flip([axis + 1 for axis, flip in enumerate(flips) if flip < 0])
    torch.testing.assert_close(warped, expected, atol=2e-3, rtol=0)


def test_all_flips_and_no_flip_occur():
    chest = ball_chest(5.0)
    source = SyntheticAirwayPatches([chest], 0, STILL)
    ramp = torch.arange(72.0)
    stack = torch.stack(
        [ramp.reshape([-1 if a == k else 1 for k in range(3)]).expand(72, 72, 72) for a in range(3)]
    )
    seen = set()
    for _ in range(60):
        warped = source._warp(stack, np.array([36, 36, 36]), 5, 1.0)
        slopes = [float(warped[a].diff(dim=a).mean()) for a in range(3)]
        np.testing.assert_allclose(np.abs(slopes), 1, atol=1e-3)
        seen.add(tuple(np.sign(slopes)))
    assert (1.0, 1.0, 1.0) in seen
    assert len(seen) >= 6


@pytest.mark.parametrize("degrees", [0.0, 20.0])
@pytest.mark.parametrize("zoom", [0.8, 1.3])
def test_zoom_magnifies_the_anatomy_and_keeps_its_shape(zoom, degrees):
    sampling = PatchSampling(1.0, 0.0, rotation_degrees=degrees, zoom=(zoom, zoom))
    _, label, weight = SyntheticAirwayPatches([ball_chest(4.0)], 1, sampling).batch(2, 64)
    volume = 4 / 3 * np.pi * (4.0 * zoom) ** 3
    for mask in label[:, 0]:
        assert float(mask.sum()) == pytest.approx(volume, rel=0.1)
        extents = [int(mask.amax(dim=[d for d in range(3) if d != a]).sum()) for a in range(3)]
        assert max(extents) - min(extents) <= 2
    deep = torch.nn.functional.avg_pool3d(label, 5, 1, 2) == 1
    torch.testing.assert_close(weight[deep], torch.full_like(weight[deep], 0.5), atol=1e-3, rtol=0)


@pytest.mark.parametrize("zoom", [0.8, 1.3])
def test_distances_stay_millimetres_under_zoom(monkeypatch, zoom):
    painted = []

    def paint(maps, *_):
        painted.append({name: value.clone() for name, value in maps.items()})
        return maps["airway_distance_mm"]

    monkeypatch.setattr(synthetic_patches, "render_chest_ct", paint)
    sampling = PatchSampling(1.0, 0.0, rotation_degrees=20.0, zoom=(zoom, zoom))
    SyntheticAirwayPatches([ball_chest(4.0)], 1, sampling).batch(1, 48)
    distance, radius = (painted[0][f"airway_{name}_mm"] for name in ("distance", "radius"))
    slope = torch.stack(torch.gradient(distance)).norm(dim=0)
    near = (distance > 0) & (distance < 4)
    assert float(slope[near].mean()) == pytest.approx(1, abs=0.03)
    torch.testing.assert_close(radius, torch.full_like(radius, 2 * zoom))


def test_a_chest_without_bronchi_of_a_kind_still_gives_patches():
    source = SyntheticAirwayPatches([ball_chest(4.0)], 1, PatchSampling(0.0, 1.0, 0.0))
    hu, _, _ = source.batch(2, 16)
    assert bool(torch.isfinite(hu).all())


def test_a_patch_larger_than_the_chest_is_finite():
    hu, label, _ = SyntheticAirwayPatches([ball_chest(4.0)], 1).batch(1, 96)
    assert bool(torch.isfinite(hu).all())
    assert float(label.sum()) > 0


def test_chests_are_all_used(small_chest):
    empty = replace(small_chest, centerline_weight=small_chest.centerline_weight * 0)
    source = SyntheticAirwayPatches([small_chest, empty], 6)
    _, _, weight = source.batch(10, 16)
    used = {bool(w.max() > 0) for w in weight}
    assert used == {True, False}


def test_normalized_clips_and_scales():
    hu = torch.tensor([-2000.0, -1000.0, -300.0, 400.0, 3000.0])
    expected = torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0])
    torch.testing.assert_close(normalized(hu, (-1000.0, 400.0)), expected)
