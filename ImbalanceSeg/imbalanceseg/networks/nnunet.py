"""nnU-Net's plain U-Net, built from a plan with MONAI's DynUNet.

Source: Isensee et al., Nature Methods 18, 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from torch import Tensor, nn

from imbalanceseg.networks.sizes import require_multiples


class NnUNet(nn.Module):
    """Two convolutions a stage with instance norm and leaky ReLU, strided down, transposed up.

    Args:
        in_channels: image channels.
        out_channels: channels of the logits.
        kernels: kernel of every stage, finest first, (z, y, x) or (y, x).
        strides: stride into every stage; that of the first is 1.
        features: channels of every stage; 32, 64, ... up to 320 (512 in 2D) when None.
        deep_supervision: in training mode, give the logits of coarser stages too.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        kernels: Sequence[Sequence[int]] = ((3, 3, 3),) * 5,
        strides: Sequence[Sequence[int]] = ((1, 1, 1), *((2, 2, 2),) * 4),
        features: Sequence[int] | None = None,
        deep_supervision: bool = False,
    ) -> None:
        from monai.networks.nets.dynunet import DynUNet

        super().__init__()
        axes = len(kernels[0])
        most = 512 if axes == 2 else 320
        self.strides = [tuple(s) for s in strides]
        self.deep_supervision = deep_supervision
        self.network: Any = DynUNet(
            axes,
            in_channels,
            out_channels,
            [list(k) for k in kernels],
            [list(s) for s in strides],
            [list(s) for s in strides[1:]],
            filters=list(features or (min(32 * 2**n, most) for n in range(len(kernels)))),
            deep_supervision=deep_supervision,
            deep_supr_num=max(1, len(kernels) - 2),
        )

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Logits of the size of ``x``; in training with deep supervision a list, finest first.

        Raises:
            InputError: ``size-not-multiple`` or ``size-too-small``.
        """
        multiples = [prod(axis) for axis in zip(*self.strides, strict=True)]
        require_multiples(x, multiples)
        output: Tensor = self.network(x)
        if self.training and self.deep_supervision:
            return list(output.unbind(1))
        return output


def supervision_weights(outputs: int) -> list[float]:
    """Weights of the outputs, finest first: halved each time, 0 for the coarsest, sum 1."""
    weights = [0.5**n for n in range(outputs)]
    if outputs > 1:
        weights[-1] = 0.0
    total = sum(weights)
    return [w / total for w in weights]
