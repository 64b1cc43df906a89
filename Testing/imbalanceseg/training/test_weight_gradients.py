"""Convolutions that are padded beforehand are the same convolutions."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from imbalanceseg.networks import create_network
from imbalanceseg.training.weight_gradients import _PaddedFirst, fast_weight_gradients

triples = st.tuples(*[st.integers(1, 3)] * 3)


def gradients(module: nn.Module, image: torch.Tensor, padded: bool) -> list[torch.Tensor]:
    """Output, gradient of the image and gradients of the weights."""
    module, image = copy.deepcopy(module), image.clone().requires_grad_()
    if padded:
        with _PaddedFirst():
            output = module(image)
    else:
        output = module(image)
    (output * torch.linspace(-1, 1, output.numel()).view(output.shape)).sum().backward()
    wanted = [each.grad for each in module.parameters() if each.requires_grad]
    assert image.grad is not None
    return [output, image.grad, *(each for each in wanted if each is not None)]


@given(
    kernel=triples,
    stride=triples,
    dilation=triples,
    padding=st.one_of(st.tuples(*[st.integers(0, 3)] * 3), st.just("same"), st.just("valid")),
    groups=st.sampled_from([1, 2]),
    bias=st.booleans(),
    frozen=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_nothing_but_the_order_of_sums_changes(
    kernel, stride, dilation, padding, groups, bias, frozen
) -> None:
    if padding == "same":
        stride = (1, 1, 1)
    torch.manual_seed(0)
    layer = nn.Conv3d(2, 4, kernel, stride, padding, dilation, groups, bias).double()
    layer.weight.requires_grad_(not frozen)
    image = torch.randn(2, 2, 9, 8, 7).double()
    pairs = zip(gradients(layer, image, True), gradients(layer, image, False), strict=True)
    for found, expected in pairs:
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("mode", ["reflect", "circular", "replicate"])
def test_other_ways_to_pad_are_kept(mode: str) -> None:
    layer = nn.Conv3d(1, 2, 3, padding=1, padding_mode=mode).double()
    image = torch.randn(1, 1, 6, 6, 6).double()
    pairs = zip(gradients(layer, image, True), gradients(layer, image, False), strict=True)
    for found, expected in pairs:
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["wingsnet", "vnet", "unet3d"])
def test_whole_networks(name: str) -> None:
    torch.manual_seed(0)
    network = create_network(name, in_channels=1, out_channels=2)

    def outputs(padded: bool) -> torch.Tensor:
        with _PaddedFirst() if padded else torch.enable_grad():
            found = network(torch.linspace(-1, 1, 32**3).view(1, 1, 32, 32, 32))
        return found if torch.is_tensor(found) else found[0]

    torch.manual_seed(1)
    plain = outputs(False)
    torch.manual_seed(1)
    torch.testing.assert_close(outputs(True), plain, rtol=1e-4, atol=1e-4)


def test_only_processors_that_need_it_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    def served(device: str) -> bool:
        return isinstance(fast_weight_gradients(torch.device(device)), _PaddedFirst)

    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert served("cpu")
    assert not served("cuda")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert not served("cpu")
