"""Segment one image with one model: crop, resample, tiles, maps, back to the image's grid."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from itertools import chain, combinations

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from imbalanceseg.errors import InputError
from imbalanceseg.geometry import Grid, image_from_array, resample
from imbalanceseg.inference.allocator import kept_memory
from imbalanceseg.inference.channels import input_channels, slices_of
from imbalanceseg.inference.device import pick_device
from imbalanceseg.inference.maps import MAPS, map_maker, offers_attention
from imbalanceseg.inference.postprocess import cleaned_labels, labelmap_from_probability
from imbalanceseg.inference.restore import Restored, restored, unseen
from imbalanceseg.inference.segmentation import Segmentation
from imbalanceseg.inference.tiles import tile_count, tiled_mean
from imbalanceseg.inference.working_volume import Roi, WorkingVolume, working_volume
from imbalanceseg.models.bundle import Model, load_model
from imbalanceseg.models.card import ModelCard
from imbalanceseg.progress import ProgressCallback, ProgressEvent, ignore_progress


def segment(
    image: sitk.Image | Sequence[sitk.Image],
    model: Model | str | os.PathLike[str],
    device: str = "auto",
    maps: Sequence[str] = MAPS,
    tta: bool = False,
    roi: Roi | None = None,
    progress: ProgressCallback | None = None,
) -> Segmentation:
    """Segment an image.

    Args:
        image: 3D scalar image with the intensities the model expects (HU for CT), any orientation;
            one a channel, on one grid, where the model has several. A 2D model takes a 2D image,
            whose pixels it sees in the file's order, or every axial slice of a 3D image.
        model: a model, the name of a shipped one, or the folder of a bundle.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:<n>"``.
        maps: which of ``"attention"`` and ``"hardness"`` to compute.
        tta: average over mirrored copies, along the axes that the card names; with two of them
            four times the work.
        roi: two opposite LPS corners in mm; only what lies between them is segmented.
        progress: receives a :class:`~imbalanceseg.progress.ProgressEvent` at every step.

    Returns:
        Labels, probability and the maps asked for, on the grid of ``image``.

    Raises:
        InputError: the image, the device, a map's name or ``roi`` cannot be used.
        ModelError: the model is unknown, damaged, or its network is not what its card says.
    """
    progress = progress or ignore_progress
    clock = _Clock()
    unknown = sorted(set(maps) - set(MAPS))
    if unknown:
        raise InputError(
            "map-unknown", f"There is no map named {unknown[0]!r}.", f"Maps are {', '.join(MAPS)}."
        )
    model = model if isinstance(model, Model) else load_model(model)
    card = model.card
    channels = input_channels(image, card, model.name)
    chosen = pick_device(device)
    progress(ProgressEvent("prepare", 0, 1, "finding the region and resampling"))
    networks = [network.to(chosen) for network in model.networks]
    pieces = slices_of(channels) if card.spatial_dims == 2 else [channels]
    seen, notes = _looked_at(pieces, card, roi)
    names = [name for name in MAPS if name in maps]
    if "attention" in names and not all(map(offers_attention, networks)):
        names.remove("attention")
        notes.append(f"The {model.name} model has no attention map.")
    progress(ProgressEvent("prepare", 1, 1))
    clock.lap("prepare")
    views = [map_maker(network, model, names) for network in networks]
    found = _through_networks(views, seen, chosen, card, tta, progress)
    clock.lap("network")
    progress(ProgressEvent("restore", 0, 1, "placing the result on the scan's grid"))
    grids = [Grid.of(piece[0]) for piece in pieces]
    arrays = [
        unseen(grid, card, names)
        if one is None or volume is None
        else restored(one, volume, grid, card, names)
        for one, volume, grid in zip(found, seen, grids, strict=True)
    ]
    result = _images(arrays, grids, Grid.of(channels[0]))
    if "labels" in result:
        result["labels"] = cleaned_labels(result["labels"], card)
    else:
        result["labels"] = labelmap_from_probability(result["probability"], channels[0], card)
    if not sitk.GetArrayViewFromImage(result["labels"]).any():
        notes.append(f"The {model.name} model found nothing in this image.")
    if isinstance(image, sitk.Image) and image.GetDimension() == 2:
        result = {name: _flat(one, image) for name, one in result.items()}
    clock.lap("restore")
    progress(ProgressEvent("restore", 1, 1))
    return Segmentation(
        segments=tuple(model.segments),
        model_name=model.name,
        model_version=model.version,
        seconds=clock.laps,
        device=str(chosen),
        notes=tuple(notes),
        **result,
    )


class _Clock:
    """Wall seconds of consecutive stages."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._since = time.monotonic()

    def lap(self, stage: str) -> None:
        now = time.monotonic()
        self.laps[stage] = round(now - self._since, 3)
        self._since = now


