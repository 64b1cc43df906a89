from __future__ import annotations

import cc3d
import numpy as np
import pytest
import torch

from imbalanceseg.errors import InputError
from imbalanceseg.synthesis.brain import (
    TISSUES,
    Push,
    band_noise,
    grow_brain,
    noise_in_mm,
)
from imbalanceseg.synthesis.brain_mr import (
    CONTRASTS,
    TISSUE_SIGNAL,
    MrStyle,
    fine_grid,
    head_grid,
    in_slices,
    mr_style,
    paint_tissues,
    scanned,
)

EXTENT, CENTRE = (150.0, 180.0, 144.0), (0.0, 15.0, 8.0)
PERFECT = MrStyle(noise=0.0, blur_mm=0.0, bias=0.0, texture=0.0)


@pytest.fixture(scope="module")
def grid():
    return head_grid((2.0, 2.0, 2.0), None, EXTENT, CENTRE)


@pytest.fixture(scope="module")
def brain(grid):
    return grow_brain(grid, seed=4)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def litres(brain, *tissues):
    return float(brain.share(*tissues).sum()) * np.prod(brain.grid.spacing_mm) / 1e6


def test_tissues_share_each_voxel(brain):
    total = sum(brain.share(tissue) for tissue in TISSUES)
    torch.testing.assert_close(total, torch.ones_like(total), atol=1e-5, rtol=0)
    for tissue in TISSUES:
        assert float(brain.share(tissue).max()) > 0.5, tissue


@pytest.mark.parametrize("seed", [1, 2])
def test_volumes_are_those_of_an_adult(grid, seed):
    """Wide limits around what is measured in adults: about 0.65 l grey, 0.5 l white matter."""
    brain = grow_brain(grid, seed)
    assert 0.35 < litres(brain, "grey", "deep_grey", "pallidum") < 0.9
    assert 0.3 < litres(brain, "white") < 0.8
    assert 0.15 < litres(brain, "csf") < 0.6
    ventricles = float((brain.ventricle_distance_mm < 0).sum()) * 8 / 1000
    assert 4 < ventricles < 80, "ml"


def test_white_matter_is_one_piece_under_a_ribbon_of_cortex(brain):
    white = (brain.share("white") > 0.5).numpy().astype(np.uint8)
    largest = cc3d.largest_k(white, k=1, connectivity=26) > 0
    assert largest.sum() > 0.95 * white.sum()
    near_surface = (brain.brain_distance_mm > -1.5) & (brain.brain_distance_mm < -0.8)
    above = near_surface & (brain.at.z > 0)
    assert float(brain.share("grey")[above].mean()) > 0.7


def test_brain_lies_in_the_skull_and_skull_in_the_head(brain):
    assert not ((brain.brain_distance_mm < 0) & (brain.cavity_distance_mm > 0)).any()
    # Air-filled cells of the skull base lie outside of the cavity as well.
    inside = brain.cavity_distance_mm < -5
    assert float(brain.share("air")[inside].max()) < 0.05
    corners = brain.share("air")[:: brain.grid.size[2] - 1, ::89, :: brain.grid.size[0] - 1]
    assert float(corners[1].min()) > 0.99


def test_both_sides_are_alike_and_not_the_same(brain):
    grey = brain.share("grey")
    agreement = float(torch.corrcoef(torch.stack([grey.flatten(), grey.flip(2).flatten()]))[0, 1])
    assert 0.4 < agreement < 0.95


def test_a_brain_follows_its_seed(grid, brain):
    again, other = grow_brain(grid, seed=4), grow_brain(grid, seed=5)
    assert torch.equal(again.share("grey"), brain.share("grey"))
    assert not torch.equal(other.share("grey"), brain.share("grey"))


def test_a_push_moves_the_brain_and_not_the_skull(grid, brain):
    pushed = grow_brain(grid, seed=4, pushes=[Push((38.0, 0.0, 15.0), 16.0)])
    assert torch.equal(pushed.cavity_distance_mm, brain.cavity_distance_mm)
    left = (brain.at.x > 0).expand_as(brain.ventricle_distance_mm)

    def middle_of_ventricle(anatomy):
        inside = (anatomy.ventricle_distance_mm < 0) & left
        return float((anatomy.at.x * inside).sum() / inside.sum())

    assert middle_of_ventricle(pushed) < middle_of_ventricle(brain) - 0.4


