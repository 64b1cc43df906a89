"""What holds for every network: parameters, sizes, precision, memory layout, gradients, export."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from imbalanceseg.errors import InputError, ModelError
from imbalanceseg.networks import create_network, network_names

# Small forms that compute in a moment: name, arguments, input, size of the output.
SMALL: dict[str, tuple[str, dict[str, Any], tuple[int, ...], tuple[int, ...]]] = {
    "unet2d": ("unet2d", {"features": (4, 8, 16)}, (2, 1, 16, 24), (16, 24)),
    "unet2d-valid": (
        "unet2d",
        {"features": (4, 8, 16), "padding": "valid"},
        (2, 1, 44, 52),
        (4, 12),
    ),
    "vnet": ("vnet", {}, (1, 2, 32, 16, 16), (32, 16, 16)),
    "unet3d": ("unet3d", {"features": (4, 8, 8)}, (2, 1, 8, 8, 12), (8, 8, 12)),
    "unet3d-batch": ("unet3d", {"features": (4, 8), "norm": "batch"}, (2, 1, 8, 8, 4), (8, 8, 4)),
    "unet3d-valid": (
        "unet3d",
        {"features": (4, 8), "norm": "none", "padding": "valid"},
        (1, 1, 20, 20, 24),
        (4, 4, 8),
    ),
    "unet2d5": ("unet2d5", {"features": 4}, (2, 1, 4, 32, 16), (4, 32, 16)),
    "unet2d5-public": (
        "unet2d5",
        {"features": 4, "layout": "public"},
        (1, 1, 8, 32, 64),
        (8, 32, 64),
    ),
    "two_pathway": (
        "two_pathway",
        {"features": (4, 4, 8, 8)},
        (2, 3, 4, 16, 8),
        (4, 16, 8),
    ),
    "ternausnet": ("ternausnet", {}, (1, 3, 32, 64), (32, 64)),
    "wingsnet": ("wingsnet", {}, (1, 1, 16, 8, 16), (16, 8, 16)),
    "adapted": (
        "adapted",
        {"spacing_mm": (2.0, 1.0, 1.0), "rounds": 2, "members": 1},
        (2, 1, 4, 8, 12),
        (4, 8, 12),
    ),
    "coarser": (
        "coarser",
        {"base": {"name": "unet3d", "kwargs": {"features": (4, 8)}}, "factor": (1, 2, 2)},
        (2, 1, 4, 8, 16),
        (4, 8, 16),
    ),
    "nnunet": (
        "nnunet",
        {
            "kernels": ((1, 3, 3), (3, 3, 3), (3, 3, 3)),
            "strides": ((1, 1, 1), (1, 2, 2), (2, 2, 2)),
            "features": (4, 8, 8),
        },
        (2, 1, 4, 8, 12),
        (4, 8, 12),
    ),
}
every_network = pytest.mark.parametrize("key", SMALL)


def built(key: str, **more: Any) -> tuple[nn.Module, Tensor]:
    name, arguments, shape, _ = SMALL[key]
    torch.manual_seed(0)
    network = create_network(name, in_channels=shape[1], **arguments, **more)
    return network, torch.randn(shape)


def logits_of(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output[0]


def count(name: str, **arguments: Any) -> int:
    with torch.device("meta"):
        network = create_network(name, **arguments)
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("name", "arguments", "parameters"),
    [
        ("unet2d", {}, 31_030_658),
        ("unet2d", {"padding": "valid"}, 31_030_658),
        ("unet3d", {"in_channels": 3, "out_channels": 3, "norm": "none"}, 19_069_955),
        ("ternausnet", {}, 22_927_393),
        ("wingsnet", {}, 1_473_186),
    ],
)
def test_parameters_are_those_of_the_papers(name, arguments, parameters):
    assert count(name, **arguments) == parameters


def test_parameters_are_about_those_of_the_public_networks():
    assert count("vnet") == pytest.approx(65.2e6, rel=0.001)
    assert count("unet2d5", layout="public") == pytest.approx(3.45e6, rel=0.005)
    assert count("unet2d5", layout="public", attention=False) == pytest.approx(2.65e6, rel=0.005)
    with torch.device("meta"):
        vgg = create_network("ternausnet").encoder
    assert sum(p.numel() for p in vgg.parameters()) == 9_220_480


def test_every_network_is_tested_here():
    assert {name for name, *_ in SMALL.values()} == set(network_names())


@every_network
def test_logits_have_a_channel_a_class_and_the_promised_size(key):
    network, x = built(key, out_channels=3)
    for mode in (network.train(), network.eval()):
        assert logits_of(mode(x)).shape == (x.shape[0], 3, *SMALL[key][3])


@every_network
def test_evaluation_repeats_itself(key):
    network, x = built(key)
    network.eval()
    with torch.inference_mode():
        assert torch.equal(network(x), network(x))


@every_network
def test_every_parameter_learns(key):
    network, x = built(key)
    network.train()
    output = network(x)
    parts = [output] if isinstance(output, Tensor) else [output[0], output[1]]
    flat = [p for part in parts for p in (part if isinstance(part, list) else [part])]
    sum((p.float() ** 2).mean() for p in flat).backward()
    silent = [n for n, p in network.named_parameters() if p.grad is None]
    assert not silent
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


@every_network
def test_bfloat16_autocast_agrees_roughly_and_channels_last_exactly(key):
    network, x = built(key)
    network.eval()
    last = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
    with torch.inference_mode():
        plain = network(x)
        with torch.autocast("cpu", torch.bfloat16):
            half = network(x)
        turned = network.to(memory_format=last)(x.to(memory_format=last))
    torch.testing.assert_close(turned, plain, atol=1e-4, rtol=1e-4)
    spread = float(plain.std()) + 1e-6
    assert float((half.float() - plain).abs().mean()) < 0.2 * spread


@every_network
@pytest.mark.parametrize("change", [1, 3])
def test_a_size_that_does_not_fit_is_refused_with_one_that_does(key, change):
    network, x = built(key)
    network.eval()
    axis = x.ndim - 1
    odd = torch.zeros(*x.shape[:axis], x.shape[axis] + change)
    with pytest.raises(InputError) as caught:
        network(odd)
    assert caught.value.code in ("size-does-not-fit", "size-not-multiple")
    sides = [int(w) for w in caught.value.hint.replace("x", " ").split() if w.isdigit()]
    assert len(sides) == x.ndim - 2
    with torch.inference_mode():
        assert network(torch.zeros(*x.shape[:2], *sides)).shape[0] == x.shape[0]


@pytest.mark.parametrize(
    "key", ["vnet", "unet3d", "unet2d5", "unet2d5-public", "two_pathway", "wingsnet"]
)
def test_recomputed_activations_give_the_same_gradients(key):
    gradients = []
    more = {"dropout": 0.0} if key == "unet2d5-public" else {}
    more |= {"channel_dropout": 0.0} if key == "two_pathway" else {}
    more |= {"channel_drop": 0.0} if key == "wingsnet" else {}
    for recompute in (False, True):
        network, x = built(key, checkpointing=recompute, **more)
        network.train()
        logits_of(network(x)).square().mean().backward()
        gradients.append([p.grad for p in network.parameters() if p.grad is not None])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again, atol=1e-6, rtol=1e-4)


@every_network
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_the_traced_network_is_the_network(key):
    """Tracing is what OpenVINO's and ONNX's converters begin with."""
    network, x = built(key)
    network.eval()
    with torch.inference_mode():
        traced = torch.jit.trace(network, x, check_trace=False)
        torch.testing.assert_close(traced(x), network(x), atol=1e-5, rtol=1e-5)
        other = torch.randn_like(x)
        torch.testing.assert_close(traced(other), network(other), atol=1e-5, rtol=1e-5)


def test_unknown_names_and_arguments_are_refused():
    with pytest.raises(ModelError) as caught:
        create_network("unet5d")
    assert caught.value.code == "network-unknown"
    assert "unet2d5" in caught.value.hint
    for name, arguments in (
        ("unet2d", {"padding": "mirror"}),
        ("unet3d", {"norm": "layer"}),
        ("unet2d5", {"layout": "six"}),
        ("vnet", {"in_channels": 3}),
        ("vnet", {"depth": 3}),
        ("nnunet", {"features": (4, 8)}),
    ):
        with pytest.raises(ModelError) as caught:
            create_network(name, **arguments)
        assert caught.value.code == "network-arguments"
