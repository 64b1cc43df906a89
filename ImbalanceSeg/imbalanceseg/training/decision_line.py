"""Where a model's decision lies: painted slices know no threshold but one half."""

from __future__ import annotations

import math
from copy import deepcopy

import torch
from torch import Tensor, nn

from imbalanceseg.models.bundle import Model


def output_biases(network: nn.Module) -> list[Tensor]:
    """Of the layers that give logits, one number a class; none where they have none."""
    heads = [getattr(network, name, None) for name in ("head", "heads")]
    layers = [layer for head in heads if head is not None for layer in head.modules()]
    return [x.bias for x in layers if isinstance(x, (nn.Conv2d, nn.Conv3d)) and x.bias is not None]


def deciding_at_half(model: Model) -> Model:
    """The model with its logits shifted, so that 0.5 is where its card's threshold was before.

    What is learned from painted slices draws its line at 0.5. A model that draws it elsewhere would
    cut off what it was taught, and be believed where it is wrong.

    Args:
        model: any; it is not changed.

    Returns:
        The same model where it has several classes, a threshold of 0.5, or no biases to shift. What
        was painted need not be certain anywhere, so a ``high_threshold`` is given up.
    """
    if model.card.high_threshold is not None:
        plain = Model(model.path, model.card.model_copy(update={"high_threshold": None}))
        plain.networks = model.networks
        return deciding_at_half(plain)
    threshold = model.card.threshold
    biases = output_biases(model.network)
    if threshold == 0.5 or not biases or any(len(bias) != 1 for bias in biases):
        return model
    network = deepcopy(model.network)
    with torch.no_grad():
        for bias in output_biases(network):
            bias -= math.log(threshold / (1 - threshold))
    shifted = Model(model.path, model.card.model_copy(update={"threshold": 0.5}))
    shifted.networks = (network,)
    return shifted
