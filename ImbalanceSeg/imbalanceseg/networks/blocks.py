"""What several 3D networks are made of."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Size = tuple[int, int, int]
"""Kernel or stride, (z, y, x)."""

NORMS = ("instance", "batch", "fixed", "none")


class FixedNorm(_BatchNorm):
    """Batch normalisation whose statistics are set once and then stay, in training too.

    For any number of axes.

    With the one or two patches that fit into memory, statistics of the batch are those of the
    patch, and what the network learns with them does not hold for the averages used afterwards.
    """

    def train(self, mode: bool = True) -> FixedNorm:
        """Stay in evaluation mode, which reads the statistics instead of measuring them."""
        super().train(False)
        return self

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002
        """Every number of axes will do."""


@torch.no_grad()
def set_statistics(network: nn.Module, images: Iterable[Tensor]) -> None:
    """Set the statistics of every :class:`FixedNorm` to the averages over some images.

    Args:
        network: with random weights, say; its layers see what the norms before them make.
        images: ``[B, C, Z, Y, X]`` each.
    """
    norms = [module for module in network.modules() if isinstance(module, FixedNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        _BatchNorm.train(norm, True)
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
        return FixedNorm(channels)
    return nn.BatchNorm3d(channels) if name == "batch" else nn.Identity()
