"""What becomes of the foreground's gradient on its way down: erosion and dilation.

A loss gives foreground voxels a gradient of one sign and background voxels one of the other. A
convolution's backward pass sums over neighbourhoods, so that the sign of a summed gradient depends
on how much foreground there is nearby, and on how strong a foreground voxel pulls compared with a
background voxel. Where foreground is outvoted it is eroded; where background is, it is dilated.

Source: the analysis of Zheng et al., IEEE TMI 40(9), 2021; the box model of a layer is ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from imbalanceseg.errors import InputError
from imbalanceseg.labels import UNLABELLED


@dataclass(frozen=True)
class GradientBalance:
    """Which voxels have the gradient of the other side after one or more layers.

    Attributes:
        summed: float32 gradient after the layers, positive where foreground wins, scaled to the
            number of voxels that it sums.
        eroded: bool, foreground whose summed gradient is background's.
        dilated: bool, background whose summed gradient is foreground's.
        eroded_share: eroded voxels over foreground voxels; 0 without foreground.
        dilated_share: dilated voxels over foreground voxels; 0 without foreground.
    """

    summed: np.ndarray
    eroded: np.ndarray
    dilated: np.ndarray
    eroded_share: float
    dilated_share: float


def gradient_balance(label: np.ndarray, ratio: float, layers: int = 1) -> GradientBalance:
    """Send a gradient of ``ratio`` on foreground and -1 on background down 3x3x3 layers of ones.

    A foreground voxel whose neighbourhood is foreground by a share ``f`` is eroded by one layer
    where ``f < 1 / (1 + ratio)``.

    Args:
        label: 2 or 3 axes, foreground greater than 0; 255 is unlabelled: it sends nothing and is
            neither eroded nor dilated.
        ratio: strength of a foreground voxel's gradient over that of a background voxel.
        layers: how many layers down, at least 1.

    Raises:
        InputError: ``ratio-invalid``.
    """
    if not (np.isfinite(ratio) and ratio > 0 and layers >= 1):
        raise InputError(
            "ratio-invalid",
            f"A gradient ratio of {ratio} over {layers} layers cannot be followed.",
            "The ratio is a positive number, and there is at least one layer.",
        )
    seen = label != UNLABELLED
    foreground = (label > 0) & seen
    # Whole numbers times the ratio: a tie is then a tie, and not decided by rounding.
    pull, push = (part.astype(np.float64) for part in (foreground, seen & ~foreground))
    for _ in range(layers):
        pull, push = (_box_sum(part) for part in (pull, push))
    summed = (ratio * pull - push).astype(np.float64)
    eroded = foreground & (summed < 0)
    dilated = seen & ~foreground & (summed > 0)
    voxels = max(int(foreground.sum()), 1)
    scale = 3.0 ** (label.ndim * layers)
    return GradientBalance(
        (summed / scale).astype(np.float32),
        eroded,
        dilated,
        float(eroded.sum() / voxels),
        float(dilated.sum() / voxels),
    )


def _box_sum(part: np.ndarray) -> np.ndarray:
    """Sum over the 3-wide neighbourhood, zeros outside the image, exact for whole numbers."""
    for axis in range(part.ndim):
        part = ndimage.correlate1d(part, np.ones(3), axis=axis, mode="constant")
    return part
