"""Segment one image with one model: crop, resample, tiles, maps, back to the image's grid."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from imbalanceseg.errors import InputError
from imbalanceseg.geometry import Grid, image_from_array, resample
from imbalanceseg.inference.channels import input_channels, slices_of
from imbalanceseg.inference.device import pick_device
from imbalanceseg.inference.maps import MapRequest, map_request
from imbalanceseg.inference.memory import memory_budget
from imbalanceseg.inference.postprocess import clean, require_steps
from imbalanceseg.inference.predict import Prediction, predict
from imbalanceseg.inference.restore import Restored, affordable, restored, unseen
from imbalanceseg.inference.segmentation import Segmentation
from imbalanceseg.inference.stopwatch import Stopwatch
from imbalanceseg.inference.working_volume import Roi, WorkingVolume, working_volume
from imbalanceseg.models.bundle import Model, load_model
from imbalanceseg.models.card import HardnessKind, ModelCard
from imbalanceseg.progress import ProgressCallback, ProgressEvent, ignore_progress


def segment(
    image: sitk.Image | Sequence[sitk.Image],
    model: Model | str | os.PathLike[str],
    device: str = "auto",
    maps: Sequence[str] = ("attention", "hardness"),
    tta: bool = False,
    roi: Roi | None = None,
    progress: ProgressCallback | None = None,
    *,
    hardness: HardnessKind | None = None,
    memory_gb: float | None = None,
    exact: bool = False,
    without: Collection[str] = (),
) -> Segmentation:
    """Segment an image.

    Args:
        image: 3D scalar image with the intensities the model expects (HU for CT), any orientation;
            one a channel, on one grid, where the model has several. A 2D model takes a 2D image,
            whose pixels it sees in the file's order, or every axial slice of a 3D image.
        model: a model, the name of a shipped one, or the folder of a bundle.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:<n>"``.
        maps: which of ``"attention"``, ``"attention-levels"`` and ``"hardness"`` to compute.
        tta: average over mirrored copies, along the axes that the card names; with two of them
            four times the work.
        roi: two opposite LPS corners in mm; only what lies between them is segmented.
        progress: receives a :class:`~imbalanceseg.progress.ProgressEvent` at every step.
        hardness: kind of the hardness map, one of
            :data:`~imbalanceseg.inference.hardness.HARDNESS_KINDS`; the card's when None.
        memory_gb: that may be taken beside the image, in GiB; most of what is free when None. Maps
            that do not fit are left out, and a note says so.
        exact: look at every part of the image, also where the coarse pass sees nothing.
        without: steps of post-processing to leave out, of
            :data:`~imbalanceseg.inference.postprocess.STEPS`.

    Returns:
        Labels, probability and the maps asked for, on the grid of ``image``.

    Raises:
        InputError: the image, the device, a map's name, a kind of hardness, a step, ``memory_gb``
            or ``roi`` cannot be used, or memory does not suffice (``out-of-memory``).
        ModelError: the model is unknown, damaged, or its network is not what its card says.
    """
    progress = progress or ignore_progress
    watch = Stopwatch()
    model = model if isinstance(model, Model) else load_model(model)
    request, notes, budget = settled(
        model,
        device,
        maps,
        tta,
        hardness=hardness,
        memory_gb=memory_gb,
        exact=exact,
        without=without,
    )
    progress(ProgressEvent("prepare", 0, 1, "finding the region and resampling"))
    scan = looked_at(image, model, roi, watch)
    progress(ProgressEvent("prepare", 1, 1))
    found = predict(
        [None if one is None else one.voxels for one in scan.seen],
        model,
        request,
        device=device,
        budget=budget,
        exact=exact,
        progress=progress,
        stopwatch=watch,
    )
    progress(ProgressEvent("restore", 0, 1, "placing the result on the scan's grid"))
    result = finished(scan, found, model, request, budget, without, watch, notes)
    progress(ProgressEvent("restore", 1, 1))
    return result


@dataclass(frozen=True)
class LookedAt:
    """A scan, and what a network is to see of it.

    Attributes:
        channels: 3D images on one grid.
        pieces: what is segmented each for itself: the whole, or the slices for a 2D model.
        seen: of every piece, None where the region of interest leaves one out.
        flat: the 2D image that was given, or None.
        notes: for the reader of the result.
    """

    channels: list[sitk.Image]
    pieces: list[list[sitk.Image]]
    seen: list[WorkingVolume | None]
    flat: sitk.Image | None
    notes: list[str]


def looked_at(
    image: sitk.Image | Sequence[sitk.Image], model: Model, roi: Roi | None, watch: Stopwatch
) -> LookedAt:
    """Check a scan, and crop, scale and resample it for a model; arguments of :func:`segment`."""
    channels = input_channels(image, model.card, model.name)
    pieces = slices_of(channels) if model.card.spatial_dims == 2 else [channels]
    seen, notes = _looked_at(pieces, model.card, roi, watch)
    flat = image if isinstance(image, sitk.Image) and image.GetDimension() == 2 else None
    return LookedAt(channels, pieces, seen, flat, notes)


def finished(
    scan: LookedAt,
    found: Prediction,
    model: Model,
    request: MapRequest,
    budget: int,
    without: Collection[str],
    watch: Stopwatch,
    notes: Sequence[str] = (),
    *,
    again: bool = False,
) -> Segmentation:
    """Place what was predicted on the scan's grid and clean it up.

    Args:
        scan: what was looked at.
        found: of it; its maps are let go of.
        model: whose card says how.
        request: what ``found`` holds.
        budget: bytes that may be taken.
        without: see :func:`segment`.
        watch: gets ``"restore"`` and ``"post-process"``.
        notes: that stand before all others.
        again: ``scan`` is still needed; otherwise what the network has seen of it is let go of.
    """
    card, seen, pieces = model.card, scan.seen, scan.pieces
    notes = [*notes, *scan.notes, *found.notes]
    voxels = scan.channels[0].GetNumberOfPixels()
    kept, left_out = affordable([*request.made, "probability"], voxels, budget)
    notes += [_left_out(name, voxels) for name in left_out if name != "probability"]
    with watch.stage("restore"):
        grids = [Grid.of(piece[0]) for piece in pieces]
        arrays = [
            unseen(grid, kept)
            if one is None or volume is None
            else restored(one, volume, grid, card, request, kept)
            for one, volume, grid in zip(found.maps, seen, grids, strict=True)
        ]
        found.maps.clear()
        if not again:
            seen.clear()
        result = _images(arrays, grids, Grid.of(scan.channels[0]))
        arrays.clear()
    with watch.stage("post-process"):
        grid = Grid.of(result["labels"])
        # The image goes first: there may be no room for it beside the array.
        labels = sitk.GetArrayFromImage(result.pop("labels"))
        clean(labels, grid, card, without, scan.channels[0], budget)
        result["labels"] = image_from_array(labels, grid)
        del labels
    if not sitk.GetArrayViewFromImage(result["labels"]).any():
        notes.append(f"The {model.name} model found nothing in this image.")
    if scan.flat is not None:
        flat = scan.flat
        result = {name: _flat(one, flat) for name, one in result.items()}
    levels = [name for name in kept if name.startswith("attention ")]
    return Segmentation(
        labels=result["labels"],
        segments=tuple(model.segments),
        model_name=model.name,
        model_version=model.version,
        probability=result.get("probability"),
        hardness=result.get("hardness"),
        attention=result.get("attention"),
        attention_levels=tuple(result[name] for name in levels),
        hardness_kind=request.hardness if "hardness" in kept else None,
        seconds={stage: round(seconds, 3) for stage, seconds in watch.seconds.items()},
        device=found.device,
        backend=found.backend,
        notes=tuple(notes),
    )


def settled(
    model: Model,
    device: str = "auto",
    maps: Sequence[str] = ("attention", "hardness"),
    tta: bool = False,
    *,
    hardness: HardnessKind | None = None,
    memory_gb: float | None = None,
    exact: bool = False,
    without: Collection[str] = (),
) -> tuple[MapRequest, list[str], int]:
    """Check the settings of :func:`segment`, whose arguments these are, before any image is read.

    Returns:
        The maps to make, notes on those that cannot be made, and bytes that may be taken.

    Raises:
        InputError: a setting cannot be used.
        ModelError: the model's network is not what its card says.
    """
    require_steps(without)
    pick_device(device)
    request, notes = map_request(model, maps, hardness, tta)
    return request, notes, memory_budget(memory_gb)


def _left_out(name: str, voxels: int) -> str:
    size = 4 * voxels / 2**30
    return f"The map {name} was left out: it takes {size:.1f} GB, more than the memory allowed."


def _looked_at(
    pieces: Sequence[Sequence[sitk.Image]], card: ModelCard, roi: Roi | None, watch: Stopwatch
) -> tuple[list[WorkingVolume | None], list[str]]:
    """What the network is to see of every piece, None where the region leaves one out; notes."""
    seen: list[WorkingVolume | None] = []
    notes: list[str] = []
    outside: InputError | None = None
    for piece in pieces:
        try:
            volume, of_piece = working_volume(piece, card, roi, watch)
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


def _images(
    arrays: Sequence[Restored], grids: Sequence[Grid], target: Grid
) -> dict[str, sitk.Image]:
    """The pieces of every map put together, as images on the scan's grid; each is let go of."""
    if len(grids) == 1:
        return {
            name: image_from_array(one.pop(name), grids[0]) for one in arrays for name in [*one]
        }
    whole = target.oriented_lps()
    images = {}
    for name in [*arrays[0]]:
        stacked = np.concatenate([one.pop(name) for one in arrays])
        images[name] = resample(image_from_array(stacked, whole), target, "nearest")
    return images


def _flat(volume: sitk.Image, image: sitk.Image) -> sitk.Image:
    plane: sitk.Image = volume[:, :, 0]
    plane.CopyInformation(image)
    return plane
