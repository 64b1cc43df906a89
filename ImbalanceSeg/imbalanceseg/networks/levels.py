"""What a U-Net makes on the way: its coarsest features, and those of every step of its decoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from imbalanceseg.errors import ModelError

_PARTS = (("encoder", "decoder"), ("down", "merge"), ("left", "right"))


@dataclass(frozen=True, eq=False)
class Levels:
    """One pass through a network.

    Attributes:
        bottom: coarsest features ``[B, F, ...]``.
        decoded: features of the decoder, coarsest first, each of a size of its own.
        output: what the network gave.
    """

    bottom: Tensor
    decoded: list[Tensor]
    output: Any

    @property
    def logits(self) -> Tensor:
        """The finest of what the network gave, float32."""
        found = self.output if isinstance(self.output, Tensor) else self.output[0]
        return found.float()


def run_with_levels(network: nn.Module, x: Tensor) -> Levels:
    """Run a network and keep what its levels make.

    Args:
        network: a U-Net of :mod:`imbalanceseg.networks`, in any mode.
        x: ``[B, C, ...]``.

    Raises:
        ModelError: ``network-without-levels``.
    """
    encoder, decoder = _parts(network)
    caught: dict[int, Tensor] = {}
    blocks = [encoder[-1], *decoder]

    def keep(number: int) -> Any:
        def hook(_: nn.Module, __: Any, made: Any) -> None:
            caught[number] = made if isinstance(made, Tensor) else made[0]

        return hook

    hooks = [block.register_forward_hook(keep(n)) for n, block in enumerate(blocks)]
    try:
        output = network(x)
    finally:
        for hook in hooks:
            hook.remove()
    return Levels(caught[0], [caught[n] for n in range(1, len(blocks))], output)


@torch.no_grad()
def level_channels(network: nn.Module, in_channels: int) -> tuple[int, list[int]]:
    """Channels of the coarsest features, and of every step of the decoder, coarsest first.

    Raises:
        ModelError: ``network-without-levels``.
    """
    _parts(network)
    multiples: tuple[int, ...] = network.multiples()  # type: ignore[operator]
    device = next(network.parameters()).device
    # Twice the smallest: with one voxel at the bottom some norms have nothing to measure.
    image = torch.zeros(1, in_channels, *(2 * n for n in multiples), device=device)
    training = network.training
    network.eval()
    try:
        seen = run_with_levels(network, image)
    finally:
        network.train(training)
    return seen.bottom.shape[1], [one.shape[1] for one in seen.decoded]


def _parts(network: nn.Module) -> tuple[nn.ModuleList, nn.ModuleList]:
    for names in _PARTS:
        encoder, decoder = (getattr(network, name, None) for name in names)
        if isinstance(encoder, nn.ModuleList) and isinstance(decoder, nn.ModuleList):
            return encoder, decoder
    raise ModelError(
        "network-without-levels",
        f"A network of the kind {type(network).__name__} has no encoder and decoder to learn from.",
        "Choose a U-Net: nnunet, unet2d, unet2d5, unet3d, vnet or wingsnet.",
    )
