"""What several 3D networks are made of."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

Size = tuple[int, int, int]
"""Kernel or stride, (z, y, x)."""

NORMS = ("instance", "batch", "fixed", "none")


class FixedNorm3d(nn.BatchNorm3d):
    """Batch normalisation whose statistics are set once and then stay, in training too.

    With the one or two patches that fit into memory, statistics of the batch are those of the
    patch, and what the network learns with them does not hold for the averages used afterwards.
    """

    def train(self, mode: bool = True) -> FixedNorm3d:
        """Stay in evaluation mode, which reads the statistics instead of measuring them."""
        super().train(False)
        return self


@torch.no_grad()
def set_statistics(network: nn.Module, images: Iterable[Tensor]) -> None:
    """Set the statistics of every :class:`FixedNorm3d` to the averages over some images.

    Args:
        network: with random weights, say; its layers see what the norms before them make.
        images: ``[B, C, Z, Y, X]`` each.
    """
    norms = [module for module in network.modules() if isinstance(module, FixedNorm3d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        nn.BatchNorm3d.train(norm, True)
    try:
        for image in images:
            network(image)
    finally:
        for norm in norms:
            norm.train(False)


def same_padding(kernel: Size) -> Size:
    """Padding with which an odd kernel keeps the size."""
    z, y, x = kernel
    return z // 2, y // 2, x // 2


def norm_3d(name: str, channels: int) -> nn.Module:
    """The normalisation layer of a name in ``NORMS``; instance norm has learned scales."""
    if name == "instance":
        return nn.InstanceNorm3d(channels, affine=True)
    if name == "fixed":
        return FixedNorm3d(channels)
    return nn.BatchNorm3d(channels) if name == "batch" else nn.Identity()
