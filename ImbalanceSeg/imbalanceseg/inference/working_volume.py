"""What a network sees of an image: its region, scaled, resampled and turned as the card says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from torch import Tensor

from imbalanceseg.errors import InputError
from imbalanceseg.geometry import Grid, Interpolation, image_from_array, resample
from imbalanceseg.inference.stopwatch import Stopwatch
from imbalanceseg.models.card import ModelCard
from imbalanceseg.preprocessing.intensity import Normalization, normalized
from imbalanceseg.preprocessing.lung_box import chest_region
from imbalanceseg.preprocessing.regrid import Steps, nonzero_box, regridded, steps_to

Roi = tuple[Sequence[float], Sequence[float]]


@dataclass(frozen=True)
class WorkingVolume:
    """An image, or a slice of one, as the network sees it.

    Attributes:
        voxels: float32 ``[1, C, ...]`` along the network's axes, on the CPU.
        grid: where they lie, oriented LPS; one slice for a 2D network.
        axes: the axis of ``[Z, Y, X]``, or ``[Y, X]``, that each axis of the network is.
        body: mask outside which nothing is found, or None.
    """

    voxels: Tensor
    grid: Grid
    axes: tuple[int, ...]
    body: sitk.Image | None = None

    def on_grid(self, maps: Tensor) -> NDArray[np.float32]:
        """Maps ``[M, ...]`` along the network's axes as ``[M, Z, Y, X]`` on ``grid``."""
        back = np.argsort(self.axes)
        array = maps.numpy().transpose(0, *(axis + 1 for axis in back))
        return array.reshape(len(array), *self.grid.size[::-1])


def working_volume(
    channels: Sequence[sitk.Image],
    card: ModelCard,
    roi: Roi | None = None,
    stopwatch: Stopwatch | None = None,
) -> tuple[WorkingVolume, list[str]]:
    """Crop, scale, resample and turn an image for a network.

    Intensities are scaled on the image's own voxels and then resampled, as training cases are
    prepared; a range is clipped last, so that interpolation cannot leave it.

    Args:
        channels: 3D scalar images on one grid; a single slice for a 2D network.
        card: of the model.
        roi: two opposite LPS corners in mm; figures of the whole image still scale intensities.
        stopwatch: gets ``"crop"`` and ``"resample"``.

    Returns:
        The volume, and notes for the reader of the result.

    Raises:
        InputError: ``roi-outside`` or ``roi-invalid``.
    """
    watch = stopwatch or Stopwatch()
    with watch.stage("crop"):
        box, body, notes = _region(channels, card)
        part = box if roi is None else _within(box, roi)
    with watch.stage("resample"):
        inside: NDArray[np.bool_] | None = None
        if any(channel.normalization.scheme == "masked z-score" for channel in card.channels):
            inside = np.any([_upright(image, box) != 0 for image in channels], axis=0)
        steps = _steps(part, card)
        scaled = [
            _scaled(image, box, steps, channel.normalization, card, inside)
            for image, channel in zip(channels, card.channels, strict=True)
        ]
        volume = np.stack(scaled) if len(scaled) > 1 else scaled[0][None]
        if card.spatial_dims == 2:
            volume = volume[:, 0]
        volume = np.ascontiguousarray(volume.transpose(0, *(axis + 1 for axis in card.axes)))
    return WorkingVolume(torch.from_numpy(volume[None]), steps[-1][0], card.axes, body), notes


def _region(
    channels: Sequence[sitk.Image], card: ModelCard
) -> tuple[Grid, sitk.Image | None, list[str]]:
    """The box that is looked at, the body in it where that is known, and notes."""
    whole = Grid.of(channels[0]).oriented_lps()
    if card.crop == "lungs":
        region = chest_region(channels[0])
        if region is None:
            note = "No lungs were found in this image; the whole image was searched."
            return whole, None, [note]
        return region.box, region.body, []
    if card.crop == "nonzero":
        return _cropped_to_nonzero(channels, whole), None, []
    return whole, None, []


def _steps(part: Grid, card: ModelCard) -> Steps:
    spacing = card.network_spacing
    if spacing is None:
        return [(part, True)]
    # The slices of a 2D network stay as they are.
    axes = card.axes if card.spatial_dims == 3 else [axis + 1 for axis in card.axes]
    if card.resampling == "spline" and card.spatial_dims == 3:
        return steps_to(part, spacing, axes, card.anisotropic)
    target = list(part.spacing_mm)
    for axis, step in zip(axes, spacing, strict=True):
        target[2 - axis] = step
    return [(part.with_spacing(target), False)]


def _scaled(
    image: sitk.Image,
    box: Grid,
    steps: Steps,
    scheme: Normalization,
    card: ModelCard,
    inside: NDArray[np.bool_] | None,
) -> NDArray[np.float32]:
    """One channel ``[Z, Y, X]`` on the last grid of ``steps``."""
    interpolation: Interpolation = "bspline" if card.resampling == "spline" else "linear"
    everywhere = np.ones(1, bool) if inside is None else inside
    if scheme.scheme == "range":
        assert scheme.low is not None
        found = regridded(image, steps, interpolation, scheme.low, sitk.sitkFloat32)
        array = sitk.GetArrayFromImage(found)
        return normalized(array, scheme, everywhere)
    own = normalized(_upright(image, box), scheme, everywhere)
    return sitk.GetArrayFromImage(regridded(image_from_array(own, box), steps, interpolation))


def _upright(image: sitk.Image, box: Grid) -> NDArray[np.float32]:
    """The voxels of ``box``, which is a part of the image's own grid turned to LPS."""
    turned = resample(image, box, "nearest")
    return sitk.GetArrayFromImage(turned).astype(np.float32)


def _cropped_to_nonzero(channels: Sequence[sitk.Image], box: Grid) -> Grid:
    spans = nonzero_box(np.any([_upright(image, box) != 0 for image in channels], axis=0))
    start = [span.start for span in reversed(spans)]
    return box.cropped(start, [span.stop - span.start for span in reversed(spans)])


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
