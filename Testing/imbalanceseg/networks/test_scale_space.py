"""Scale space: against SciPy's Gaussian, in anisotropic voxels, and the same in every tile."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from imbalanceseg.networks.scale_space import local_structure, pooling, smoothed

ISOTROPIC = (1.0, 1.0, 1.0)
THICK = (4.0, 1.0, 1.0)


def smooth_noise(shape: tuple[int, int, int], seed: int = 0) -> torch.Tensor:
    noise = np.random.default_rng(seed).standard_normal(shape)
    return torch.from_numpy(gaussian_filter(noise, 1.5).astype(np.float32))[None, None]


@pytest.mark.parametrize("sigma_mm", [0.7, 1.6, 3.5, 8.0])
@pytest.mark.parametrize("spacing_mm", [ISOTROPIC, THICK])
def test_smoothing_is_a_gaussian_in_millimetres(
    sigma_mm: float, spacing_mm: tuple[float, float, float]
) -> None:
    image = smooth_noise((48, 64, 64))
    sigma = [sigma_mm / step for step in spacing_mm]
    wanted = gaussian_filter(image[0, 0].numpy(), sigma, mode="nearest")
    inside = (slice(12, -12), slice(20, -20), slice(20, -20))
    gap = (smoothed(image, sigma_mm, spacing_mm)[0, 0].numpy() - wanted)[inside]
    assert np.abs(gap).max() < 0.15 * wanted[inside].std() + 0.01 * float(image.std())


def test_wide_gaussians_are_pooled_only_along_fine_axes() -> None:
    assert pooling(1.0, ISOTROPIC) == (1, 1, 1)
    assert pooling(8.0, ISOTROPIC) == (2, 2, 2)
    assert pooling(16.0, ISOTROPIC) == (4, 4, 4)
    assert pooling(8.0, THICK)[0] == 1


def test_a_constant_has_no_structure() -> None:
    found = local_structure(torch.full((1, 1, 16, 16, 16), 7.0), 2.0, ISOTROPIC)
    assert torch.allclose(found[:, 0], torch.tensor(7.0), atol=1e-4)
    assert found[:, 1:].abs().max() < 0.01


def test_eigenvalues_are_those_of_a_quadratic() -> None:
    """Of ``a z^2 + b y^2 + c x^2`` the Hessian is diagonal and the same everywhere."""
    z, y, x = torch.meshgrid(*[torch.arange(24.0) - 12] * 3, indexing="ij")
    image = (0.5 * z**2 - 0.25 * y**2 + 0.1 * x**2)[None, None]
    found = local_structure(image, 1.0, ISOTROPIC)[0, 2:, 12, 12, 12]
    assert found.tolist() == pytest.approx([1.0, 0.2, -0.5], abs=0.02)


def test_eigenvalues_and_gradient_do_not_depend_on_the_axes() -> None:
    image = smooth_noise((24, 24, 24))
    turned = image.permute(0, 1, 4, 2, 3)
    a = local_structure(image, 1.6, ISOTROPIC)
    b = local_structure(turned, 1.6, ISOTROPIC)
    assert torch.allclose(a.permute(0, 1, 4, 2, 3), b, atol=2e-5)


@pytest.mark.parametrize("sigma_mm", [1.6, 5.0])
def test_a_tile_says_what_the_whole_says(sigma_mm: float) -> None:
    image = smooth_noise((32, 32, 96))
    whole = local_structure(image, sigma_mm, ISOTROPIC)
    part = local_structure(image[..., 16:80], sigma_mm, ISOTROPIC)
    assert torch.allclose(part[..., 20:44], whole[..., 36:60], atol=1e-5)