@pytest.mark.parametrize("spacing", [(3.0, 3.0, 3.0), (2.0, 2.0, 6.0), (1.7, 2.3, 4.1)])
def test_any_spacing_shows_the_same_head(spacing, brain):
    other = grow_brain(head_grid(spacing, None, EXTENT, CENTRE), seed=4)
    for name in ("cavity_distance_mm", "ventricle_distance_mm"):
        volumes = [
            float((getattr(b, name) < 0).sum()) * np.prod(b.grid.spacing_mm) for b in (brain, other)
        ]
        assert volumes[1] == pytest.approx(volumes[0], rel=0.12), name


def test_band_noise_has_its_wavelength():
    noise = band_noise((64, 64, 64), 2.0, 16.0, generator(1))
    assert float(noise.std()) == pytest.approx(1, abs=1e-3)
    along = (noise[:, :, :-6] * noise[:, :, 6:]).mean()
    assert float(along) < -0.08, "three quarters of a wavelength on, where sin(kr)/kr is lowest"


def test_noise_in_mm_is_as_coarse_across_slices_as_within_them():
    noise = noise_in_mm((40, 120, 120), (3.0, 1.0, 1.0), 9.0, generator(2))
    assert float(noise.std()) == pytest.approx(1, abs=0.15)
    across, within = (float(noise.diff(n=1, dim=d).std()) for d in (0, 2))
    assert 2 < across / within < 3.5


def test_contrasts_order_the_tissues_as_in_patients():
    t1c, t2, flair = (TISSUE_SIGNAL[c] for c in ("T1c", "T2", "FLAIR"))
    assert t1c["csf"] < t1c["grey"] < t1c["white"] < t1c["vein"] < t1c["fat"]
    assert t2["white"] < t2["grey"] < t2["csf"]
    assert flair["csf"] < flair["white"] < flair["grey"]
    assert all(set(TISSUE_SIGNAL[c]) == set(TISSUES) for c in CONTRASTS)


def test_a_perfect_scanner_shows_the_signal_of_the_tissues(brain):
    image = paint_tissues(brain, "T2", np.random.default_rng(0), PERFECT)
    scan = scanned(image, brain.grid, 1, PERFECT, generator())
    torch.testing.assert_close(scan, image)
    white = brain.share("white") > 0.99
    assert float(scan[white].median()) == pytest.approx(TISSUE_SIGNAL["T2"]["white"], rel=0.05)


def test_noise_is_rician(brain):
    noise = MrStyle(noise=0.05, blur_mm=0.0, bias=0.0, texture=0.0)
    empty = scanned(torch.zeros(20, 40, 40), brain.grid, 1, noise, generator())
    assert float(empty.mean()) == pytest.approx(0.05 * np.sqrt(np.pi / 2), rel=0.02)
    bright = scanned(torch.ones(20, 40, 40), brain.grid, 1, noise, generator())
    assert float(bright.std()) == pytest.approx(0.05, rel=0.03)


def test_the_dial_turns_noise_and_blur_up():
    styles = [mr_style(d, np.random.default_rng(1)) for d in (0, 0.25, 0.5, 0.75, 1)]
    for name in ("noise", "blur_mm"):
        values = [getattr(s, name) for s in styles]
        assert values == sorted(set(values)), name
    assert len({s.bias for s in styles}) == 1


def test_thick_slices_are_the_mean_of_thin_ones():
    grid = head_grid((2.0, 2.0, 6.0), (20, 60, 50), EXTENT, CENTRE)
    fine, layers = fine_grid(grid)
    assert (layers, fine.size) == (4, (50, 60, 80))
    low = grid.index_to_physical((0, 0, -0.5)), fine.index_to_physical((0, 0, -0.5))
    np.testing.assert_allclose(*low)
    volume = torch.rand(80, 60, 50, generator=generator())
    torch.testing.assert_close(in_slices(volume, 4)[3], volume[12:16].mean(0))
    assert fine_grid(head_grid((1.0, 1.0, 1.0), (20, 20, 20), EXTENT, CENTRE))[1] == 1


@pytest.mark.parametrize(
    ("spacing", "shape", "code"),
    [
        ((1.0, 0.0, 1.0), None, "spacing-invalid"),
        ((1.0, float("nan"), 1.0), None, "spacing-invalid"),
        ((1.0, 1.0), None, "spacing-invalid"),
        ((1.0, 1.0, 1.0), (4, 40, 40), "shape-too-small"),
        ((90.0, 1.0, 1.0), None, "shape-too-small"),
    ],
)
def test_a_grid_that_shows_no_head_is_refused(spacing, shape, code):
    with pytest.raises(InputError) as refused:
        head_grid(spacing, shape, EXTENT, CENTRE)
    assert refused.value.code == code
