"""U-Net in 2D: the network of the paper, with its valid convolutions or with padding.

Source: Ronneberger et al., MICCAI 2015, arXiv 1505.04597. 31,030,658 parameters for one input
channel and two classes. No normalisation; MONAI's BasicUNet is the practical relative with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from imbalanceseg.errors import ModelError
from imbalanceseg.networks.sizes import centre_crop, require_sides, unet_output_side


class UNet2d(nn.Module):
    """U-Net of Ronneberger et al.

    Args:
        in_channels: image channels.
        out_channels: channels of the logits.
        features: channels of each level, finest first.
        padding: ``"same"`` keeps the size; ``"valid"`` computes only what the image supports, as in
            the paper (572 x 572 gives 388 x 388), so tiles need a margin of real or mirrored image.
        dropout: probability at the end of the contracting path.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        features: Sequence[int] = (64, 128, 256, 512, 1024),
        padding: str = "same",
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if padding not in ("same", "valid"):
            raise ModelError(
                "network-arguments",
                f"UNet2d has no padding {padding!r}.",
                'Use "same" or "valid".',
            )
        self.valid = padding == "valid"
        levels = [in_channels, *features]
        self.down = nn.ModuleList(self._convolutions(a, b) for a, b in pairwise(levels))
        rising = list(pairwise(reversed(features)))
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in rising)
        self.merge = nn.ModuleList(self._convolutions(2 * b, b) for _, b in rising)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Conv2d(features[0], out_channels, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                incoming = module.in_channels * module.kernel_size[0] * module.kernel_size[1]
                nn.init.normal_(module.weight, std=sqrt(2 / incoming))

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[B, out_channels, Y, X]``; smaller than ``x`` with valid padding.

        Raises:
            InputError: ``size-does-not-fit``.
        """
        require_sides(x, lambda _, side: self.output_side(side) > 0)
        skips = []
        for n, block in enumerate(self.down):
            x = block(max_pool2d(x, 2) if n else x)
            skips.append(x)
        x = self.dropout(x)
        for up, merge, skip in zip(self.up, self.merge, reversed(skips[:-1]), strict=True):
            x = up(x)
            x = merge(torch.cat([centre_crop(skip, x), x], dim=1))
        return self.head(x)

    def multiples(self) -> tuple[int, ...]:
        """What the sides (Y, X) of an input must be multiples of, with same padding."""
        return (2 ** len(self.up),) * 2

    def output_side(self, side: int) -> int:
        """Side of the output for a side of the input; 0 when the input does not fit."""
        return unet_output_side(side, len(self.up), self.valid)

    def _convolutions(self, in_channels: int, out_channels: int) -> nn.Sequential:
        pad = 0 if self.valid else 1
        return nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, padding=pad),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=pad),
            nn.ReLU(inplace=True),
        )
