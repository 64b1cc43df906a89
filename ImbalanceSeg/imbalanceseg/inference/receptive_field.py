"""How far from its border a tile's result is what the whole volume would give."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from imbalanceseg.inference.tiling import Sides

_TOLERATED_LOGIT = 0.1
"""Moves a probability by 0.025 at most."""
_RARE = 0.999
_LARGEST_PATCH = 96

_WHOLE_TILE_NORMS = (nn.InstanceNorm2d, nn.InstanceNorm3d, nn.GroupNorm)


def depends_on_whole_tile(network: nn.Module) -> bool:
    """Whether a voxel's result depends on all of the tile, as instance norms make it."""
    return any(isinstance(module, _WHOLE_TILE_NORMS) for module in network.modules())


@torch.inference_mode()
def border_margin(
    logits_of: Callable[[Tensor], Tensor], volume: Tensor, multiples: Sequence[int]
) -> Sides:
    """Voxels at a tile's border, along each axis, whose logits the border changes.

    The effective receptive field is far smaller than the layers' kernels add up to (Luo et al.,
    NeurIPS 2016), so it is measured: a patch is cut short along one axis, and where its logits are
    again those of the whole patch the border is forgotten.

    Args:
        logits_of: the network, which must not depend on the whole tile.
        volume: ``[1, C, ...]`` whose middle is the patch; sides are multiples.
        multiples: what sides of a patch must be multiples of.
    """
    spans = []
    for n, multiple in zip(volume.shape[2:], multiples, strict=True):
        side = min(n, max(_LARGEST_PATCH // multiple, 2) * multiple)
        start = (n - side) // 2 // multiple * multiple
        spans.append(slice(start, start + side))
    patch = volume[(slice(None), slice(None), *spans)].contiguous()
    whole = logits_of(patch)
    margins = []
    for axis, multiple in enumerate(multiples, start=2):
        side = patch.shape[axis]
        cut = max(1, side // 4 // multiple) * multiple
        if side <= 2 * cut:
            margins.append(0)
            continue
        part = patch.narrow(axis, cut, side - 2 * cut).contiguous()
        gap = (logits_of(part) - whole.narrow(axis, cut, side - 2 * cut)).abs()
        planes = gap.transpose(0, axis).flatten(1)
        rank = max(1, int(_RARE * planes.shape[1]))
        felt = planes.kthvalue(rank, dim=1).values > _TOLERATED_LOGIT
        depth = torch.arange(len(felt), device=felt.device)
        depth = torch.minimum(depth, len(felt) - 1 - depth)
        margins.append(int(depth[felt].max()) + 1 if bool(felt.any()) else 0)
    return tuple(margins)
