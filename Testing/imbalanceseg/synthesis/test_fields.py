from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from imbalanceseg.synthesis.fields import blur, random_tubes, smooth_noise


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("grain", [0.5, 1.0, 2.0, 4.0])
def test_smooth_noise_has_zero_mean_and_about_unit_variance(grain):
    noise = smooth_noise((40, 44, 48), grain, generator(3))
    assert noise.shape == (40, 44, 48)
    assert float(noise.mean()) == pytest.approx(0, abs=0.02)
    assert float(noise.std()) == pytest.approx(1, abs=0.08)


def test_smooth_noise_grows_smoother_with_its_grain():
    def roughness(grain: float) -> float:
        return float(smooth_noise((40, 40, 40), grain, generator(1)).diff(dim=0).std())

    assert roughness(1.0) > 1.5 * roughness(4.0) > 1.5 * 1.5 * roughness(12.0)


@settings(max_examples=20, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 20)] * 3),
    grain=st.floats(0, 500),
    seed=st.integers(0, 2**32),
)
def test_smooth_noise_is_finite_and_seeded_for_any_shape(shape, grain, seed):
    first = smooth_noise(shape, grain, generator(seed))
    assert first.shape == shape
    assert bool(torch.isfinite(first).all())
    assert torch.equal(first, smooth_noise(shape, grain, generator(seed)))


def test_blur_keeps_a_constant():
    volume = torch.full((9, 10, 11), -850.0)
    torch.testing.assert_close(blur(volume, 2.3), volume, rtol=1e-5, atol=0)


def test_blur_keeps_the_sum_of_what_lies_inside():
    volume = torch.zeros(25, 25, 25)
    volume[10:14, 11:13, 12] = torch.rand(4, 2, generator=generator())
    blurred = blur(volume, (1.0, 2.0, 1.5))
    assert float(blurred.sum()) == pytest.approx(float(volume.sum()), rel=1e-5)
    assert float(blurred.max()) < 0.5 * float(volume.max())


@pytest.mark.parametrize("sigma", [0.4, 1.2, 2.0, (0.5, 1.0, 1.8)])
def test_blur_is_the_gaussian_filter_of_scipy(sigma):
    volume = torch.randn(14, 15, 16, generator=generator(5))
    sigmas = [sigma] * 3 if isinstance(sigma, float) else list(sigma)
    reach = [max(1, int(np.ceil(2.5 * s))) for s in sigmas]
    expected = gaussian_filter(volume.double().numpy(), sigmas, mode="nearest", radius=reach)
    np.testing.assert_allclose(blur(volume, sigma).numpy(), expected, atol=1e-5)


def test_blur_leaves_an_axis_of_no_width_alone_and_its_input_unchanged():
    volume = torch.randn(8, 8, 8, generator=generator())
    before = volume.clone()
    assert torch.equal(blur(volume, 0.05), before)
    along_z = blur(volume, (1.0, 0.0, 0.0))
    torch.testing.assert_close(along_z[:, 3, 4], blur(volume[:, 3:4, 4:5], (1.0, 0, 0))[:, 0, 0])
    assert torch.equal(volume, before)


def test_blur_survives_a_volume_thinner_than_the_kernel():
    volume = torch.randn(3, 2, 4, generator=generator())
    assert bool(torch.isfinite(blur(volume, 9.0)).all())


@pytest.mark.parametrize("seed", range(8))
def test_a_tube_is_a_signed_distance_to_a_thickened_segment(seed):
    spacing, radius = 0.8, 3.0
    tube = random_tubes((30, 28, 32), spacing, generator(seed), (radius, radius)).double()
    # The centre lies in the volume, so its nearest voxel is at most a diagonal away.
    assert -radius - 1e-4 <= float(tube.min()) <= -radius + np.sqrt(3) * spacing
    for axis in range(3):
        slope = tube.diff(dim=axis) / spacing
        assert float(slope.abs().max()) <= 1 + 1e-4, "no distance changes faster than one goes"
        assert float(slope.diff(dim=axis).min()) >= -1e-4, "distance to a convex body is convex"
    gradient = torch.stack(torch.gradient(tube, spacing=spacing)).norm(dim=0)
    away = gradient[1:-1, 1:-1, 1:-1][tube[1:-1, 1:-1, 1:-1] > 2]
    assert float((away - 1).abs().max()) < 0.03


def test_tubes_differ_by_seed_and_repeat_with_it():
    first = random_tubes((12, 12, 12), 1.0, generator(1), (1.5, 9.0))
    assert torch.equal(first, random_tubes((12, 12, 12), 1.0, generator(1), (1.5, 9.0)))
    assert not torch.equal(first, random_tubes((12, 12, 12), 1.0, generator(2), (1.5, 9.0)))
