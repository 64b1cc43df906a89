"""The coarse pass: which parts of a volume are worth looking at closely."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d, avg_pool3d, max_pool2d, max_pool3d

from imbalanceseg.inference.maps import Seen
from imbalanceseg.inference.tiles import padded_to
from imbalanceseg.inference.tiling import Needed, Sides
from imbalanceseg.models.card import GateSettings

_CELL_VOXELS = 16
_LOST_SHARE = 0.001


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
    scores, cell = cell_scores(foreground, tuple(gate.factor), gate.reach)
    return Needed((scores > gate.threshold).numpy(), cell)


def cell_scores(foreground: Tensor, factor: Sides, reach: int) -> tuple[Tensor, Sides]:
    """For every cell of a volume the largest coarse probability within reach, and a cell's sides.

    Args:
        foreground: as :func:`coarse_foreground` gives it.
        factor: of the coarse volume.
        reach: voxels of the fine volume.
    """
    pool = max_pool3d if foreground.ndim == 3 else max_pool2d
    around = [ceil(reach / f) for f in factor]
    found = pool(foreground[None, None], [2 * r + 1 for r in around], stride=1, padding=around)
    side = [max(1, _CELL_VOXELS // f) for f in factor]
    scores = pool(found, side, stride=side, ceil_mode=True)[0, 0]
    return scores, tuple(s * f for s, f in zip(side, factor, strict=True))


def safe_threshold(cases: Sequence[tuple[Tensor, NDArray[np.bool_], Sides]]) -> float:
    """The highest threshold at which gates lose at most 0.1 % of the foreground of each case.

    Args:
        cases: of each the scores and sides of :func:`cell_scores`, and the true foreground, of the
            fine volume's shape.
    """
    thresholds = []
    for scores, foreground, cell in cases:
        index = np.argwhere(foreground) // np.asarray(cell)
        seen = np.sort(scores.numpy()[tuple(index.T)])
        # What equals the threshold is lost.
        allowed = int(_LOST_SHARE * len(seen))
        thresholds.append(float(np.nextafter(seen[allowed], np.float32(0))) if len(seen) else 1.0)
    return min(thresholds)
