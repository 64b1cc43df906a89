"""Segment one image with one model: crop, resample, tiles, maps, back to the image's grid."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor, nn

from imbalanceseg.errors import InputError, ModelError
from imbalanceseg.geometry import Grid, image_from_array, resample
from imbalanceseg.inference.device import fast_precision, pick_device
from imbalanceseg.inference.postprocess import labelmap_from_probability
from imbalanceseg.inference.pruning import pruned_copy
from imbalanceseg.inference.segmentation import Segmentation
from imbalanceseg.models.bundle import Model, load_model
from imbalanceseg.networks.wingsnet import WingsNet
from imbalanceseg.preprocessing.lung_box import chest_region
from imbalanceseg.preprocessing.scan import check_scan
from imbalanceseg.progress import ProgressCallback, ProgressEvent, ignore_progress

MAPS = ("attention", "hardness")
Roi = tuple[Sequence[float], Sequence[float]]
_TILE_OVERLAP = 0.25
_MIRRORED_AXES = ((), (3,), (4,), (3, 4))


def segment(
    image: sitk.Image,
    model: Model | str | os.PathLike[str],
    device: str = "auto",
    maps: Sequence[str] = MAPS,
    tta: bool = False,
    roi: Roi | None = None,
    progress: ProgressCallback | None = None,
) -> Segmentation:
    """Segment a 3D image.

    Args:
        image: 3D scalar image with the intensities the model expects (HU for CT); any orientation.
        model: a model, the name of a shipped one, or the folder of a bundle.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:<n>"``.
        maps: which of ``"attention"`` and ``"hardness"`` to compute.
        tta: average over in-plane mirrored copies; four times the work.
        roi: two opposite LPS corners in mm; only what lies between them is segmented.
        progress: receives a :class:`~imbalanceseg.progress.ProgressEvent` at every step.

    Returns:
        Labels, probability and the maps asked for, on the grid of ``image``.

    Raises:
        InputError: the image, the device, a map's name or ``roi`` cannot be used.
        ModelError: the model is unknown, damaged, or has several classes.
    """
    progress = progress or ignore_progress
    clock = _Clock()
    unknown = sorted(set(maps) - set(MAPS))
    if unknown:
        raise InputError(
            "map-unknown", f"There is no map named {unknown[0]!r}.", f"Maps are {', '.join(MAPS)}."
        )
    check_scan(image)
    chosen = pick_device(device)
    model = model if isinstance(model, Model) else load_model(model)
    progress(ProgressEvent("prepare", 0, 1, "finding the region and resampling"))
    network = model.network.to(chosen)
    grid, body, notes = _working_grid(image, model, roi)
    if "attention" in maps and not hasattr(network, "forward_with_attention"):
        maps = [name for name in maps if name != "attention"]
        notes.append(f"The {model.name} model has no attention map.")
    volume = _volume(image, grid, model).to(chosen)
    progress(ProgressEvent("prepare", 1, 1))
    clock.lap("prepare")
    channels = _run_tiles(network, volume, model, maps, tta, progress)
    clock.lap("network")
    progress(ProgressEvent("restore", 0, 1, "placing the result on the scan's grid"))
    result = _restored(image, grid, body, model, channels)
    if not sitk.GetArrayViewFromImage(result["labels"]).any():
        notes.append(f"The {model.name} model found nothing in this image.")
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


def _working_grid(
    image: sitk.Image, model: Model, roi: Roi | None
) -> tuple[Grid, sitk.Image | None, list[str]]:
    """The grid to compute on, a mask of the body where the model wants one, and notes."""
    notes: list[str] = []
    box, body = Grid.of(image).oriented_lps(), None
    if model.card.crop == "lungs":
        region = chest_region(image)
        if region is None:
            notes.append("No lungs were found in this image; the whole image was searched.")
        else:
            box, body = region.box, region.body
    if roi is not None:
        box = _within(box, roi)
    return box.with_spacing(model.card.spacing_mm), body, notes


def _within(box: Grid, roi: Roi) -> Grid:
    corners = box.physical_to_index(_two_points(roi))
    start = np.clip(np.floor(corners.min(0)), 0, box.size).astype(int)
    stop = np.clip(np.ceil(corners.max(0)) + 1, 0, box.size).astype(int)
    if np.any(stop - start < 1):
        raise InputError(
            "roi-outside",
            "The region of interest does not overlap the image.",
            "Give two opposite corners in LPS millimetres.",
        )
    return box.cropped(start, stop - start)


def _two_points(roi: Roi) -> np.ndarray:
    try:
        points = np.asarray(roi, dtype=np.float64)
    except (TypeError, ValueError):
        points = np.empty(0)
    if points.shape == (2, 3) and np.isfinite(points).all():
        return points
    raise InputError(
        "roi-invalid",
        f"The region of interest {roi!r} is not two points of three finite numbers.",
        "Give two opposite corners in LPS millimetres.",
    )


def _volume(image: sitk.Image, grid: Grid, model: Model) -> Tensor:
    """Normalised intensities ``[1, 1, Z, Y, X]`` on the working grid."""
    intensity = model.card.intensity
    source = sitk.Cast(image, sitk.sitkFloat32)
    array = sitk.GetArrayFromImage(resample(source, grid, "linear", intensity.clip_low))
    scaled = (array - intensity.clip_low) / (intensity.clip_high - intensity.clip_low)
    return torch.from_numpy(np.clip(scaled, 0, 1)[None, None])


def _run_tiles(
    network: nn.Module,
    volume: Tensor,
    model: Model,
    maps: Sequence[str],
    tta: bool,
    progress: ProgressCallback,
) -> dict[str, np.ndarray]:
    """Maps by name, float32 ``[Z, Y, X]`` in [0, 1] on the working grid."""
    from monai.inferers.utils import sliding_window_inference

    largest = model.card.tile_voxels[::-1]
    tile = [min(t, -(-n // 16) * 16) for t, n in zip(largest, volume.shape[2:], strict=True)]
    mirrored = _MIRRORED_AXES if tta else _MIRRORED_AXES[:1]
    names = ("probability", *(name for name in MAPS if name in maps))
    predict = _predictor(network, model, names, mirrored)
    total = _tile_count(volume.shape[2:], tile)
    done = 0

    def predict_and_tell(patch: Tensor) -> Tensor:
        nonlocal done
        progress(ProgressEvent("tiles", done, total))
        done += 1
        return predict(patch)

    with torch.inference_mode():
        stacked = sliding_window_inference(
            volume,
            tile,
            1,
            predict_and_tell,
            overlap=_TILE_OVERLAP,
            mode="gaussian",
            # Padding with zeros, which is air, would shift what the network normalises by.
            padding_mode="replicate",
            device="cpu",
        )
    progress(ProgressEvent("tiles", total, total))
    return {name: stacked[0, n].float().numpy() for n, name in enumerate(names)}


def _predictor(
    network: nn.Module, model: Model, names: Sequence[str], mirrored: Sequence[tuple[int, ...]]
) -> Callable[[Tensor], Tensor]:
    weakened = pruned_copy(network, model.card.hardness.sparsity) if "hardness" in names else None
    for each in (network, weakened):
        if each is not None:
            each.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def once(patch: Tensor) -> Tensor:
        patch = patch.to(memory_format=torch.channels_last_3d)
        with fast_precision(patch.device):
            maps: dict[str, Tensor] = {}
            if "attention" in names:
                logits, maps["attention"] = cast(WingsNet, network).forward_with_attention(patch)
            else:
                logits = network(patch)
            if logits.shape[1] != 1:
                raise ModelError(
                    "model-not-binary",
                    f"The {model.name} model tells {logits.shape[1]} classes apart.",
                    "Models of one class against background are supported.",
                )
            maps["probability"] = torch.sigmoid(logits.float())
            if weakened is not None:
                fragile = torch.sigmoid(weakened(patch).float())
                maps["hardness"] = (maps["probability"] - fragile).abs()
        return torch.cat([maps[name].float() for name in names], dim=1)

    def averaged(patch: Tensor) -> Tensor:
        views = [once(patch.flip(axes)).flip(axes) if axes else once(patch) for axes in mirrored]
        return torch.stack(views).mean(0)

    return averaged


def _tile_count(size: Sequence[int], tile: Sequence[int]) -> int:
    from monai.data.utils import dense_patch_slices
    from monai.inferers.utils import _get_scan_interval

    padded = [max(n, t) for n, t in zip(size, tile, strict=True)]
    interval = _get_scan_interval(padded, tile, 3, (_TILE_OVERLAP,) * 3)
    return len(dense_patch_slices(padded, tile, interval))


def _restored(
    image: sitk.Image,
    grid: Grid,
    body: sitk.Image | None,
    model: Model,
    channels: dict[str, np.ndarray],
) -> dict[str, sitk.Image]:
    target = Grid.of(image)
    if body is not None:
        inside = sitk.GetArrayFromImage(resample(body, grid, "nearest"))
        channels = {name: array * inside for name, array in channels.items()}
    restored = {
        name: sitk.Clamp(resample(image_from_array(array, grid), target), sitk.sitkFloat32, 0, 1)
        for name, array in channels.items()
    }
    restored["labels"] = labelmap_from_probability(restored["probability"], image, model.card)
    return restored
