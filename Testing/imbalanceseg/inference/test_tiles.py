from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.inferers import SlidingWindowInferer

from imbalanceseg.inference.receptive_field import border_margin, depends_on_whole_tile
from imbalanceseg.inference.tiles import (
    gaussian_weights,
    padded_to,
    through_tiles,
    tiled_probability,
)
from imbalanceseg.inference.tiling import fewest_tiles, overlapping_tiles
from imbalanceseg.networks import create_network
from imbalanceseg.networks.unet3d import UNet3d

SHAPE = (48, 40, 56)


@pytest.fixture(scope="module")
def volume() -> torch.Tensor:
    return torch.rand(1, 1, *SHAPE, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def unet() -> UNet3d:
    torch.manual_seed(3)
    network = UNet3d(features=(4, 6), norm="batch").eval()
    with torch.no_grad():
        # As decided as a trained network: its logits span several units.
        network.head.weight *= 50
    return network


def identity(patch: torch.Tensor) -> torch.Tensor:
    return patch


@given(st.integers(4, 20), st.sampled_from([0.0, 0.3, 0.5]), st.booleans())
@settings(deadline=None, max_examples=25)
def test_a_network_that_changes_nothing_returns_the_volume(side, overlap, weighted):
    volume = torch.rand(1, 2, 21, 24, generator=torch.Generator().manual_seed(side))
    sides = (side, side)
    weights = gaussian_weights(sides) if weighted else None
    found = through_tiles(identity, volume, overlapping_tiles((21, 24), sides, overlap), weights)
    torch.testing.assert_close(found, volume[0])


def test_tiles_give_what_the_whole_volume_gives(volume, unet):
    """The radius of all layers together is 10 voxels here."""
    with torch.no_grad():
        whole = unet(volume)[0]
    tiles = fewest_tiles(SHAPE, (12, 12, 12), unet.multiples(), 40 * 40 * 40)
    assert len(tiles) > 1
    found = through_tiles(unet, volume, tiles)
    torch.testing.assert_close(torch.sigmoid(found), torch.sigmoid(whole), atol=1e-5, rtol=0)


def test_half_precision_stays_close(volume, unet):
    tiles = fewest_tiles(SHAPE, (12, 12, 12), unet.multiples(), 40 * 40 * 40)
    see = lambda patch: torch.sigmoid(unet(patch))  # noqa: E731
    exact, half = (through_tiles(see, volume, tiles, None, t) for t in (torch.float32, torch.half))
    assert half.dtype == torch.half
    assert float((half.float() - exact).abs().max()) < 5e-4


def test_the_measured_margin_is_enough_and_no_more_than_the_layers_reach(volume, unet):
    margin = border_margin(unet, volume, unet.multiples())
    assert all(1 <= m <= 10 for m in margin)
    tiles = fewest_tiles(SHAPE, margin, unet.multiples(), 32 * 32 * 32)
    assert len(tiles) > 1
    with torch.no_grad():
        gap = (through_tiles(unet, volume, tiles) - unet(volume)[0]).abs()
    assert float(gap.flatten().kthvalue(int(0.999 * gap.numel())).values) < 0.1


def test_a_layer_without_neighbours_needs_no_margin(volume):
    assert border_margin(torch.nn.Conv3d(1, 1, 1), volume, (1, 1, 1)) == (0, 0, 0)


def test_a_flat_kernel_needs_a_margin_in_its_plane_only(volume):
    conv = torch.nn.Conv3d(1, 1, (1, 5, 5), padding=(0, 2, 2))
    torch.nn.init.constant_(conv.weight, 1.0)
    assert border_margin(conv, volume, (1, 1, 1)) == (0, 2, 2)


@pytest.mark.parametrize(
    ("name", "settings_", "depends"),
    [
        ("wingsnet", {}, True),
        ("unet3d", {"norm": "instance"}, True),
        ("unet3d", {"norm": "batch"}, False),
        ("unet2d5", {"norm": "batch"}, False),
        ("nnunet", {"kernels": ((3, 3, 3),) * 2, "strides": ((1,) * 3, (2,) * 3)}, True),
    ],
)
def test_instance_norms_make_a_network_depend_on_its_tile(name, settings_, depends):
    assert depends_on_whole_tile(create_network(name, **settings_)) is depends


def test_tiles_are_weighted_as_monai_weights_them(volume, monkeypatch):
    # Both in float32, whatever the processor is fastest in.
    monkeypatch.setattr("imbalanceseg.inference.device.cpu_has_bf16", lambda: False)
    torch.manual_seed(5)
    network = create_network("unet3d", features=(4, 6), norm="instance", out_channels=1).eval()
    with torch.no_grad():
        theirs = SlidingWindowInferer((32, 32, 32), 1, 0.5, mode="gaussian")(
            volume, lambda patch: torch.sigmoid(network(patch))
        )
    ours = tiled_probability([network], volume, (32, 32, 32), 0.5)
    torch.testing.assert_close(ours, theirs[0], atol=1e-5, rtol=0)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 40), st.sampled_from([1, 4, 8]))
@settings(deadline=None)
def test_padding_mirrors_at_the_borders(rows, columns, least, multiple):
    volume = torch.arange(rows * columns, dtype=torch.float32).reshape(1, 1, rows, columns)
    padded, inside = padded_to(volume, (least, least), (multiple, multiple))
    torch.testing.assert_close(padded[(slice(None), slice(None), *inside)], volume)
    before = [span.start for span in inside]
    after = [w - span.stop for w, span in zip(padded.shape[2:], inside, strict=True)]
    around = [(b, a) for b, a in zip(before, after, strict=True)]
    mode = partial(np.pad, mode="reflect")
    expected = mode(mode(volume[0, 0].numpy(), (around[0], (0, 0))), ((0, 0), around[1]))
    np.testing.assert_array_equal(padded[0, 0].numpy(), expected)
    assert all(n >= least and n % multiple == 0 for n in padded.shape[2:])
