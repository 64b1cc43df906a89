"""V-Net in the layout of the paper: residual stages of 5x5x5 convolutions, strided down and up.

Source: Milletari et al., 3DV 2016, arXiv 1606.04797; the number of convolutions of each stage (the
paper says one to three) is the customary one. MONAI's VNet is another layout.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from imbalanceseg.errors import ModelError
from imbalanceseg.networks.recompute import run
from imbalanceseg.networks.sizes import require_multiples

# (convolutions, channels) of the stages on the left; on the right all but the last come back, with
# twice the channels.
_STAGES = ((1, 16), (2, 32), (3, 64), (3, 128), (3, 256))


class VNet(nn.Module):
    """V-Net of Milletari et al.

    Args:
        in_channels: image channels; must divide 16, for the first stage adds its input to its
            output.
        out_channels: channels of the logits.
        checkpointing: recompute stages in the backward pass instead of keeping their activations.
    """

    def __init__(
        self, in_channels: int = 1, out_channels: int = 2, checkpointing: bool = False
    ) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        self.left, self.down = nn.ModuleList(), nn.ModuleList()
        before = in_channels
        for number, (convolutions, channels) in enumerate(_STAGES):
            if number:
                self.down.append(_Resample(nn.Conv3d(before, channels, 2, stride=2), channels))
            entering = in_channels if number == 0 else channels
            self.left.append(_Stage(entering, channels, convolutions))
            before = channels
        self.up, self.right = nn.ModuleList(), nn.ModuleList()
        for convolutions, channels in reversed(_STAGES[:-1]):
            grown = nn.ConvTranspose3d(before, channels, 2, stride=2)
            self.up.append(_Resample(grown, channels))
            before = 2 * channels
            self.right.append(_Stage(before, before, convolutions))
        self.head = nn.Conv3d(before, out_channels, 1)

    def multiples(self) -> tuple[int, ...]:
        """What the sides (Z, Y, X) of an input must be multiples of."""
        return (2 ** len(self.up),) * 3

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[B, out_channels, D, H, W]``; sides of ``x`` are multiples of 16.

        Raises:
            InputError: ``size-not-multiple`` or ``size-too-small``.
        """
        require_multiples(x, self.multiples())
        skips = []
        for number, stage in enumerate(self.left):
            x = run(stage, self.down[number - 1](x) if number else x, recompute=self.checkpointing)
            skips.append(x)
        for up, stage, skip in zip(self.up, self.right, reversed(skips[:-1]), strict=True):
            x = run(stage, torch.cat([up(x), skip], dim=1), recompute=self.checkpointing)
        return self.head(x)


class _Stage(nn.Module):
    """Convolutions with PReLU; the stage's input is added before the last PReLU."""

    def __init__(self, in_channels: int, channels: int, convolutions: int) -> None:
        super().__init__()
        if channels % in_channels:
            raise ModelError(
                "network-arguments",
                f"V-Net cannot take {in_channels} input channels.",
                "Use 1, 2, 4, 8 or 16; repeat a channel or add an empty one.",
            )
        self.repeats = channels // in_channels
        widths = [in_channels, *[channels] * convolutions]
        self.convolutions = nn.ModuleList(
            nn.Conv3d(a, b, 5, padding=2) for a, b in pairwise(widths)
        )
        self.activations = nn.ModuleList(nn.PReLU(channels) for _ in range(convolutions))

    def forward(self, x: Tensor) -> Tensor:
        entered = x.repeat(1, self.repeats, 1, 1, 1)
        last = len(self.convolutions) - 1
        for number, (conv, act) in enumerate(zip(self.convolutions, self.activations, strict=True)):
            x = conv(x)
            x = act(x + entered if number == last else x)
        return x


class _Resample(nn.Module):
    """A strided convolution and its PReLU."""

    def __init__(self, conv: nn.Module, channels: int) -> None:
        super().__init__()
        self.conv = conv
        self.act = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.act(self.conv(x))
        return result
