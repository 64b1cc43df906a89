"""Pieces of painted chest CT that the airway model is trained on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.ndimage import binary_dilation

from imbalanceseg.geometry import Grid
from imbalanceseg.synthesis import airway_cases, library
from imbalanceseg.synthesis.airway_cases import AirwayHost, AirwaySources, Placing, airway_case
from imbalanceseg.synthesis.anatomy import ChestAnatomy
from imbalanceseg.synthesis.tree_growth import grow_chest

STILL = Placing(rotation_degrees=0.0, zoom=(1.0, 1.0), side=17)


@pytest.fixture(scope="module")
def small_chest() -> ChestAnatomy:
    """A grown chest of 0.4 times the size of an adult's, 1 mm voxels."""
    return grow_chest(1, spacing_mm=1.0, scale=0.4)


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


def sources(*chests: ChestAnatomy) -> AirwaySources:
    hosts = [AirwayHost(f"chest {n}", chest) for n, chest in enumerate(chests)]
    return AirwaySources(hosts, [AirwayHost("another chest", chests[0])])


def arrays(seed, of, placing, validation=False):
    image, label, _ = airway_case(seed, of, validation, placing)
    return sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(label)


def warped_maps(chest, voxel, placing, rng, device="cpu"):
    host = AirwayHost("a chest", chest)
    return airway_cases._warped(host, voxel, placing, rng, torch.device(device))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_sees_the_same_maps(small_chest):
    voxel = np.array([60, 40, 55])
    here, there = (
        warped_maps(small_chest, voxel, Placing(side=32), np.random.default_rng(0), device)
        for device in ("cpu", "cuda")
    )
    for name, values in here.items():
        torch.testing.assert_close(there[name].cpu(), values, atol=2e-3, rtol=0)


def test_a_case_repeats_with_its_seed(small_chest):
    of, placing = sources(small_chest), Placing(side=16)
    one, again, other = (arrays(seed, of, placing)[0] for seed in (4, 4, 5))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


def test_image_and_label_lie_on_one_grid(small_chest):
    image, label, about = airway_case(1, sources(small_chest), placing=Placing(side=24))
    assert image.GetPixelID() == sitk.sitkInt16
    assert label.GetPixelID() == sitk.sitkUInt8
    assert Grid.of(image) == Grid.of(label)
    assert image.GetSize() == (24, 24, 24)
    assert image.GetSpacing() == small_chest.grid.spacing_mm
    hu = sitk.GetArrayFromImage(image)
    assert -1024 <= hu.min() < hu.max() <= 3071
    assert set(np.unique(sitk.GetArrayFromImage(label))) <= {0, 1}
    assert about.startswith("chest 0, ")
    assert about.endswith(" slices")


def test_validation_is_made_of_other_chests_and_other_numbers(small_chest):
    of, placing = sources(small_chest), Placing(side=16)
    assert airway_case(4, of, True, placing)[2].startswith("another chest")
    assert (arrays(4, of, placing)[0] != arrays(4, of, placing, validation=True)[0]).any()


def test_the_label_marks_what_is_dark(small_chest):
    """Voxels of the label are darker than the walls and lung around them."""
    wide, darker = Placing(small_airway=0.0, airway=1.0, side=24), []
    for seed in range(10):
        hu, label = arrays(seed, sources(small_chest), wide)
        mask = label > 0
        shell = binary_dilation(mask, iterations=2) & ~mask
        if mask.sum() > 30:
            darker.append(hu[shell].mean() - hu[mask].mean())
    assert len(darker) >= 5
    assert np.mean(darker) > 50
    assert np.mean(np.array(darker) > 0) >= 0.8


def test_airway_centred_pieces_hold_airway(small_chest):
    def holding(small: float, wide: float) -> float:
        placing = Placing(small_airway=small, airway=wide, pleura=0.0, side=16)
        labels = [arrays(seed, sources(small_chest), placing)[1] for seed in range(12)]
        return float(np.mean([label.any() for label in labels]))

    assert holding(0.0, 1.0) > 0.9
    assert holding(1.0, 0.0) > 0.9
    assert holding(0.0, 0.0) < 0.9


def test_wide_airways_are_visited_evenly_along_their_length():
    """A tube four times as wide has 16 times the voxels of one as long, and as many pieces."""
    chest = ball_chest(5.0)
    _, y, x = np.indices(chest.airway_distance_mm.shape)
    thin = np.hypot(y - 18, x - 18) - 3
    thick = np.hypot(y - 48, x - 48) - 12
    tubes = replace(
        chest,
        airway_distance_mm=np.clip(np.minimum(thin, thick), -12, 12).astype(np.float16),
        airway_radius_mm=np.where(thin < thick, 3, 12).astype(np.float16),
    )
    places = AirwayHost("tubes", tubes).places["airway"]
    rng = np.random.default_rng(0)
    drawn = np.stack([places.drawn(rng) for _ in range(2000)])
    assert np.mean(drawn[:, 1] < 33) == pytest.approx(0.5, abs=0.05)
    assert drawn[:, 0].min() < 4
    assert drawn[:, 0].max() > 67


