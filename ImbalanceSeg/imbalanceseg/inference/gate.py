"""The coarse pass: which parts of a volume are worth looking at closely."""

from __future__ import annotations

from math import ceil

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, avg_pool3d, max_pool2d, max_pool3d

from imbalanceseg.inference.maps import Seen
from imbalanceseg.inference.tiles import padded_to
from imbalanceseg.inference.tiling import Needed, Sides
from imbalanceseg.models.card import GateSettings

_CELL_VOXELS = 16


@torch.inference_mode()
def coarse_foreground(see: Seen, volume: Tensor, factor: Sides, multiples: Sides) -> Tensor:
    """Foreground probability of a coarsened volume.

    Args:
        see: from a patch to probabilities ``[1, K, ...]``, background first where K > 1.
        volume: ``[1, C, ...]``.
        factor: by which each axis is coarsened.
        multiples: what the sides of a patch must be multiples of.

    Returns:
        ``[...]`` on the CPU, one value for every ``factor`` voxels, the last ones for fewer.
    """
    pool = avg_pool3d if volume.ndim == 5 else avg_pool2d
    whole, _ = padded_to(volume, tuple(volume.shape[2:]), factor)
    coarse = pool(whole, factor)
    padded, inside = padded_to(coarse, tuple(2 * m for m in multiples), multiples)
    found = see(padded)[0].float().cpu()
    foreground = found[0] if len(found) == 1 else found[1:].sum(0)
    return foreground[inside]


def needed_cells(foreground: Tensor, gate: GateSettings) -> Needed:
    """Cells within the gate's reach of coarse foreground.

    Args:
        foreground: as :func:`coarse_foreground` gives it.
        gate: threshold, reach and factor.
    """
    pool = max_pool3d if foreground.ndim == 3 else max_pool2d
    found = (foreground > gate.threshold).float()[None, None]
    reach = [ceil(gate.reach / f) for f in gate.factor]
    found = pool(found, [2 * r + 1 for r in reach], stride=1, padding=reach)
    side = [max(1, _CELL_VOXELS // f) for f in gate.factor]
    cells = pool(found, side, stride=side, ceil_mode=True)[0, 0] > 0
    return Needed(cells.numpy(), tuple(s * f for s, f in zip(side, gate.factor, strict=True)))
