"""Centreline voxels that a network misses: where WingsNet's second stage takes its patches."""

from __future__ import annotations

from typing import Any

import edt
import numpy as np
from numpy.typing import NDArray
from skimage.morphology import skeletonize

from imbalanceseg.labels import BACKGROUND, UNLABELLED
from imbalanceseg.metrics.thinning import thinned


def missed_centreline(label: NDArray[Any], prediction: NDArray[Any]) -> NDArray[np.int32]:
    """Voxels on the centreline of the reference where another class is predicted.

    Args:
        label: integers ``[Z, Y, X]`` or ``[Y, X]``; 255 unlabelled.
        prediction: classes, same shape.

    Returns:
        int32 ``[n, axes]``, in index order within a class; n may be 0.

    Source: Zheng et al., IEEE TMI 40(9), 2021, hard skeleton sampling.
    """
    places = centreline_places(label)
    index = tuple(places.T)
    return places[prediction[index] != label[index]]


def centreline_places(label: NDArray[Any]) -> NDArray[np.int32]:
    """Voxels on the centreline of every class, medial lines by thinning.

    Args:
        label: integers ``[Z, Y, X]`` or ``[Y, X]``; 255 is no class.

    Returns:
        int32 ``[n, axes]``, in index order within a class; n is 0 without foreground.
    """
    classes = [c for c in np.unique(label) if c not in (BACKGROUND, UNLABELLED)]
    lines = [_line(label == value) for value in classes]
    return np.concatenate([np.zeros((0, label.ndim), np.int32), *lines]).astype(np.int32)


def _line(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Medial line of a mask that is not empty, ``[n, axes]``."""
    hits = [np.flatnonzero(mask.any(axis=_others(mask.ndim, a))) for a in range(mask.ndim)]
    low = np.array([h[0] for h in hits])
    box = mask[tuple(slice(int(h[0]), int(h[-1]) + 1) for h in hits)]
    if mask.ndim == 2:
        return np.argwhere(skeletonize(box)) + low
    # In voxels: lines that are eaten from their ends are what counts here, not their length.
    radius = edt.edt(box, black_border=True, parallel=1)
    return thinned(box, radius, (1.0, 1.0, 1.0)) + low


def _others(axes: int, axis: int) -> tuple[int, ...]:
    return tuple(a for a in range(axes) if a != axis)