@pytest.mark.parametrize("seed", range(6))
def test_without_turn_or_zoom_the_warp_is_a_flipped_crop(small_chest, seed):
    draws = np.random.default_rng(seed)
    draws.uniform(1.0, 1.0)
    draws.uniform(0, 1)
    draws.normal(size=3)
    flips = draws.choice([-1.0, 1.0], 3, p=[0.3, 0.7])
    voxel = np.array([60, 40, 55])
    warped = warped_maps(small_chest, voxel, STILL, np.random.default_rng(seed))
    z, y, x = (slice(v - 8, v + 9) for v in voxel)
    for name in small_chest.map_names():
        crop = torch.from_numpy(getattr(small_chest, name)[z, y, x].astype(np.float32))
        expected = crop.flip([axis for axis, flip in enumerate(flips) if flip < 0])
        torch.testing.assert_close(warped[name], expected, atol=2e-3, rtol=0)


def test_all_flips_and_no_flip_occur():
    ramp = np.arange(72, dtype=np.float16)
    along = [
        np.broadcast_to(ramp.reshape([-1 if a == k else 1 for k in range(3)]), (72,) * 3)
        for a in range(3)
    ]
    names = ("fissure_distance_mm", "solid_distance_mm", "lung_distance_mm")
    chest = replace(ball_chest(5.0), **dict(zip(names, along, strict=True)))
    rng, seen = np.random.default_rng(0), set()
    for _ in range(60):
        maps = warped_maps(chest, np.array([36, 36, 36]), replace(STILL, side=5), rng)
        slopes = [float(maps[name].diff(dim=axis).mean()) for axis, name in enumerate(names)]
        np.testing.assert_allclose(np.abs(slopes), 1, atol=1e-3)
        seen.add(tuple(np.sign(slopes)))
    assert (1.0, 1.0, 1.0) in seen
    assert len(seen) >= 6


@pytest.mark.parametrize("degrees", [0.0, 20.0])
@pytest.mark.parametrize("zoom", [0.8, 1.3])
def test_zoom_magnifies_the_anatomy_and_keeps_its_shape(zoom, degrees):
    placing = Placing(1.0, 0.0, rotation_degrees=degrees, zoom=(zoom, zoom), side=64)
    mask = arrays(1, sources(ball_chest(4.0)), placing)[1] > 0
    assert mask.sum() == pytest.approx(4 / 3 * np.pi * (4.0 * zoom) ** 3, rel=0.1)
    extents = [int(mask.any(axis=tuple(d for d in range(3) if d != a)).sum()) for a in range(3)]
    assert max(extents) - min(extents) <= 2


@pytest.mark.parametrize("zoom", [0.8, 1.3])
def test_distances_stay_millimetres_under_zoom(zoom):
    placing = Placing(rotation_degrees=20.0, zoom=(zoom, zoom), side=48)
    rng = np.random.default_rng(1)
    maps = warped_maps(ball_chest(4.0), np.array([36, 36, 36]), placing, rng)
    distance, radius = (maps[f"airway_{name}_mm"] for name in ("distance", "radius"))
    slope = torch.stack(torch.gradient(distance)).norm(dim=0)
    near = (distance > 0) & (distance < 4)
    assert float(slope[near].mean()) == pytest.approx(1, abs=0.03)
    torch.testing.assert_close(radius, torch.full_like(radius, 2 * zoom))


def test_a_chest_without_bronchi_of_a_kind_still_gives_pieces():
    hu, _ = arrays(1, sources(ball_chest(4.0)), Placing(0.0, 1.0, 0.0, side=16))
    assert np.ptp(hu) > 0


def test_a_piece_larger_than_the_chest_holds_all_of_its_airway():
    _, label = arrays(1, sources(ball_chest(4.0)), Placing(side=96))
    assert label.sum() > 100


def test_chests_are_all_used(small_chest):
    of, placing = sources(small_chest, small_chest), Placing(side=16)
    names = {airway_case(seed, of, placing=placing)[2].split(",")[0] for seed in range(10)}
    assert names == {"chest 0", "chest 1"}


def test_without_label_maps_all_chests_are_grown(tmp_path, monkeypatch, small_chest):
    monkeypatch.setattr(library, "grow_chest", lambda seed, spacing_mm: small_chest)
    read = AirwaySources.read(tmp_path, tmp_path / "library")
    assert all(host.name.startswith("grown chest") for host in (*read.training, *read.validation))
    assert not {host.name for host in read.training} & {host.name for host in read.validation}


def test_the_patient_that_judges_is_not_learned_from():
    assert 4 not in airway_cases._PATIENTS
