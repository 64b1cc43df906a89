from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imbalanceseg.synthesis.chest_ct import (
    ChestStyle,
    random_style,
    render_chest_ct,
    training_style,
)

PLAIN = ChestStyle(
    lumen_rise=0.0,
    parenchyma_gradient=0.0,
    parenchyma_texture=0.0,
    small_vessel_mm=-50.0,
    fissure_mm=0.0,
    resolution_mm=0.0,
    slice_thickness_mm=0.8,
    noise=0.0,
)
"""Nothing but lung, wall and lumen, seen by a perfect scanner."""


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def maps_of(anatomy):
    return {name: torch.from_numpy(getattr(anatomy, name)).float() for name in anatomy.map_names()}


@pytest.fixture
def tube(tube_in_lung):
    return maps_of(tube_in_lung)


@pytest.fixture
def no_airway(tube):
    return tube | {"airway_distance_mm": torch.full_like(tube["airway_distance_mm"], 12.0)}


def test_lumen_and_parenchyma_have_the_style_s_values(tube):
    hu = render_chest_ct(tube, 0.8, PLAIN, generator())
    inside = tube["airway_distance_mm"] < -0.5
    outside = tube["airway_distance_mm"] > 4
    torch.testing.assert_close(hu[inside], torch.full_like(hu[inside], PLAIN.lumen))
    torch.testing.assert_close(hu[outside], torch.full_like(hu[outside], PLAIN.parenchyma))


def test_narrow_lumens_are_brighter_by_the_rise(tube):
    risen = replace(PLAIN, lumen_rise=60.0)
    hu = render_chest_ct(tube, 0.8, risen, generator())
    inside = tube["airway_distance_mm"] < -0.5
    assert float(hu[inside].mean()) == pytest.approx(risen.lumen + 60 / (1 + 5), abs=0.1)


def test_the_wall_is_brighter_than_both_sides(tube):
    hu = render_chest_ct(tube, 0.8, replace(PLAIN, wall_base_mm=1.0), generator())
    distance = tube["airway_distance_mm"]
    wall = hu[(distance > 0.4) & (distance < 0.7)]
    assert float(wall.mean()) > PLAIN.wall - 100
    assert float(wall.min()) > max(PLAIN.lumen, PLAIN.parenchyma)


def test_partial_volume_conserves_the_lumen(tube):
    """A wall and a lung of 0 HU make the sum of the image count the lumen's volume."""
    style = replace(PLAIN, wall=0.0, parenchyma=0.0, lumen=-1000.0)
    hu = render_chest_ct(tube, 0.8, style, generator())
    area_mm2 = float(-hu[20].sum()) / 1000 * 0.8**2
    assert area_mm2 == pytest.approx(np.pi * 5**2, rel=0.01)


def test_a_homogeneous_lung_has_the_style_s_noise(no_airway):
    for grain in (0.0, 0.6):
        style = replace(PLAIN, noise=25.0, noise_grain_mm=grain)
        hu = render_chest_ct(no_airway, 0.8, style, generator(4))
        assert float(hu.std()) == pytest.approx(25.0, rel=0.02)
        assert float(hu.mean()) == pytest.approx(PLAIN.parenchyma, abs=2)


def test_grain_correlates_neighbouring_noise(no_airway):
    def neighbours(grain: float) -> float:
        style = replace(PLAIN, noise=25.0, noise_grain_mm=grain)
        hu = render_chest_ct(no_airway, 0.8, style, generator(4))
        return float(torch.corrcoef(torch.stack([hu[:-1].flatten(), hu[1:].flatten()]))[0, 1])

    assert abs(neighbours(0.0)) < 0.05
    assert neighbours(0.8) > 0.3


def test_values_stay_in_the_range_of_a_ct(tube):
    loud = replace(PLAIN, noise=2500.0)
    hu = render_chest_ct(tube, 0.8, loud, generator())
    assert (float(hu.min()), float(hu.max())) == (-1024.0, 3071.0)


