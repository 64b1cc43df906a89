"""A small perceptron for every voxel by itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Pointwise(nn.Module):
    """A 1x1x1 convolution as the matrix product that it is.

    Attributes:
        weight: ``[out_channels, in_channels]``.
        bias: ``[out_channels]``.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        plain = nn.Linear(in_channels, out_channels)
        self.weight, self.bias = plain.weight, plain.bias

    def forward(self, x: Tensor) -> Tensor:
        """``[B, out_channels, ...]`` of ``[B, in_channels, ...]``."""
        found = torch.matmul(self.weight, x.flatten(2)) + self.bias[:, None]
        return found.unflatten(2, x.shape[2:])


class VoxelClassifier(nn.Module):
    """Three layers behind a standardisation of their input.

    Attributes:
        mean: of every input channel, ``[C]``.
        deviation: standard deviation of every input channel, ``[C]``.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, in_channels: int, out_channels: int, hidden: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(in_channels))
        self.register_buffer("deviation", torch.ones(in_channels))
        self.layers = nn.Sequential(
            Pointwise(in_channels, hidden),
            nn.GELU(),
            Pointwise(hidden, hidden),
            nn.GELU(),
            Pointwise(hidden, out_channels),
        )
        last = self.layers[-1]
        assert isinstance(last, Pointwise)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[B, out_channels, ...]`` of ``[B, in_channels, ...]``; zero before training."""
        shape = (-1, *(1 for _ in x.shape[2:]))
        found: Tensor = self.layers((x - self.mean.view(shape)) / self.deviation.view(shape))
        return found
