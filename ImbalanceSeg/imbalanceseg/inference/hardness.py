"""Hardness: where a segmentation should not be trusted, told without a reference.

One scale for all kinds: 0 where there is no doubt, 1 where opinions could not differ more.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import log
from typing import get_args

import SimpleITK as sitk
import torch
from torch import Tensor

from imbalanceseg.geometry import Grid, image_from_array, require_same_grid
from imbalanceseg.labels import UNLABELLED
from imbalanceseg.models.card import HardnessKind

HARDNESS_KINDS: tuple[HardnessKind, ...] = get_args(HardnessKind)
"""``pruning``: the network against a copy without its smallest weights (Jaiswal et al., "Attend Who
is Weak", WACV 2023; the voxel-wise form is ours). ``entropy``: of the probability. ``tta``: between
mirrored copies of the image. ``ensemble``: between the networks of a model that has several."""


def disagreement(probabilities: Sequence[Tensor]) -> Tensor:
    """Mean over all pairs of half the sum of absolute differences over the classes.

    Of a single class, that is the absolute difference. 0 where all agree, 1 where every pair is
    sure of something else.

    Args:
        probabilities: two or more, each ``[B, K, ...]``.

    Returns:
        ``[B, 1, ...]`` in [0, 1].
    """
    pairs = list(combinations(probabilities, 2))
    total = sum(_apart(one, other) for one, other in pairs)
    assert isinstance(total, Tensor)
    return total / len(pairs)


def entropy(probability: Tensor) -> Tensor:
    """Entropy as a share of the largest possible one.

    Args:
        probability: ``[K, ...]``; of the foreground where K is 1.

    Returns:
        ``[...]`` in [0, 1].
    """
    if len(probability) == 1:
        found = torch.special.entr(probability[0]) + torch.special.entr(1 - probability[0])
        return (found / log(2)).clamp(0, 1)
    return (torch.special.entr(probability).sum(0) / log(len(probability))).clamp(0, 1)


def annotated_hardness(
    hardness: sitk.Image, probability: sitk.Image, annotation: sitk.Image
) -> sitk.Image:
    """Hardness with the truth put in where somebody has told it: |p - g| of the foreground.

    Args:
        hardness: float32 in [0, 1].
        probability: float32 foreground probability on the same grid.
        annotation: uint8 labels on that grid, 255 where nothing was said.

    Returns:
        float32 in [0, 1] on that grid.

    Raises:
        GeometryError: the grids differ.
    """
    require_same_grid(hardness, annotation, ("hardness map", "annotation"))
    require_same_grid(probability, annotation, ("probability", "annotation"))
    labels = sitk.GetArrayViewFromImage(annotation)
    told = labels != UNLABELLED
    values = sitk.GetArrayFromImage(hardness)
    foreground = sitk.GetArrayViewFromImage(probability)[told]
    values[told] = abs(foreground - (labels[told] > 0))
    return image_from_array(values, Grid.of(hardness))


def _apart(one: Tensor, other: Tensor) -> Tensor:
    gap = (one - other).abs()
    return gap if gap.shape[1] == 1 else gap.sum(1, keepdim=True) / 2
