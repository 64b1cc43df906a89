"""2.5D U-Net for thick slices: in-plane kernels and poolings until the voxels are nearly cubes.

Source: Wang et al., MICCAI 2019, arXiv 1906.03906, with supervised spatial attention; the six-level
form follows the layer list of the authors' public code. Arrays are ``[B, C, Z, Y, X]`` with the
slices along Z.
"""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from imbalanceseg.errors import ModelError
from imbalanceseg.networks.attention import SpatialAttention, attention_levels
from imbalanceseg.networks.blocks import NORMS, Size, norm_3d, same_padding
from imbalanceseg.networks.recompute import run
from imbalanceseg.networks.sizes import require_multiples

_FLAT, _CUBE = (1, 3, 3), (3, 3, 3)
_IN_PLANE, _ALL = (1, 2, 2), (2, 2, 2)

# Kernels of the levels, and poolings between them, finest first.
_LAYOUTS: dict[str, tuple[tuple[Size, ...], tuple[Size, ...]]] = {
    "paper": ((_FLAT, _FLAT, _CUBE, _CUBE, _CUBE), (_IN_PLANE, _IN_PLANE, _ALL, _ALL)),
    "public": (
        (_FLAT, _FLAT, _CUBE, _CUBE, _CUBE, _CUBE),
        (_IN_PLANE, _IN_PLANE, _ALL, _ALL, _ALL),
    ),
}


class UNet2d5Output(NamedTuple):
    """Logits ``[B, C, Z, Y, X]`` and the attention maps, coarsest first, ``[B, 1, ...]`` each."""

    logits: Tensor
    attention: list[Tensor]


