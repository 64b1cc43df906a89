"""What several 3D networks are made of."""

from __future__ import annotations

from torch import nn

Size = tuple[int, int, int]
"""Kernel or stride, (z, y, x)."""

NORMS = ("instance", "batch", "none")


def same_padding(kernel: Size) -> Size:
    """Padding with which an odd kernel keeps the size."""
    z, y, x = kernel
    return z // 2, y // 2, x // 2


def norm_3d(name: str, channels: int) -> nn.Module:
    """The normalisation layer of a name in ``NORMS``; instance norm has learned scales."""
    if name == "instance":
        return nn.InstanceNorm3d(channels, affine=True)
    return nn.BatchNorm3d(channels) if name == "batch" else nn.Identity()
