"""The adapted network: the model itself before it is trained, and features of every network."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from imbalanceseg.errors import ModelError
from imbalanceseg.networks import create_network
from imbalanceseg.networks.adapted import AdaptedNetwork, PatientHead
from imbalanceseg.networks.blocks import FixedNorm, set_statistics
from imbalanceseg.networks.features import feature_channels, features_and_logits
from imbalanceseg.networks.unet3d import UNet3d
from imbalanceseg.networks.wingsnet import WingsNet

NETWORKS: dict[str, dict[str, Any]] = {
    "unet3d": {"features": (4, 8), "out_channels": 3},
    "unet2d5": {"features": 4},
    "wingsnet": {},
    "two_pathway": {"in_channels": 1, "features": (4, 8, 8, 8)},
    "vnet": {},
    "nnunet": {
        "kernels": ((3, 3, 3),) * 2,
        "strides": ((1, 1, 1), (2, 2, 2)),
        "features": (4, 8),
    },
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_3d_network_has_features(name: str) -> None:
    network = create_network(name, **NETWORKS[name]).eval()
    x = torch.rand(1, 1, 32, 32, 32)
    with torch.no_grad():
        features, logits = features_and_logits(network, x)
        assert torch.equal(logits, network(x))
    assert features.shape == (1, feature_channels(network), *x.shape[2:])


def test_a_2d_network_has_none() -> None:
    with pytest.raises(ModelError, match="cannot be adapted") as caught:
        feature_channels(create_network("unet2d"))
    assert caught.value.code == "network-without-features"


@pytest.mark.parametrize("name", ["wingsnet", "unet3d"])
def test_before_training_it_says_what_its_network_says(name: str) -> None:
    base = create_network(name, **NETWORKS[name]).eval()
    x = torch.rand(1, 1, 32, 32, 32)
    with torch.no_grad():
        logits = base(x)
        network = AdaptedNetwork(
            1, logits.shape[1], (1.0, 1.0, 1.0), {"name": name, "kwargs": NETWORKS[name]}
        ).eval()
        assert network.base is not None
        network.base.load_state_dict(base.state_dict())
        assert torch.allclose(network(x), logits, atol=1e-6)


def test_without_a_network_it_works_from_intensity_alone() -> None:
    network = AdaptedNetwork(2, 3, (4.0, 1.0, 1.0)).eval()
    assert network(torch.rand(1, 2, 8, 16, 16)).shape == (1, 3, 8, 16, 16)
    assert network.multiples() == (1, 2, 2)


def test_fewer_rounds_are_the_first_rounds() -> None:
    head = PatientHead(1, 0, 2, (1.0, 1.0, 1.0), rounds=3)
    for members in head.rounds:
        for classifier in members:
            torch.nn.init.normal_(classifier.layers[-1].weight)
    image = torch.rand(1, 1, 8, 8, 8)
    first = head.logits(head.columns(image, None), None, 1)
    assert torch.equal(head.until(1)(image), first)
    assert len(head.rounds) == 3


def test_fixed_norms_keep_their_statistics_in_training() -> None:
    network = UNet3d(features=(4, 8), norm="fixed").train()
    norms = [m for m in network.modules() if isinstance(m, FixedNorm)]
    before = [norm.running_mean.clone() for norm in norms]
    network(torch.rand(1, 1, 16, 16, 16) * 5)
    assert all(torch.equal(a, n.running_mean) for a, n in zip(before, norms, strict=True))
    set_statistics(network, [torch.rand(1, 1, 16, 16, 16) * 5])
    assert not any(torch.equal(a, n.running_mean) for a, n in zip(before, norms, strict=True))
    assert not any(norm.training for norm in norms)


def test_a_tile_invariant_wingsnet_says_the_same_in_every_tile() -> None:
    torch.manual_seed(0)
    source, network = WingsNet(), WingsNet(tile_invariant=True)
    set_statistics(network, [torch.rand(1, 1, 32, 32, 32) for _ in range(3)])
    network.eval()
    source.eval()
    x = torch.rand(1, 1, 32, 32, 320)
    with torch.no_grad():
        gaps = [
            (n(x)[..., 160:176] - n(x[..., 64:280])[..., 96:112]).abs().max().item()
            for n in (network, source)
        ]
    assert gaps[0] < 1e-5
    assert gaps[1] > 1e-3