def _through_networks(
    views: Sequence[Callable[[Tensor], Tensor]],
    seen: Sequence[WorkingVolume | None],
    device: torch.device,
    card: ModelCard,
    tta: bool,
    progress: ProgressCallback,
) -> list[Tensor | None]:
    """Probabilities and maps of every piece, ``[M, ...]``; None where there is nothing to see."""
    counter = _TileCounter(card, seen, progress)
    with kept_memory():
        found = [
            None
            if volume is None
            else tiled_mean(
                views,
                volume.voxels.to(device),
                _tile(card, volume),
                card.tile_overlap,
                _mirrored(card, tta),
                told=counter,
            )
            for volume in seen
        ]
    counter.finish()
    return found


class _TileCounter:
    """Tells of every tile before it is computed."""

    def __init__(
        self, card: ModelCard, seen: Sequence[WorkingVolume | None], progress: ProgressCallback
    ) -> None:
        self._total = sum(
            tile_count(one.voxels.shape[2:], _tile(card, one), card.tile_overlap)
            for one in seen
            if one is not None
        )
        self._done = 0
        self._progress = progress

    def __call__(self) -> None:
        self._progress(ProgressEvent("tiles", self._done, self._total))
        self._done += 1

    def finish(self) -> None:
        self._progress(ProgressEvent("tiles", self._total, self._total))


def _looked_at(
    pieces: Sequence[Sequence[sitk.Image]], card: ModelCard, roi: Roi | None
) -> tuple[list[WorkingVolume | None], list[str]]:
    """What the network is to see of every piece, None where the region leaves one out; notes."""
    seen: list[WorkingVolume | None] = []
    notes: list[str] = []
    outside: InputError | None = None
    for piece in pieces:
        try:
            volume, of_piece = working_volume(piece, card, roi)
        except InputError as error:
            if error.code != "roi-outside":
                raise
            outside = error
            seen.append(None)
        else:
            seen.append(volume)
            notes += [note for note in of_piece if note not in notes]
    if outside is not None and not any(seen):
        raise outside
    return seen, notes


def _tile(card: ModelCard, volume: WorkingVolume) -> list[int]:
    """A tile of the card's size, or smaller where the volume is."""
    if card.whole_tiles:
        return list(card.network_tile)
    sides = volume.voxels.shape[2:]
    return [min(t, -(-n // 16) * 16) for t, n in zip(card.network_tile, sides, strict=True)]


def _mirrored(card: ModelCard, tta: bool) -> list[tuple[int, ...]]:
    """Axes of ``[B, C, ...]`` along which each copy is mirrored, the plain one first."""
    axes = [axis + 2 for axis in card.mirrored_axes] if tta else []
    return list(chain.from_iterable(combinations(axes, n) for n in range(len(axes) + 1)))


def _images(
    arrays: Sequence[Restored], grids: Sequence[Grid], target: Grid
) -> dict[str, sitk.Image]:
    """The pieces of every map put together, as images on the scan's grid."""
    if len(grids) == 1:
        return {name: image_from_array(one, grids[0]) for name, one in arrays[0].items()}
    whole = target.oriented_lps()
    stacked = {name: np.concatenate([one[name] for one in arrays]) for name in arrays[0]}
    return {
        name: resample(image_from_array(array, whole), target, "nearest")
        for name, array in stacked.items()
    }


def _flat(volume: sitk.Image, image: sitk.Image) -> sitk.Image:
    plane: sitk.Image = volume[:, :, 0]
    plane.CopyInformation(image)
    return plane
