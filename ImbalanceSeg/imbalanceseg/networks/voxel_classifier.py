"""A small perceptron for every voxel by itself."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

_CHUNK = 2**14


class VoxelClassifier(nn.Module):
    """Three linear layers behind a standardisation of their input.

    Args:
        in_channels: of the input.
        out_channels: of the logits.
        hidden: between the layers.
        from_zero: begin with logits of 0, for what is added to something that is right already.

    Attributes:
        out_channels: of the logits.
        mean: of every input channel, ``[C]``.
        deviation: standard deviation of every input channel, ``[C]``.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, hidden: int, from_zero: bool = False
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.register_buffer("mean", torch.zeros(in_channels))
        self.register_buffer("deviation", torch.ones(in_channels))
        self.layers = nn.ModuleList(
            nn.Linear(a, b) for a, b in pairwise((in_channels, hidden, hidden, out_channels))
        )
        if from_zero:
            for parameter in self.layers[-1].parameters():
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[B, out_channels, ...]`` of ``[B, in_channels, ...]``."""
        first, *others = [cast(nn.Linear, layer) for layer in self.layers]
        # The standardisation is part of the first layer: nothing is computed for it voxel by voxel.
        weight = first.weight / self.deviation
        bias = first.bias - weight @ self.mean
        layers = [(weight, bias), *((m.weight, m.bias) for m in others)]
        rows = x.flatten(2)
        tracing = torch.jit.is_tracing()  # type: ignore[attr-defined]
        if torch.is_grad_enabled() or tracing or rows.shape[2] <= _CHUNK:
            return _through(rows, layers).unflatten(2, x.shape[2:])
        # What lies between the layers then stays in the processor's cache.
        parts = [_through(part, layers) for part in rows.split(_CHUNK, 2)]
        return torch.cat(parts, 2).unflatten(2, x.shape[2:])


def _through(rows: Tensor, layers: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """``[B, C, N]`` through layers with ReLU between them."""
    for number, (weight, bias) in enumerate(layers):
        if number:
            rows = rows.relu_()
        rows = torch.matmul(weight, rows).add_(bias[:, None])
    return rows
