"""What sparse annotation is for: a few painted slices teach a 3D U-Net the whole volume."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from imbalanceseg.labels import UNLABELLED
from imbalanceseg.losses import create_loss
from imbalanceseg.networks import create_network

SIDE, PATCH = 32, 16
SLICES = ((0, 16), (1, 15), (2, 17))
"""One slice along each axis, near the middle."""


def ellipsoid() -> tuple[Tensor, Tensor]:
    """A noisy image of an ellipsoid and its label, ``[1, 1, Z, Y, X]``."""
    rng = np.random.default_rng(4)
    z, y, x = np.mgrid[:SIDE, :SIDE, :SIDE]
    inside = ((z - 15) / 9) ** 2 + ((y - 16) / 7) ** 2 + ((x - 17) / 11) ** 2 < 1
    values = 0.8 * inside + rng.normal(0, 0.3, inside.shape)
    return (
        torch.from_numpy(values.astype(np.float32))[None, None],
        torch.from_numpy(inside.astype(np.int64))[None, None],
    )


@pytest.mark.slow
def test_three_slices_teach_the_whole_ellipsoid() -> None:
    image, truth = ellipsoid()
    sparse = torch.full_like(truth, UNLABELLED)
    for axis, at in SLICES:
        sparse.select(axis + 2, at).copy_(truth.select(axis + 2, at))
    assert (sparse != UNLABELLED).float().mean() < 0.1
    torch.manual_seed(0)
    network = create_network(
        "unet3d", in_channels=1, out_channels=2, features=(4, 8), norm="instance"
    )
    loss = create_loss("partial_label")
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    for _ in range(400):
        # Patches, mirrored and noisy: the same voxels seen always alike would be learned by heart.
        corner = torch.randint(0, SIDE - PATCH + 1, (3,)).tolist()
        window = (..., *(slice(start, start + PATCH) for start in corner))
        axes = [axis for axis in (2, 3, 4) if torch.rand(()) < 0.5]
        patch = image[window].flip(axes)
        optimizer.zero_grad()
        loss(network(patch + 0.3 * torch.randn_like(patch)), sparse[window].flip(axes)).backward()
        optimizer.step()
    with torch.no_grad():
        found = network.eval()(image).argmax(1, keepdim=True)
    dice = 2 * (found * truth).sum() / (found.sum() + truth.sum())
    assert dice > 0.9
