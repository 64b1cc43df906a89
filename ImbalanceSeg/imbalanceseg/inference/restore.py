"""From maps on a network's grid to labels and maps on the image's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from torch import Tensor

from imbalanceseg.geometry import Grid, image_from_array, resample
from imbalanceseg.inference.working_volume import WorkingVolume
from imbalanceseg.models.card import ModelCard

Restored = dict[str, NDArray[np.generic]]


def restored(
    maps: Tensor, seen: WorkingVolume, target: Grid, card: ModelCard, names: Sequence[str]
) -> Restored:
    """Maps of a volume, resampled linearly one at a time.

    Args:
        maps: float32 ``[M, ...]`` along the network's axes: probabilities, then the named maps.
        seen: the volume they are of.
        target: grid of the image or slice.
        card: says whether there are several segments.
        names: of the maps behind the probabilities.

    Returns:
        ``[Z, Y, X]`` arrays on ``target``: ``"probability"`` of all foreground together, and the
        named maps, float32 in [0, 1]; with several segments also ``"labels"``, uint8, the likeliest
        class. What the network has not seen is background.
    """
    classes = len(maps) - len(names)
    on_target = _each_on(maps, seen, target)
    if classes == 1:
        found: Restored = {"probability": next(on_target)}
    else:
        found = _of_classes(on_target, classes)
    for name in names:
        found[name] = next(on_target)
    if len(card.segments) == 1:
        found.pop("labels", None)
    return found


def unseen(target: Grid, card: ModelCard, names: Sequence[str]) -> Restored:
    """What :func:`restored` gives for a slice of which nothing was looked at."""
    volume = WorkingVolume(torch.empty(0), target, (0, 1, 2))
    maps = torch.zeros(len(card.segments) + 1 + len(names), *target.size[::-1])
    return restored(maps, volume, target, card, names)


def _each_on(maps: Tensor, seen: WorkingVolume, target: Grid) -> Iterator[NDArray[np.float32]]:
    inside = None
    if seen.body is not None:
        inside = sitk.GetArrayFromImage(resample(seen.body, seen.grid, "nearest"))
    for array in seen.on_grid(maps):
        kept = array if inside is None else array * inside
        image = resample(image_from_array(kept, seen.grid), target)
        yield sitk.GetArrayFromImage(sitk.Clamp(image, sitk.sitkFloat32, 0, 1))


def _of_classes(probabilities: Iterator[NDArray[np.float32]], classes: int) -> Restored:
    """Likeliest class and foreground probability, with one class at a time in memory."""
    best = next(probabilities)
    labels = np.zeros(best.shape, np.uint8)
    foreground = np.zeros_like(best)
    for number in range(1, classes):
        one = next(probabilities)
        foreground += one
        likelier = one > best
        labels[likelier] = number
        best = np.where(likelier, one, best)
    return {"probability": np.minimum(foreground, 1), "labels": labels}
