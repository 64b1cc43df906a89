"""The spatial attention of the 2.5D U-Net, and how its maps become one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from imbalanceseg.networks.blocks import Size, same_padding


class SpatialAttention(nn.Module):
    """One map in [0, 1] from the features, which then count up to twice: ``x A + x``.

    Source: Wang et al., MICCAI 2019, arXiv 1906.03906.

    Args:
        channels: of the features.
        kernel: of both convolutions, (z, y, x).
    """

    def __init__(self, channels: int, kernel: Size) -> None:
        super().__init__()
        pad = same_padding(kernel)
        self.layers = nn.Sequential(
            nn.Conv3d(channels, channels // 2, kernel, padding=pad),
            nn.ReLU(inplace=True),
            nn.Conv3d(channels // 2, 1, kernel, padding=pad),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted features ``[B, C, ...]`` and the map ``[B, 1, ...]``."""
        attention = self.layers(x)
        return x * attention + x, attention


def attention_levels(maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
    """Maps of several scales side by side at full size, ``[B, L, *size]``, at least float32.

    Args:
        maps: one a level, ``[B, 1, ...]`` in [0, 1].
        size: of the image.
    """
    levels = []
    for each in maps:
        wide = each.to(torch.promote_types(each.dtype, torch.float32))
        if tuple(wide.shape[2:]) != tuple(size):
            wide = interpolate(wide, size=tuple(size), mode="trilinear", align_corners=True)
        levels.append(wide)
    return torch.cat(levels, dim=1).clamp(0, 1)