class UNet2d5(nn.Module):
    """2.5D U-Net of Wang et al.

    Args:
        in_channels: image channels.
        out_channels: channels of the logits.
        layout: ``"paper"``, five levels of two convolutions with max pooling; or ``"public"``, six
            levels of residual units with strided convolutions.
        features: channels of the finest level; level ``n`` has ``n`` times as many.
        attention: whether there are attention modules.
        norm: ``"instance"``, ``"batch"`` as the authors use it, or ``"none"``. With few samples a
            batch says little of the data.
        dropout: of the public layout.
        checkpointing: recompute blocks in the backward pass instead of keeping their activations.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        layout: str = "paper",
        features: int = 16,
        attention: bool = True,
        norm: str = "instance",
        dropout: float = 0.1,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if layout not in _LAYOUTS or norm not in NORMS:
            raise ModelError(
                "network-arguments",
                f"UNet2d5 has no layout {layout!r} with norm {norm!r}.",
                f"Layouts are {', '.join(_LAYOUTS)}; norms are {', '.join(NORMS)}.",
            )
        self.checkpointing = checkpointing
        kernels, strides = _LAYOUTS[layout]
        self.strides = strides
        widths = [features * level for level in range(1, len(kernels) + 1)]
        residual = layout == "public"

        def block(entering: int, leaving: int, kernel: Size, convolutions: int) -> nn.Module:
            if residual:
                return _ResidualUnit(entering, leaving, kernel, convolutions, norm, dropout)
            return nn.Sequential(
                *_convolution(entering, leaving, kernel, norm),
                *_convolution(leaving, leaving, kernel, norm),
            )

        self.down = nn.ModuleList(
            block(a, b, kernel, 2)
            for (a, b), kernel in zip(pairwise([in_channels, *widths]), kernels, strict=True)
        )
        self.pool = nn.ModuleList(
            nn.Sequential(*_convolution(width, width, kernel, norm, stride))
            if residual
            else nn.MaxPool3d(stride)
            for width, kernel, stride in zip(widths, kernels, strides, strict=False)
        )
        self.before_bottom = (
            SpatialAttention(widths[-2], kernels[-1]) if attention and residual else None
        )
        rising = list(zip(reversed(widths[:-1]), reversed(kernels[:-1]), strict=True))
        self.up = nn.ModuleList(
            _grow(below, own, kernel, stride, norm, residual)
            for below, (own, kernel), stride in zip(
                reversed(widths), rising, reversed(strides), strict=False
            )
        )
        self.attention = nn.ModuleList(
            SpatialAttention(2 * own, kernel) if attention else nn.Identity()
            for own, kernel in rising
        )
        self.merge = nn.ModuleList(block(2 * own, own, kernel, 1) for own, kernel in rising)
        self.head = nn.Conv3d(widths[0], out_channels, kernels[0], padding=(0, 1, 1))

    def forward(self, x: Tensor) -> UNet2d5Output | Tensor:
        """Logits and maps in training mode, logits alone in evaluation mode.

        Args:
            x: ``[B, in_channels, Z, Y, X]``; Z a multiple of 4 and Y, X of 16 in the paper's
                layout, of 8 and 32 in the public one.

        Raises:
            InputError: ``size-not-multiple`` or ``size-too-small``.
        """
        output = self._run(x)
        return output if self.training else output.logits

    def forward_with_attention(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and the attention of every level ``[B, L, Z, Y, X]`` in [0, 1], coarsest first.

        Raises:
            ModelError: the network was built without attention.
        """
        output = self._run(x)
        if not output.attention:
            raise ModelError(
                "no-attention",
                "This 2.5D U-Net was built without attention.",
                "Build it with attention=True and train it.",
            )
        return output.logits, attention_levels(output.attention, x.shape[2:])

    def multiples(self) -> tuple[int, int, int]:
        """What the sides (Z, Y, X) of an input must be multiples of."""
        z, y, x = (prod(axis) for axis in zip(*self.strides, strict=True))
        return z, y, x

    def _run(self, x: Tensor) -> UNet2d5Output:
        require_multiples(x, self.multiples())
        maps: list[Tensor] = []
        skips: list[Tensor] = []
        for n, block in enumerate(self.down):
            if n:
                x = self.pool[n - 1](x)
            if n == len(self.down) - 1 and self.before_bottom is not None:
                x, attention = self.before_bottom(x)
                maps.append(attention)
            x = run(block, x, recompute=self.checkpointing)
            skips.append(x)
        rising = zip(self.up, self.attention, self.merge, reversed(skips[:-1]), strict=True)
        for up, attend, merge, skip in rising:
            x = torch.cat([skip, up(x)], dim=1)
            if isinstance(attend, SpatialAttention):
                x, attention = attend(x)
                maps.append(attention)
            x = run(merge, x, recompute=self.checkpointing)
        return UNet2d5Output(self.head(x), maps)


def _convolution(
    entering: int, leaving: int, kernel: Size, norm: str, stride: Size = (1, 1, 1)
) -> list[nn.Module]:
    pad = same_padding(kernel)
    return [
        nn.Conv3d(entering, leaving, kernel, stride, pad),
        norm_3d(norm, leaving),
        nn.PReLU(),
    ]


def _grow(below: int, own: int, kernel: Size, stride: Size, norm: str, residual: bool) -> nn.Module:
    if not residual:
        return nn.ConvTranspose3d(below, own, stride, stride)
    pad = same_padding(kernel)
    z, y, x = stride
    grown = nn.ConvTranspose3d(below, own, kernel, stride, pad, (z - 1, y - 1, x - 1))
    return nn.Sequential(grown, norm_3d(norm, own), nn.PReLU())


class _ResidualUnit(nn.Module):
    """Convolutions with norm, dropout and PReLU beside a shortcut."""

    def __init__(
        self,
        entering: int,
        leaving: int,
        kernel: Size,
        convolutions: int,
        norm: str,
        dropout: float,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for n in range(convolutions):
            conv, normed, act = _convolution(entering if n == 0 else leaving, leaving, kernel, norm)
            layers += [conv, normed, nn.Dropout(dropout), act]
        self.layers = nn.Sequential(*layers)
        same = entering == leaving
        self.shortcut = nn.Identity() if same else nn.Conv3d(entering, leaving, 1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layers(x) + self.shortcut(x)
        return result
