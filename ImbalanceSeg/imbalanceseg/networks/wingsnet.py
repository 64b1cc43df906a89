"""WingsNet: an encoder-decoder whose every block is supervised, in two groups.

Source: Zheng et al., "Alleviating Class-wise Gradient Imbalance for Pulmonary Airway Segmentation",
IEEE TMI 40(9), 2021. Re-implemented from the description of the layers; 1,473,186 parameters for
one input and one output channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu, max_pool3d

from imbalanceseg.errors import ModelError
from imbalanceseg.networks.attention import attention_levels
from imbalanceseg.networks.blocks import FixedNorm
from imbalanceseg.networks.recompute import run
from imbalanceseg.networks.sizes import require_multiples

SIZE_MULTIPLE = 8
"""Every side of the input must be a multiple of this."""

_SIDE_CHANNELS = 2
_NARROWEST, _WIDEST = 0.25, 4.0

# (input channels, output channels, dilation, gates, down-sampling factor of the block)
_ENCODER = (
    (1, 8, 1, 1, 1),
    (8, 16, 1, 1, 1),
    (16, 32, 2, 1, 1),
    (32, 32, 1, 2, 2),
    (32, 32, 2, 2, 2),
    (32, 64, 2, 2, 2),
    (64, 64, 1, 2, 4),
    (64, 64, 2, 2, 4),
    (64, 64, 2, 2, 4),
    (64, 64, 1, 2, 8),
    (64, 64, 1, 2, 8),
    (64, 64, 1, 2, 8),
)
_DECODER = (
    (128, 64, 1, 2, 4),
    (64, 64, 1, 2, 4),
    (128, 64, 1, 2, 2),
    (64, 32, 1, 2, 2),
    (64, 32, 1, 1, 1),
    (32, 16, 1, 1, 1),
)


class WingsNetOutput(NamedTuple):
    """Logits of both heads, each ``[B, C, D, H, W]``; only ``decoding`` is used for inference."""

    decoding: Tensor
    encoding: Tensor


class GatedConvBlock(nn.Module):
    """3x3x3 convolution, normalisation, leaky ReLU and one or two spatial gates.

    A gate multiplies every channel with ``sigmoid(1x1x1 convolution to one channel)``. ``side``
    holds the 1x1x1 convolution of the block's side output; the head applies it.
    """

    def __init__(
        self, in_channels: int, out_channels: int, dilation: int, gates: int, norm: type[nn.Module]
    ) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, 3, padding=dilation, dilation=dilation)
        self.norm = norm(out_channels)
        self.gates = nn.ModuleList(nn.Conv3d(out_channels, 1, 1, bias=False) for _ in range(gates))
        self.side = nn.Conv3d(out_channels, _SIDE_CHANNELS, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features ``[B, C, D, H, W]`` and the detached gates' product ``[B, 1, D, H, W]``."""
        x = leaky_relu(self.norm(self.conv(x)), 0.01, inplace=True)
        total: Tensor | None = None
        for conv in self.gates:
            gate = torch.sigmoid(conv(x))
            x = x * gate
            total = gate.detach() if total is None else total * gate.detach()
        assert total is not None
        return x, total


class GroupHead(nn.Module):
    """Logits of one group: side outputs, channel drop, 1x1x1 convolution.

    By definition the side outputs (two channels a block) are up-sampled to full size, concatenated,
    thinned by channel drop and mixed by a 1x1x1 convolution. All of these are linear and act either
    on channels or on space, so they commute: here the channels are mixed at the block's own scale
    and one map per scale is up-sampled. The result is the same, without 2 full-size maps a block.
    """

    def __init__(self, blocks: int, out_channels: int, drop: float, align_corners: bool) -> None:
        super().__init__()
        self.drop = drop
        self.align_corners = align_corners
        self.mix = nn.Conv3d(blocks * _SIDE_CHANNELS, out_channels, 1)

    def forward(
        self, features: Sequence[Tensor], sides: Sequence[nn.Conv3d], size: Sequence[int]
    ) -> Tensor:
        """Logits ``[B, out_channels, *size]``, float32 or wider."""
        weights = self._mixing_weights(features[0])
        bias = _bias(self.mix)[None, :, None]
        by_scale: dict[torch.Size, Tensor] = {}
        for n, (x, side) in enumerate(zip(features, sides, strict=True)):
            part = weights[:, :, n * _SIDE_CHANNELS : (n + 1) * _SIDE_CHANNELS]
            logits = _wide(torch.matmul(part @ side.weight.flatten(1), x.flatten(2)))
            bias = bias + part @ _bias(side)[:, None]
            scale = x.shape[2:]
            known = by_scale.get(scale)
            by_scale[scale] = logits if known is None else known + logits
        total = bias[..., None, None]
        for scale, logits in by_scale.items():
            total = total + _resize(logits.unflatten(2, scale), size, self.align_corners)
        return total

    def _mixing_weights(self, like: Tensor) -> Tensor:
        """Weights ``[B or 1, out_channels, side channels]`` after channel drop."""
        weights = self.mix.weight.flatten(1)[None]
        if not self.training or self.drop == 0:
            return weights
        return weights * channel_drop_scale(like, weights.shape[2], self.drop)[:, None, :]