@pytest.mark.parametrize("axis", [1, 2])
def test_the_slice_axis_only_turns_the_scanner(no_airway, axis):
    # Vessels are painted without chance, so the turned anatomy gives the turned image.
    z, y, x = torch.meshgrid(*[torch.arange(40.0) * 0.8] * 3, indexing="ij")
    vessel = ((z - 10) ** 2 + (y - 15) ** 2 + (x - 19) ** 2).sqrt() - 4
    maps = no_airway | {"solid_distance_mm": vessel}
    thick = replace(PLAIN, slice_thickness_mm=3.0, resolution_mm=0.5)
    hu = render_chest_ct(maps, 0.8, thick, generator(), slice_axis=axis)
    turned = {name: value.movedim(axis, 0) for name, value in maps.items()}
    expected = render_chest_ct(turned, 0.8, thick, generator()).movedim(0, axis)
    torch.testing.assert_close(hu, expected)
    across = render_chest_ct(maps, 0.8, thick, generator())
    assert float((hu - across).abs().max()) > 20


def test_thick_slices_blur_along_their_axis_only(no_airway):
    z = torch.arange(40.0)[:, None, None].expand(40, 40, 40) * 0.8
    maps = no_airway | {"solid_distance_mm": (z - 15).abs() - 1}
    thin = render_chest_ct(maps, 0.8, PLAIN, generator())
    thick = render_chest_ct(maps, 0.8, replace(PLAIN, slice_thickness_mm=3.0), generator())
    assert float(thick.max()) < float(thin.max()) - 100
    along = render_chest_ct(maps, 0.8, replace(PLAIN, slice_thickness_mm=3.0), generator(), 2)
    torch.testing.assert_close(along, thin, atol=0.05, rtol=0)


def test_far_from_the_body_is_air(no_airway):
    outside = {name: torch.full_like(no_airway[name], 12.0) for name in no_airway}
    outside["body_distance_mm"] = torch.full_like(no_airway["body_distance_mm"], 79.0)
    hu = render_chest_ct(outside, 0.8, PLAIN, generator())
    torch.testing.assert_close(hu, torch.full_like(hu, -1000.0))


def test_consolidation_makes_lung_solid(no_airway):
    sick = replace(PLAIN, consolidation_fraction=0.3)
    hu = render_chest_ct(no_airway, 0.8, sick, generator(1))
    assert 0.15 < float((hu > -300).float().mean()) < 0.45


def test_the_same_seed_paints_the_same_image(tube):
    style = ChestStyle(air_pockets=2, consolidation_fraction=0.1, motion_mm=1.0, sharpening=0.5)
    first = render_chest_ct(tube, 0.8, style, generator(7))
    assert torch.equal(first, render_chest_ct(tube, 0.8, style, generator(7)))
    assert not torch.equal(first, render_chest_ct(tube, 0.8, style, generator(8)))


def test_painting_leaves_the_maps_alone(tube):
    before = {name: value.clone() for name, value in tube.items()}
    render_chest_ct(tube, 0.8, ChestStyle(air_pockets=3, noise=30), generator())
    for name, value in tube.items():
        assert torch.equal(value, before[name])


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**32 - 1), drawn=st.sampled_from([random_style, training_style]))
def test_any_style_paints_a_finite_ct(tube_in_lung, seed, drawn):
    maps = {name: value[8:32, 8:32, 8:32] for name, value in maps_of(tube_in_lung).items()}
    style = drawn(np.random.default_rng(seed))
    assert all(np.isfinite(list(asdict(style).values())))
    hu = render_chest_ct(maps, 0.8, style, generator(seed), slice_axis=seed % 3)
    assert hu.shape == (24, 24, 24)
    assert hu.dtype == torch.float32
    assert bool(torch.isfinite(hu).all())
    assert float(hu.min()) >= -1024
    assert float(hu.max()) <= 3071


def test_styles_are_seeded_and_differ():
    assert random_style(np.random.default_rng(5)) == random_style(np.random.default_rng(5))
    drawn = {random_style(np.random.default_rng(seed)) for seed in range(20)}
    assert len(drawn) == 20


def test_training_sees_thicker_walls_than_phantoms_have():
    means = [
        np.mean([draw(np.random.default_rng(seed)).wall_base_mm for seed in range(100)])
        for draw in (random_style, training_style)
    ]
    assert means[1] > means[0] + 0.2


def test_styles_cover_health_and_disease():
    drawn = [random_style(np.random.default_rng(seed)) for seed in range(200)]
    for name in ("consolidation_fraction", "emphysema_fraction", "hilar_contrast", "motion_mm"):
        share = np.mean([getattr(style, name) > 0 for style in drawn])
        assert 0.02 < share < 0.7, name
    assert min(style.noise for style in drawn) < 12
    assert max(style.noise for style in drawn) > 70
    assert max(style.slice_thickness_mm for style in drawn) > 2.5
