from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from imbalanceseg.inference.pruning import pruned_copy


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return torch.rand(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(2))


def wide_kernels(network: nn.Module) -> dict[str, torch.Tensor]:
    return {
        name: module.weight.detach()
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv3d) and max(module.kernel_size) > 1
    }


def test_nothing_pruned_is_the_same_network(random_network, image):
    weakened = pruned_copy(random_network, 0.0)
    with torch.inference_mode():
        assert torch.equal(weakened(image), random_network(image))


def test_everything_pruned_answers_every_image_alike(random_network, image):
    weakened = pruned_copy(random_network, 1.0)
    with torch.inference_mode():
        answer = weakened(image)
    torch.testing.assert_close(answer, answer[:1, :, :1, :1, :1].expand_as(answer))
    with torch.inference_mode():
        assert float(random_network(image).std()) > 1e-3, "the whole network does not"


@pytest.mark.parametrize("sparsity", [0.1, 0.3, 0.9])
def test_the_share_of_zeros_is_what_was_asked(random_network, sparsity):
    weights = torch.cat(
        [w.flatten() for w in wide_kernels(pruned_copy(random_network, sparsity)).values()]
    )
    assert float((weights == 0).float().mean()) == pytest.approx(sparsity, abs=1e-3)


def test_the_smallest_weights_of_the_whole_network_go(random_network):
    before = wide_kernels(random_network)
    after = wide_kernels(pruned_copy(random_network, 0.3))
    assert before.keys() == after.keys()
    old = torch.cat([w.flatten() for w in before.values()])
    new = torch.cat([w.flatten() for w in after.values()])
    assert torch.equal(new[new != 0], old[new != 0]), "what is kept keeps its value"
    assert float(old[new == 0].abs().max()) <= float(old[new != 0].abs().min())
    shares = [float((w == 0).float().mean()) for w in after.values()]
    assert max(shares) - min(shares) > 0.05, "chosen over the network, not layer by layer"


def test_only_kernels_wider_than_a_voxel_are_pruned(random_network):
    wide = {f"{name}.weight" for name in wide_kernels(random_network)}
    assert len(wide) == 18
    after = pruned_copy(random_network, 0.9).state_dict()
    before = random_network.state_dict()
    assert after.keys() == before.keys()
    for name, value in before.items():
        assert torch.equal(after[name], value) == (name not in wide)


def test_the_network_itself_is_left_alone(random_network):
    network = copy.deepcopy(random_network).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    weakened = pruned_copy(network, 0.5)
    assert network.training
    assert not weakened.training
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    shared = {p.data_ptr() for p in network.parameters()}
    assert not shared & {p.data_ptr() for p in weakened.parameters()}


def test_flat_kernels_count_as_wide():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(1, 4, (1, 3, 3)), nn.ReLU(), nn.Conv3d(4, 1, 1))
    weakened = pruned_copy(network, 0.5)
    assert int((weakened[0].weight == 0).sum()) == 18
    assert torch.equal(weakened[2].weight, network[2].weight)


@pytest.mark.parametrize("sparsity", [-0.1, 1.1])
def test_a_share_that_is_none_is_refused(random_network, sparsity):
    with pytest.raises(ValueError, match="amount"):
        pruned_copy(random_network, sparsity)
