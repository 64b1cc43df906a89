"""Maps of a volume from networks that see it tile by tile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from imbalanceseg.inference.backends.pytorch import PyTorchBackend
from imbalanceseg.inference.blend import Blend
from imbalanceseg.inference.maps import Seen, mirrored_back, probability
from imbalanceseg.inference.tiling import Sides, Tile, overlapping_tiles

_GAUSSIAN_SHARE = 0.125


@torch.inference_mode()
def through_tiles(
    see: Seen,
    volume: Tensor,
    tiles: Sequence[Tile],
    weights: Tensor | None = None,
    store: torch.dtype = torch.float32,
    told: Callable[[], None] = lambda: None,
) -> Tensor:
    """What a function of patches says of a volume, tile by tile.

    Args:
        see: from a patch ``[1, C, *sides]`` to maps ``[1, M, *sides]``.
        volume: ``[1, C, ...]`` on the device that ``see`` works on.
        tiles: ordered along the first axis.
        weights: ``[*sides]``; None keeps what each tile is sure of.
        store: type of the result.
        told: called before every tile.

    Returns:
        ``[M, ...]`` on the CPU.
    """
    blend: Blend | None = None
    for tile in tiles:
        told()
        patch = volume[(slice(None), slice(None), *tile.seen)].contiguous()
        values = see(patch)[0]
        if blend is None:
            shape = tuple(volume.shape[2:])
            blend = Blend(shape, len(values), tiles, weights, store, values.device)
        blend.add(tile, values)
    assert blend is not None
    return blend.finish()


def tiled_probability(
    networks: Sequence[nn.Module],
    volume: Tensor,
    tile: Sequence[int],
    overlap: float = 0.5,
    mirrored: Sequence[tuple[int, ...]] = ((),),
) -> Tensor:
    """Mean probability over networks and mirrored copies, in plain PyTorch.

    Args:
        networks: in evaluation mode, on the device of ``volume``.
        volume: ``[1, C, ...]``.
        tile: voxels along each axis; smaller volumes are padded, mirrored at their borders.
        overlap: share of a tile, along each axis, that its neighbour covers too.
        mirrored: axes of ``[1, C, ...]`` along which each copy is mirrored.

    Returns:
        float32 ``[K, ...]`` on the CPU: sigmoid of one channel of logits, softmax of several.
    """
    backend = PyTorchBackend(volume.device)
    runners = [backend.load(_Probability(n), volume.ndim - 2) for n in networks]
    padded, inside = padded_to(volume, tuple(tile))
    shape = tuple(padded.shape[2:])
    copies = tuple(mirrored)

    def see(patch: Tensor) -> Tensor:
        seen = [mirrored_back(run, patch, axes) for run in runners for axes in copies]
        return torch.stack(seen).mean(0)

    tiles = overlapping_tiles(shape, tuple(tile), overlap)
    found = through_tiles(see, padded, tiles, gaussian_weights(tuple(tile)))
    return found[(slice(None), *inside)]


def gaussian_weights(sides: Sides) -> Tensor:
    """Weights that fall off from a tile's middle, ``[*sides]``, as MONAI's sliding window has.

    Source: Isensee et al., Nature Methods 18, 2021: a Gaussian of an eighth of the side.
    """
    from monai.data.utils import compute_importance_map

    weights = compute_importance_map(sides, mode="gaussian", sigma_scale=_GAUSSIAN_SHARE)
    assert isinstance(weights, Tensor)
    return weights


def padded_to(
    volume: Tensor, least: Sides, multiples: Sides | None = None
) -> tuple[Tensor, tuple[slice, ...]]:
    """A volume mirrored at its borders until it is large enough, and where it lies in that.

    Zeros around it would shift what a network normalises by.

    Args:
        volume: ``[1, C, ...]``.
        least: sides that the result has at least.
        multiples: that its sides are multiples of.
    """
    sizes = tuple(volume.shape[2:])
    wanted = [max(n, low) for n, low in zip(sizes, least, strict=True)]
    if multiples is not None:
        wanted = [ceil(n / m) * m for n, m in zip(wanted, multiples, strict=True)]
    before = [(w - n) // 2 for n, w in zip(sizes, wanted, strict=True)]
    inside = tuple(slice(b, b + n) for n, b in zip(sizes, before, strict=True))
    for axis, (n, w, b) in enumerate(zip(sizes, wanted, before, strict=True), start=2):
        if w > n:
            index = torch.from_numpy(_mirror(n, b, w)).to(volume.device)
            volume = volume.index_select(axis, index)
    return volume, inside


def _mirror(n: int, before: int, wanted: int) -> NDArray[np.int64]:
    """Indices into ``n`` voxels that continue them by reflection on both sides."""
    period = max(1, 2 * (n - 1))
    place = np.abs(np.arange(-before, wanted - before)) % period
    return np.minimum(place, period - place) if n > 1 else np.zeros(wanted, np.int64)


class _Probability(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, patch: Tensor) -> Tensor:
        return probability(self.network(patch).float())
