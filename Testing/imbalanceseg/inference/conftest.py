"""Two small models: one that segments what is dark, one with random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from imbalanceseg.models.bundle import Model
from imbalanceseg.models.write import write_bundle
from imbalanceseg.networks import WingsNet
from imbalanceseg.networks.unet3d import UNet3d

_FIRST = -1e-3
_NEXT = 2e-2 / 3
_THRESHOLD = 0.05


def dark_network() -> WingsNet:
    """WingsNet with weights set by hand: a logit that rises with darkness, voxel by voxel.

    One channel runs through the full-resolution blocks. Its weights are so small that the variance
    stays far below the epsilon of the instance norms, which then only take off the mean.
    """
    network = WingsNet()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        for block, source, weight in (
            (network.encoder[0], 0, _FIRST),
            (network.encoder[1], 0, _NEXT),
            (network.encoder[2], 0, _NEXT),
            (network.decoder[4], 32, _NEXT),
            (network.decoder[5], 0, _NEXT),
        ):
            block.conv.weight[0, source, 1, 1, 1] = weight
        network.decoder[5].side.weight[0, 0] = 100.0
        network.decoding_head.mix.weight[0, 10] = 10.0
        network.decoding_head.mix.bias[0] = -1000 * _THRESHOLD
    return network.eval()


@pytest.fixture(scope="session")
def make_model(tmp_path_factory, make_card) -> Callable[..., Model]:
    """A bundle on disk for a network and changes of the card."""
    dark_things: dict[str, Any] = {
        "name": "dark-things",
        "spacing_mm": (1.0, 1.0, 1.0),
        "channels": ({"normalization": {"scheme": "range", "low": 0, "high": 200}},),
        "window": {"center": 100, "width": 200},
        "tile_voxels": (32, 32, 32),
    }

    def make(network: nn.Module, /, **changes: Any) -> Model:
        folder = tmp_path_factory.mktemp("bundle") / "model"
        return write_bundle(folder, network, make_card(**dark_things | changes))

    return make


@pytest.fixture(scope="session")
def dark_model(make_model) -> Model:
    return make_model(dark_network())


@pytest.fixture(scope="session")
def random_network() -> WingsNet:
    torch.manual_seed(11)
    return WingsNet().eval()


@pytest.fixture(scope="session")
def random_model(make_model, random_network) -> Model:
    return make_model(random_network)


UNET_KWARGS = {"features": (1, 1), "norm": "none", "out_channels": 1}


def local_network() -> UNet3d:
    """A U-Net with weights set by hand: a logit from -10 (bright) to 10 (dark), voxel by voxel.

    Without norms, so that what it says of a voxel does not depend on the tile.
    """
    network = UNet3d(**UNET_KWARGS)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        first, second = network.down[0][0], network.down[0][3]
        first.weight[0, 0, 1, 1, 1], first.bias[0] = -1, 1
        second.weight[0, 0, 1, 1, 1] = 1
        network.merge[0][0].weight[0, 2, 1, 1, 1] = 1
        network.merge[0][3].weight[0, 0, 1, 1, 1] = 1
        network.head.weight[0, 0], network.head.bias[0] = 20, -10
    return network.eval()


@pytest.fixture(scope="session")
def local_model(make_model) -> Model:
    return make_model(
        local_network(), name="local-things", network={"name": "unet3d", "kwargs": UNET_KWARGS}
    )