class WingsNet(nn.Module):
    """WingsNet with its encoding and decoding heads.

    Args:
        in_channels: image channels.
        out_channels: channels of each head's logits.
        channel_drop: probability that a side-output channel is dropped in training.
        checkpointing: recompute blocks in the backward pass instead of keeping their activations.
        tile_invariant: say of a voxel the same in every tile that has enough around it. The paper's
            network does not: its instance norms see the whole tile, and its up-sampling holds the
            corners of a tile fast, so that the coarse features of a voxel lie elsewhere in a tile
            of another size. With this, norms are :class:`FixedNorm`, of which
            :func:`~.blocks.set_statistics` sets the statistics; up-sampling goes by voxel centres.
        width: of every block, share of the paper's channels: with half of them a step takes about a
            third of the time.

    Raises:
        ModelError: ``network-arguments``: no channels would be left, or more than four times the
            paper's.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        channel_drop: float = 0.3,
        checkpointing: bool = False,
        tile_invariant: bool = False,
        width: float = 1.0,
    ) -> None:
        super().__init__()
        if not _NARROWEST <= width <= _WIDEST:
            raise ModelError(
                "network-arguments",
                f"WingsNet cannot be {width:g} times as wide.",
                f"Choose a width from {_NARROWEST:g} to {_WIDEST:g}.",
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.checkpointing = checkpointing
        self.align_corners = not tile_invariant
        norm = FixedNorm if tile_invariant else nn.InstanceNorm3d

        def block(row: tuple[int, ...], entering: int | None = None) -> GatedConvBlock:
            before, after = (round(width * n) for n in row[:2])
            return GatedConvBlock(entering or before, after, row[2], row[3], norm)

        self.encoder = nn.ModuleList([block(_ENCODER[0], in_channels), *map(block, _ENCODER[1:])])
        self.decoder = nn.ModuleList(map(block, _DECODER))
        self.encoding_head, self.decoding_head = (
            GroupHead(len(rows), out_channels, channel_drop, self.align_corners)
            for rows in (_ENCODER, _DECODER)
        )

    def forward(self, x: Tensor) -> WingsNetOutput | Tensor:
        """Segment an image.

        Args:
            x: ``[B, in_channels, D, H, W]``, sides multiples of 8 (and not all of them 8).

        Returns:
            In training mode both heads' logits; in evaluation mode the decoding logits
            ``[B, out_channels, D, H, W]``.

        Raises:
            InputError: a side of the input is not a multiple of 8, or the input is too small.
        """
        encoded, decoded, _ = self._run(x)
        decoding = self._decode(decoded, x)
        if not self.training:
            return decoding
        sides = [block.side for block in self.encoder]
        return WingsNetOutput(decoding, self.encoding_head(encoded, sides, x.shape[2:]))

    def forward_with_attention(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Decoding logits and where each block of the decoder looked.

        Returns:
            The decoding logits and the attention ``[B, 6, D, H, W]`` in [0, 1]: for each decoder
            block, coarsest first, the factor by which its spatial gates scale the features (the
            product of the gates where a block has two), up-sampled to the size of ``x``.

        Raises:
            InputError: as :meth:`forward`.
        """
        _, decoded, gates = self._run(x)
        return self._decode(decoded, x), attention_levels(gates, x.shape[2:])

    def _decode(self, decoded: Sequence[Tensor], x: Tensor) -> Tensor:
        sides = [block.side for block in self.decoder]
        return self.decoding_head(decoded, sides, x.shape[2:])

    def multiples(self) -> tuple[int, ...]:
        """What the sides (Z, Y, X) of an input must be multiples of."""
        return (SIZE_MULTIPLE,) * 3

    def _run(self, x: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Features of the encoder and the decoder blocks, and the gates of the decoder blocks."""
        require_multiples(x, self.multiples())
        encoded: list[Tensor] = []
        scale = 1
        for row, block in zip(_ENCODER, self.encoder, strict=True):
            if row[4] != scale:
                scale = row[4]
                x = max_pool3d(x, 2)
            x, _ = run(block, x, recompute=self.checkpointing)
            encoded.append(x)
        skips = {4: encoded[8], 2: encoded[5], 1: encoded[2]}
        decoded: list[Tensor] = []
        gates: list[Tensor] = []
        for row, block in zip(_DECODER, self.decoder, strict=True):
            if row[4] != scale:
                scale = row[4]
                skip = skips[scale]
                finer = _resize(x, skip.shape[2:], self.align_corners).to(skip.dtype)
                x = torch.cat([finer, skip], dim=1)
            x, gate = run(block, x, recompute=self.checkpointing)
            decoded.append(x)
            gates.append(gate)
        return encoded, decoded, gates


def channel_drop_scale(like: Tensor, channels: int, drop: float) -> Tensor:
    """Factors ``[B, channels]`` that drop channels and rescale the kept ones, per sample.

    A kept channel is multiplied by ``channels / (kept + 0.01)`` with the number of channels kept in
    the same sample, so that the scale does not depend on the batch size.
    """
    keep = torch.rand(like.shape[0], channels, device=like.device) >= drop
    kept = keep.sum(dim=1, keepdim=True)
    return keep * (channels / (kept + 0.01))


def _bias(conv: nn.Conv3d) -> Tensor:
    assert conv.bias is not None
    return conv.bias


def _wide(x: Tensor) -> Tensor:
    """``x`` in at least float32, so that sums of logits do not lose digits."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _resize(x: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return interpolate(x, size=tuple(size), mode="trilinear", align_corners=align_corners)
