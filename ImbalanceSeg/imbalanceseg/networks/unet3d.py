"""3D U-Net: channels double before each pooling, so that no level is a bottleneck.

Source: Cicek et al., MICCAI 2016, arXiv 1606.06650. 19,069,955 parameters for three input channels
and three classes, batch normalisation not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool3d

from imbalanceseg.errors import ModelError
from imbalanceseg.networks.blocks import NORMS, norm_3d
from imbalanceseg.networks.recompute import run
from imbalanceseg.networks.sizes import (
    centre_crop,
    require_multiples,
    require_sides,
    unet_output_side,
)


class UNet3d(nn.Module):
    """3D U-Net of Cicek et al.

    Args:
        in_channels: image channels.
        out_channels: channels of the logits.
        features: channels of the first convolution of each level, finest first; the second one
            doubles them.
        norm: ``"batch"`` as in the paper, ``"instance"`` for batches of one or two, ``"fixed"`` for
            those and the same answer in every tile (:class:`~.blocks.FixedNorm`), or ``"none"``.
        padding: ``"same"`` keeps the size; ``"valid"`` as in the paper (132 x 132 x 116 gives
            44 x 44 x 28).
        checkpointing: recompute blocks in the backward pass instead of keeping their activations.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        features: Sequence[int] = (32, 64, 128, 256),
        norm: str = "instance",
        padding: str = "same",
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if norm not in NORMS or padding not in ("same", "valid"):
            raise ModelError(
                "network-arguments",
                f"UNet3d has no norm {norm!r} with padding {padding!r}.",
                f'Norms are {", ".join(NORMS)}; padding is "same" or "valid".',
            )
        self.norm = norm
        self.valid = padding == "valid"
        self.checkpointing = checkpointing
        entering = [in_channels, *(2 * f for f in features)]
        self.down = nn.ModuleList(
            self._block(a, f, 2 * f) for a, f in zip(entering, features, strict=False)
        )
        rising = list(pairwise(2 * f for f in reversed(features)))
        self.up = nn.ModuleList(
            nn.ConvTranspose3d(below, below, 2, stride=2, bias=False) for below, _ in rising
        )
        self.merge = nn.ModuleList(self._block(below + own, own, own) for below, own in rising)
        self.head = nn.Conv3d(2 * features[0], out_channels, 1)

    @classmethod
    def small(cls, in_channels: int = 1, out_channels: int = 2, **kwargs: Any) -> UNet3d:
        """A quarter of the width, for a CPU or for adapting to one patient."""
        return cls(in_channels, out_channels, features=(8, 16, 32, 64), **kwargs)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[B, out_channels, D, H, W]``; smaller than ``x`` with valid padding.

        Raises:
            InputError: ``size-not-multiple``, ``size-too-small`` or ``size-does-not-fit``.
        """
        if self.valid or self.norm == "none":
            require_sides(x, lambda _, side: self.output_side(side) > 0)
        else:
            require_multiples(x, self.multiples())
        skips = []
        for n, block in enumerate(self.down):
            x = run(block, max_pool3d(x, 2) if n else x, recompute=self.checkpointing)
            skips.append(x)
        for up, merge, skip in zip(self.up, self.merge, reversed(skips[:-1]), strict=True):
            x = up(x)
            x = run(
                merge, torch.cat([x, centre_crop(skip, x)], dim=1), recompute=self.checkpointing
            )
        return self.head(x)

    def multiples(self) -> tuple[int, ...]:
        """What the sides (Z, Y, X) of an input must be multiples of, with same padding."""
        return (2 ** len(self.up),) * 3

    def output_side(self, side: int) -> int:
        """Side of the output for a side of the input; 0 when the input does not fit."""
        return unet_output_side(side, len(self.up), self.valid)

    def _block(self, entering: int, first: int, second: int) -> nn.Sequential:
        pad = 0 if self.valid else 1
        layers: list[nn.Module] = []
        for a, b in ((entering, first), (first, second)):
            layers += [
                nn.Conv3d(a, b, 3, padding=pad),
                norm_3d(self.norm, b),
                nn.ReLU(inplace=True),
            ]
        return nn.Sequential(*layers)
