"""What a network sees of a voxel just before it decides: the input of its last layer."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from imbalanceseg.errors import ModelError
from imbalanceseg.networks.wingsnet import GatedConvBlock, WingsNet


def feature_channels(network: nn.Module) -> int:
    """How many features a voxel has.

    Raises:
        ModelError: ``network-without-features``.
    """
    own = getattr(network, "feature_channels", None)
    if own is not None:
        return int(own)
    layer = _last_layer(network)
    if isinstance(layer, GatedConvBlock):
        return layer.conv.out_channels
    return next(m for m in layer.modules() if isinstance(m, nn.Conv3d)).in_channels


def features_and_logits(network: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """The features ``[B, F, Z, Y, X]`` and the logits ``[B, C, Z, Y, X]`` of a patch.

    Of WingsNet the features are those of its last decoder block.

    Raises:
        ModelError: ``network-without-features`` for 2D and unknown networks.
    """
    own = getattr(network, "features_and_logits", None)
    if own is not None:
        features, logits = own(x)
        return features, logits
    caught: list[Tensor] = []
    layer = _last_layer(network)

    def made(_: nn.Module, __: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        caught.append(output[0])

    def given(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        caught.append(inputs[0])

    if isinstance(layer, GatedConvBlock):
        hook = layer.register_forward_hook(made)
    else:
        hook = layer.register_forward_pre_hook(given)
    try:
        output = network(x)
    finally:
        hook.remove()
    # In training mode some networks give more than their logits, the logits first.
    return caught[-1], output if isinstance(output, Tensor) else output[0]


def _last_layer(network: nn.Module) -> nn.Module:
    if isinstance(network, WingsNet):
        return network.decoder[-1]
    heads = getattr(network, "heads", None)
    layer = heads[0] if isinstance(heads, nn.ModuleList) else getattr(network, "head", None)
    if isinstance(layer, nn.Module) and any(isinstance(m, nn.Conv3d) for m in layer.modules()):
        return layer
    raise ModelError(
        "network-without-features",
        f"A network of the kind {type(network).__name__} cannot be adapted to a patient.",
        "Adapt a 3D network, or start without a model.",
    )
