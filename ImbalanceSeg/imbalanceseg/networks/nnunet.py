"""nnU-Net's plain U-Net, built from a plan with the blocks of MONAI's DynUNet.

DynUNet itself holds every block under two names, which would store all weights twice.

Source: Isensee et al., Nature Methods 18, 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from monai.networks.blocks.dynunet_block import UnetBasicBlock, UnetOutBlock, UnetUpBlock
from monai.networks.layers.factories import Norm
from torch import Tensor, nn

from imbalanceseg.errors import ModelError
from imbalanceseg.networks.blocks import FixedNorm
from imbalanceseg.networks.sizes import require_multiples

_NORMS = ("instance", "fixed")


@Norm.factory_function("fixed")
def _fixed_norm(axes: int) -> type[FixedNorm]:
    """For MONAI's blocks, which name their norm."""
    return FixedNorm


class NnUNet(nn.Module):
    """Two convolutions a stage with instance norm and leaky ReLU, strided down, transposed up.

    Args:
        in_channels: image channels.
        out_channels: channels of the logits.
        kernels: kernel of every stage, finest first, (z, y, x) or (y, x).
        strides: stride into every stage; that of the first is 1.
        features: channels of every stage; 32, 64, ... up to 320 (512 in 2D) when None.
        deep_supervision: in training mode, give the logits of coarser stages too.
        norm: ``"instance"`` as in the paper, or ``"fixed"`` for the same answer in every tile
            (:class:`~.blocks.FixedNorm`): instance norms take out how bright a tile is beside
            others, which is what tells a tile full of lesions from one without.

    Raises:
        ModelError: ``network-arguments`` when kernels, strides and features name different numbers
            of stages, or for another norm.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        kernels: Sequence[Sequence[int]] = ((3, 3, 3),) * 5,
        strides: Sequence[Sequence[int]] = ((1, 1, 1), *((2, 2, 2),) * 4),
        features: Sequence[int] | None = None,
        deep_supervision: bool = False,
        norm: str = "instance",
    ) -> None:
        super().__init__()
        if norm not in _NORMS:
            raise ModelError(
                "network-arguments",
                f"NnUNet has no norm {norm!r}.",
                f"Norms are {' and '.join(_NORMS)}.",
            )
        normed = (norm, {"affine": True})
        axes = len(kernels[0])
        most = 512 if axes == 2 else 320
        widths = list(features or (min(32 * 2**n, most) for n in range(len(kernels))))
        stages = (len(kernels), len(strides), len(widths))
        if len(set(stages)) > 1:
            raise ModelError(
                "network-arguments",
                "The network has kernels for {}, strides for {} and features for {} stages.".format(
                    *stages
                ),
                "Give as many of each, one for every stage; a plan gives kernels and strides.",
            )
        self.strides = [tuple(s) for s in strides]
        self.deep_supervision = deep_supervision
        self.encoder = nn.ModuleList(
            UnetBasicBlock(axes, before, width, list(kernel), list(stride), normed)
            for before, width, kernel, stride in zip(
                [in_channels, *widths[:-1]], widths, kernels, strides, strict=True
            )
        )
        self.decoder = nn.ModuleList(
            UnetUpBlock(axes, widths[n + 1], widths[n], list(kernels[n]), 1, list(stride), normed)
            for n, stride in reversed(list(enumerate(strides[1:])))
        )
        supervised = max(1, len(widths) - 1) if deep_supervision else 1
        self.heads = nn.ModuleList(
            UnetOutBlock(axes, width, out_channels) for width in widths[:supervised]
        )
        self.apply(_initialise)

    def multiples(self) -> tuple[int, ...]:
        """What the sides of an input must be multiples of."""
        return tuple(prod(axis) for axis in zip(*self.strides, strict=True))

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Logits of the size of ``x``.

        In training with deep supervision a list, finest first, each of the size of its stage.

        Raises:
            InputError: ``size-not-multiple`` or ``size-too-small``.
        """
        require_multiples(x, self.multiples())
        skips = []
        for block in self.encoder:
            x = block(x)
            skips.append(x)
        decoded = []
        for block, skip in zip(self.decoder, reversed(skips[:-1]), strict=True):
            x = block(x, skip)
            decoded.append(x)
        if self.training and self.deep_supervision:
            pairs = zip(self.heads, reversed(decoded), strict=True)
            return [head(features) for head, features in pairs]
        logits: Tensor = self.heads[0](x)
        return logits


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        nn.init.kaiming_normal_(module.weight, a=0.01)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def supervision_weights(outputs: int) -> list[float]:
    """Weights of the outputs, finest first: halved each time, 0 for the coarsest, sum 1."""
    weights = [0.5**n for n in range(outputs)]
    if outputs > 1:
        weights[-1] = 0.0
    total = sum(weights)
    return [w / total for w in weights]
