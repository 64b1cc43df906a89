"""From maps on a network's grid to labels and maps on the image's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from torch import Tensor

from imbalanceseg.geometry import Grid, image_from_array, resample
from imbalanceseg.inference.hardness import entropy
from imbalanceseg.inference.maps import MapRequest
from imbalanceseg.inference.postprocess import labels_above
from imbalanceseg.inference.working_volume import WorkingVolume
from imbalanceseg.models.card import ModelCard

Restored = dict[str, NDArray[np.generic]]

_SLAB_VOXELS = 2**24
_SHARE = 0.75


def restored(
    maps: Tensor,
    seen: WorkingVolume,
    target: Grid,
    card: ModelCard,
    request: MapRequest,
    kept: Sequence[str],
) -> Restored:
    """Maps of a volume, resampled linearly, a slab of the target at a time.

    Args:
        maps: ``[M, ...]`` along the network's axes: probabilities, then ``request.names``.
        seen: the volume they are of.
        target: grid of the image or slice.
        card: says whether there are several segments, and the thresholds of a single one.
        request: which maps.
        kept: which of ``"probability"`` and the maps to return; the others take no memory.

    Returns:
        ``[Z, Y, X]`` arrays on ``target``: ``"labels"``, uint8, those of
        :func:`~imbalanceseg.inference.postprocess.labels_above` or the likeliest class, and what is
        kept of ``"probability"`` of all foreground together and the maps, float32 in [0, 1]. What
        the network has not seen is background.
    """
    shape = target.size[::-1]
    found: Restored = {"labels": np.zeros(shape, np.uint8)}
    for name in kept:
        found[name] = np.zeros(shape, np.float32)
    inside = _inside(seen)
    classes = [_image(one[None], seen, inside) for one in maps[: request.classes]]
    slabs = list(_slabs(target))
    for span, part in slabs:
        labels, foreground = _labels_of((_on(one, part) for one in classes), card)
        found["labels"][span] = labels
        if "probability" in kept:
            found["probability"][span] = foreground
    named = dict(zip(request.names, maps[request.classes :], strict=True))
    if request.hardness == "entropy" and "hardness" in kept:
        named["hardness"] = entropy(maps[: request.classes].float())
    for name in kept:
        if name in named:
            image = _image(named[name][None], seen, inside)
            for span, part in slabs:
                found[name][span] = _on(image, part)
    return found


def unseen(target: Grid, kept: Sequence[str]) -> Restored:
    """What :func:`restored` gives for a slice of which nothing was looked at."""
    shape = target.size[::-1]
    return {"labels": np.zeros(shape, np.uint8)} | {n: np.zeros(shape, np.float32) for n in kept}


def affordable(names: Sequence[str], voxels: int, budget: int) -> tuple[list[str], list[str]]:
    """Which float32 images of so many voxels a budget can hold, and which it cannot.

    Beside them it holds the labels and a copy of one of them, which comes to be whenever an array
    becomes an image or a file; a quarter is left for all else.

    Args:
        names: the most wanted first.
        voxels: of each.
        budget: bytes.
    """
    count = max(0, int((_SHARE * budget - voxels) / (4 * voxels)) - 1)
    return list(names[:count]), list(names[count:])


def _inside(seen: WorkingVolume) -> NDArray[np.uint8] | None:
    if seen.body is None:
        return None
    return sitk.GetArrayFromImage(resample(seen.body, seen.grid, "nearest"))


def _image(one: Tensor, seen: WorkingVolume, inside: NDArray[np.uint8] | None) -> sitk.Image:
    array = seen.on_grid(one.to(torch.float32))[0]
    return image_from_array(array if inside is None else array * inside, seen.grid)


def _on(image: sitk.Image, part: Grid) -> NDArray[np.float32]:
    array = sitk.GetArrayFromImage(resample(image, part))
    return np.clip(array, 0, 1, out=array)


def _slabs(target: Grid) -> Iterator[tuple[slice, Grid]]:
    """Parts of a grid that are whole slices, with where they lie along Z."""
    columns, rows, depth = target.size
    step = max(1, _SLAB_VOXELS // (columns * rows))
    for start in range(0, depth, step):
        count = min(step, depth - start)
        yield slice(start, start + count), target.cropped((0, 0, start), (columns, rows, count))


def _labels_of(
    probabilities: Iterator[NDArray[np.float32]], card: ModelCard
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Labels and foreground probability of a slab, with one class at a time in memory."""
    best = next(probabilities)
    labels: NDArray[np.uint8] | None = None
    foreground = best
    for number, one in enumerate(probabilities, start=1):
        if labels is None:
            labels, foreground = np.zeros(best.shape, np.uint8), np.zeros_like(best)
        foreground += one
        likelier = one > best
        labels[likelier] = number
        best = np.where(likelier, one, best)
    if labels is None:
        return labels_above(best, card.threshold, card.high_threshold), best
    return labels, np.minimum(foreground, 1)
