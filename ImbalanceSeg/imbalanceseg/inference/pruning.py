"""The weakened copy of a network whose disagreement shows where the network is fragile.

Source: Jaiswal et al., "Attend Who is Weak", WACV 2023, after Hooker et al., arXiv 1911.05248; the
voxel-wise form is ours.
"""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.utils import prune


def pruned_copy(network: nn.Module, sparsity: float) -> nn.Module:
    """A copy without the smallest convolution weights, chosen over the whole network.

    Only kernels wider than one voxel are pruned: gates, side outputs and heads, norms and biases
    stay as they are. The network itself is not changed.

    Args:
        network: any network of convolutions.
        sparsity: share of the weights that is set to zero, in [0, 1].
    """
    # torch's pruning views every weight as one vector, which channels-last weights do not allow.
    weakened = copy.deepcopy(network)
    weakened.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    kernels = [
        (module, "weight")
        for module in weakened.modules()
        if isinstance(module, nn.Conv2d | nn.Conv3d) and max(module.kernel_size) > 1
    ]
    prune.global_unstructured(kernels, prune.L1Unstructured, amount=float(sparsity))
    for module, name in kernels:
        prune.remove(module, name)
    return weakened.eval()
