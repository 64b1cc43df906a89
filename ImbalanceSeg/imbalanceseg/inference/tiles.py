"""Maps of a volume from networks that see it tile by tile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from imbalanceseg.inference.device import fast_precision


def tiled_probability(
    networks: Sequence[nn.Module],
    volume: Tensor,
    tile: Sequence[int],
    overlap: float = 0.5,
    mirrored: Sequence[Sequence[int]] = ((),),
    batch: int = 1,
    told: Callable[[], None] = lambda: None,
) -> Tensor:
    """Mean probability over networks and mirrored copies.

    Args:
        networks: in evaluation mode, on the device of ``volume``.
        volume: ``[1, C, ...]``.
        tile: voxels along each axis; smaller volumes are padded with their border's values.
        overlap: share of a tile, along each axis, that its neighbour covers too.
        mirrored: axes of ``[1, C, ...]`` along which each copy is mirrored.
        batch: tiles at once.
        told: called before every tile.

    Returns:
        float32 ``[K, ...]`` on the CPU: sigmoid of one channel of logits, softmax of several.
    """
    views = [partial(_probability_of, network) for network in networks]
    return tiled_mean(views, volume, tile, overlap, mirrored, batch, told)


@torch.no_grad()
def tiled_mean(
    views: Sequence[Callable[[Tensor], Tensor]],
    volume: Tensor,
    tile: Sequence[int],
    overlap: float = 0.5,
    mirrored: Sequence[Sequence[int]] = ((),),
    batch: int = 1,
    told: Callable[[], None] = lambda: None,
) -> Tensor:
    """Mean of what several functions see in a volume and in mirrored copies of it.

    Args:
        views: from a patch ``[B, C, ...]`` to maps ``[B, M, ...]``.
        volume: ``[1, C, ...]``; other arguments as for :func:`tiled_probability`.

    Returns:
        float32 ``[M, ...]`` on the CPU.

    Source: tiles weighted by a Gaussian of an eighth of their size, Isensee et al., Nature Methods
    18, 2021.
    """
    from monai.inferers.utils import sliding_window_inference

    def predict(patch: Tensor) -> Tensor:
        told()
        total: Tensor | None = None
        with fast_precision(patch.device):
            for view in views:
                for axes in mirrored:
                    one = view(patch.flip(tuple(axes))).flip(tuple(axes)) if axes else view(patch)
                    total = one if total is None else total + one
        assert total is not None
        return total / (len(views) * len(mirrored))

    result = sliding_window_inference(
        volume,
        list(tile),
        batch,
        predict,
        overlap=overlap,
        mode="gaussian",
        # Padding with zeros would shift what a network normalises by.
        padding_mode="replicate",
        device="cpu",
    )
    assert isinstance(result, Tensor)
    return result[0].float()


def tile_count(size: Sequence[int], tile: Sequence[int], overlap: float) -> int:
    """How many tiles a volume of so many voxels along each axis has."""
    from monai.data.utils import dense_patch_slices
    from monai.inferers.utils import _get_scan_interval

    padded = [max(n, t) for n, t in zip(size, tile, strict=True)]
    interval = _get_scan_interval(padded, tile, len(padded), (overlap,) * len(padded))
    return len(dense_patch_slices(padded, tile, interval))


def probability(logits: Tensor) -> Tensor:
    """Sigmoid of one channel of logits, softmax of several; ``[B, C, ...]``."""
    return torch.sigmoid(logits) if logits.shape[1] == 1 else torch.softmax(logits, 1)


def _probability_of(network: nn.Module, patch: Tensor) -> Tensor:
    return probability(network(patch).float())
