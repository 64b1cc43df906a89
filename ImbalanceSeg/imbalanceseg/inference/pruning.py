"""The weakened copy of a network whose disagreement shows where the network is fragile.

Source: Jaiswal et al., "Attend Who is Weak", WACV 2023, after Hooker et al., arXiv 1911.05248; the
voxel-wise form is ours.
"""

from __future__ import annotations

import copy
import hashlib
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.utils import prune

if TYPE_CHECKING:
    from imbalanceseg.models.bundle import Model


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


def pruned_model(model: Model, sparsity: float) -> Model:
    """The model with weakened copies of its networks, in memory only; see :func:`pruned_copy`.

    Its card names other weights, so that nothing that was kept of the whole model, such as a
    converted network, is taken for it.
    """
    weakened = tuple(pruned_copy(network, sparsity) for network in model.networks)
    weights = tuple(
        one.model_copy(update={"sha256": _told_apart(one.sha256, sparsity)})
        for one in model.card.weights
    )
    pruned = type(model)(model.path, model.card.model_copy(update={"weights": weights}))
    pruned.networks = weakened
    return pruned


def _told_apart(sha256: str, sparsity: float) -> str:
    return hashlib.sha256(f"{sha256} without {sparsity:.6f}".encode()).hexdigest()
