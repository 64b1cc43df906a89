"""Two-pathway U-Net: in-plane and through-plane kernels side by side, for several MR sequences.

Inspired by Lee et al., Artificial Intelligence in Medicine 2020: 3x3x1 and 1x1x3 kernels in two
encoder paths are theirs. Widths, depth, fusion and decoder are not published where we could read
them and are ours. Arrays are ``[B, C, Z, Y, X]`` with the slices along Z.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool3d

from imbalanceseg.networks.blocks import Size, norm_3d, same_padding
from imbalanceseg.networks.recompute import run
from imbalanceseg.networks.sizes import require_multiples

_IN_PLANE, _THROUGH_PLANE, _CUBE = (1, 3, 3), (3, 1, 1), (3, 3, 3)
_POOLS = ((1, 2, 2), (1, 2, 2), (2, 2, 2))


class TwoPathwayUNet(nn.Module):
    """U-Net whose encoder has an in-plane and a through-plane path.

    Args:
        in_channels: MR sequences, registered to each other; their order belongs to the model.
        out_channels: channels of the logits.
        features: channels of each path at each of the four levels, finest first.
        channel_dropout: probability in training that a whole sequence is zeroed, never all of one
            sample, so that a patient without it can be segmented: give zeros in its place.
        checkpointing: recompute blocks in the backward pass instead of keeping their activations.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 2,
        features: Sequence[int] = (16, 32, 64, 128),
        channel_dropout: float = 0.2,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.channel_dropout = channel_dropout
        self.checkpointing = checkpointing
        entering = list(pairwise([in_channels, *features]))
        self.in_plane = nn.ModuleList(_block(a, b, _IN_PLANE) for a, b in entering)
        self.through_plane = nn.ModuleList(_block(a, b, _THROUGH_PLANE) for a, b in entering)
        self.fuse = nn.ModuleList(nn.Conv3d(2 * f, 2 * f, 1) for f in features)
        rising = list(pairwise(2 * f for f in reversed(features)))
        pools = reversed(_POOLS)
        self.up = nn.ModuleList(
            nn.ConvTranspose3d(below, own, pool, pool)
            for (below, own), pool in zip(rising, pools, strict=True)
        )
        self.merge = nn.ModuleList(_block(2 * own, own, _CUBE) for _, own in rising)
        self.head = nn.Conv3d(2 * features[0], out_channels, 1)

    def multiples(self) -> tuple[int, ...]:
        """What the sides (Z, Y, X) of an input must be multiples of."""
        return 2, 8, 8

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[B, out_channels, Z, Y, X]``; Z even, Y and X multiples of 8.

        Raises:
            InputError: ``size-not-multiple`` or ``size-too-small``.
        """
        require_multiples(x, self.multiples())
        if self.training and self.channel_dropout > 0:
            x = x * _kept_channels(x, self.channel_dropout)
        flat = deep = x
        skips = []
        for level, (a, b, fuse) in enumerate(
            zip(self.in_plane, self.through_plane, self.fuse, strict=True)
        ):
            if level:
                flat, deep = (max_pool3d(path, _POOLS[level - 1]) for path in (flat, deep))
            flat = run(a, flat, recompute=self.checkpointing)
            deep = run(b, deep, recompute=self.checkpointing)
            skips.append(fuse(torch.cat([flat, deep], dim=1)))
        x = skips[-1]
        for up, merge, skip in zip(self.up, self.merge, reversed(skips[:-1]), strict=True):
            x = run(merge, torch.cat([up(x), skip], dim=1), recompute=self.checkpointing)
        return self.head(x)


def _kept_channels(x: Tensor, drop: float) -> Tensor:
    """0 or 1 for every channel of every sample, ``[B, C, 1, 1, 1]``; one is always kept."""
    kept = torch.rand(x.shape[:2], device=x.device) >= drop
    spared = torch.randint(x.shape[1], (x.shape[0], 1), device=x.device)
    kept.scatter_(1, spared, kept.gather(1, spared) | ~kept.any(1, keepdim=True))
    return kept[:, :, None, None, None].to(x.dtype)


def _block(entering: int, leaving: int, kernel: Size) -> nn.Sequential:
    pad = same_padding(kernel)
    layers: list[nn.Module] = []
    for a, b in ((entering, leaving), (leaving, leaving)):
        layers += [
            nn.Conv3d(a, b, kernel, padding=pad),
            norm_3d("instance", b),
            nn.LeakyReLU(0.01, inplace=True),
        ]
    return nn.Sequential(*layers)
