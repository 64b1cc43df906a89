"""What one network says of a patch: probability, and the maps that were asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from imbalanceseg.errors import ModelError
from imbalanceseg.inference.device import fast_layout
from imbalanceseg.inference.pruning import pruned_copy
from imbalanceseg.inference.tiles import probability
from imbalanceseg.models.bundle import Model
from imbalanceseg.networks.wingsnet import WingsNet

MAPS = ("attention", "hardness")


def offers_attention(network: nn.Module) -> bool:
    """Whether a network has attention maps to show."""
    offered = getattr(network, "attention", None)
    absent = isinstance(offered, nn.ModuleList) and all(isinstance(m, nn.Identity) for m in offered)
    return hasattr(network, "forward_with_attention") and not absent


def map_maker(network: nn.Module, model: Model, names: Sequence[str]) -> Callable[[Tensor], Tensor]:
    """From a patch ``[B, C, ...]`` to its probabilities, one or one a class, then its maps.

    Hardness is how much a pruned copy of the network disagrees: half the sum of the absolute
    differences over the classes, which for one class is the absolute difference.

    Args:
        network: in evaluation mode, on the device of the patches; its memory format is changed.
        model: whose network it is.
        names: of the maps, in the order of :data:`MAPS`.
    """
    weakened = pruned_copy(network, model.card.hardness.sparsity) if "hardness" in names else None
    layout = fast_layout(next(network.parameters()).device, model.card.spatial_dims)
    for each in (network, weakened):
        if each is not None:
            each.to(memory_format=layout)  # type: ignore[call-overload]

    def maps_of(patch: Tensor) -> Tensor:
        patch = patch.to(memory_format=layout)
        maps = []
        if "attention" in names:
            logits, attention = cast(WingsNet, network).forward_with_attention(patch)
            maps.append(attention.float())
        else:
            logits = network(patch)
        _require_classes(logits, model)
        dense = probability(logits.float())
        if weakened is not None:
            apart = (dense - probability(weakened(patch).float())).abs()
            maps.append(apart if apart.shape[1] == 1 else apart.sum(1, keepdim=True) / 2)
        return torch.cat([dense, *maps], dim=1)

    return maps_of


def _require_classes(logits: Tensor, model: Model) -> None:
    segments = len(model.segments)
    if logits.shape[1] == segments + 1 or logits.shape[1] == segments == 1:
        return
    raise ModelError(
        "model-outputs",
        f"The network of the {model.name} model has {logits.shape[1]} channels of logits, and its "
        f"card names {segments} segment(s).",
        "A network gives background and every segment, or one channel for a single segment.",
    )
