"""TernausNet: a 2D U-Net whose encoder is VGG11, so that it can begin with ImageNet weights.

Source: Iglovikov and Shvets, arXiv 1801.05746. 22,927,393 parameters, 9,220,480 of them VGG11's.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from imbalanceseg.errors import ModelError
from imbalanceseg.networks.sizes import require_multiples

_ENCODER = ((3, 64), (64, 128), (128, 256, 256), (256, 512, 512), (512, 512, 512))

# (entering, middle, leaving) of the blocks that double the size, coarsest first.
_DECODER = ((512, 512, 256), (768, 512, 256), (768, 512, 128), (384, 256, 64), (192, 128, 32))

# Where torchvision's VGG11 keeps the convolutions of the encoder.
_VGG11_LAYERS = (0, 3, 6, 8, 11, 13, 16, 18)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class TernausNet(nn.Module):
    """UNet11 of Iglovikov and Shvets.

    Args:
        in_channels: 3 for the paper's network. With 1, a grey image stands for all three colours:
            weights of the first layer are summed over them.
        out_channels: channels of the logits.

    Weights begin at random; :meth:`load_vgg11` puts ImageNet's into the encoder.
    """

    def __init__(self, in_channels: int = 3, out_channels: int = 1) -> None:
        super().__init__()
        first = (in_channels, *_ENCODER[0][1:])
        self.encoder = nn.ModuleList(_stage(row) for row in (first, *_ENCODER[1:]))
        self.decoder = nn.ModuleList(_GrowingBlock(*row) for row in _DECODER)
        self.last = nn.Conv2d(96, 32, 3, padding=1)
        self.head = nn.Conv2d(32, out_channels, 1)

    def multiples(self) -> tuple[int, ...]:
        """What the sides (Y, X) of an input must be multiples of."""
        return 32, 32

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[B, out_channels, Y, X]``; sides of ``x`` are multiples of 32.

        Raises:
            InputError: ``size-not-multiple``.
        """
        require_multiples(x, self.multiples(), normalised=False)
        skips = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
            x = max_pool2d(x, 2)
        for block in self.decoder:
            x = torch.cat([block(x), skips.pop()], dim=1)
        return self.head(torch.relu(self.last(x)))

    def load_vgg11(self, path: str | os.PathLike[str]) -> None:
        """Copy torchvision's VGG11 convolutions into the encoder.

        Images are then to be normalised with ``IMAGENET_MEAN`` and ``IMAGENET_STD``.

        Args:
            path: safetensors with the parameters of ``torchvision.models.vgg11``
                (``features.0.weight`` and so on).

        Raises:
            ModelError: ``weights-unreadable`` or ``weights-mismatch``; nothing is changed then.
        """
        parameters = _read(Path(path))
        found = []
        convolutions = [m for m in self.encoder.modules() if isinstance(m, nn.Conv2d)]
        for number, conv in zip(_VGG11_LAYERS, convolutions, strict=True):
            weight = parameters.get(f"features.{number}.weight")
            bias = parameters.get(f"features.{number}.bias")
            if weight is not None and number == 0 and conv.weight.shape[1] == 1:
                weight = weight.sum(1, keepdim=True)
            if weight is None or bias is None or weight.shape != conv.weight.shape:
                raise ModelError(
                    "weights-mismatch",
                    f"The weights hold no features.{number} that fits VGG11.",
                    "Give the parameters of torchvision.models.vgg11.",
                )
            found.append((conv, weight, bias))
        with torch.no_grad():
            for conv, weight, bias in found:
                conv.weight.copy_(weight)
                if conv.bias is not None:
                    conv.bias.copy_(bias)


def _stage(channels: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in pairwise(channels):
        layers += [nn.Conv2d(a, b, 3, padding=1), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class _GrowingBlock(nn.Module):
    """A convolution, then a strided one that doubles the size."""

    def __init__(self, entering: int, middle: int, leaving: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(entering, middle, 3, padding=1)
        self.grow = nn.ConvTranspose2d(middle, leaving, 3, 2, 1, output_padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.grow(torch.relu(self.conv(x))))


def _read(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            "weights-unreadable",
            f"The VGG11 weights {path} cannot be read: {error}.",
            "Give a safetensors file.",
        ) from error
