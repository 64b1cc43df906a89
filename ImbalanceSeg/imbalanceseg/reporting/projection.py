"""Panels that look through the whole scan: the labels in relief, and the map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from imbalanceseg.labels import SegmentInfo
from imbalanceseg.reporting.canvas import (
    FAINT,
    TEXT,
    caption,
    extent_mm,
    fit,
    letters,
    rgb,
    scale_bar,
    write,
)
from imbalanceseg.reporting.scene import Scene
from imbalanceseg.reporting.statistics import bounding_slices

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PIXEL_MM = 0.35
"""Sampling of the relief: fine enough that its shading shows no voxel steps."""
_HEAT_COLORS = "inferno"
_MARGIN, _LEAST_PART = 0.15, 0.7
"""The view holds the labels with this margin, and at least this part of the scan."""


@dataclass(frozen=True)
class View:
    """A direction of sight along an axis (0 x, 1 y), from its low or from its high end."""

    name: str
    through: int
    horizontal: int
    from_high_end: bool


FRONT = View("front", through=1, horizontal=0, from_high_end=False)
SIDE = View("left", through=0, horizontal=1, from_high_end=True)


def draw_relief(axes: Axes, scene: Scene, segments: tuple[SegmentInfo, ...], view: View) -> None:
    """Labels in relief, lit and darkened with depth, over a faint projection of the scan."""
    _draw_radiograph(axes, scene, view)
    if scene.labels.any():
        relief = _relief(scene, segments, view)
        axes.imshow(relief, extent=_area(scene, view), interpolation="bilinear")
    else:
        write(axes, 0.5, 0.5, "nothing was labelled", color=TEXT, fontsize=14, ha="center")
    _finish(axes, scene, view, f"labels from the {view.name}")


def draw_heat(figure: Figure, axes: Axes, scene: Scene, heat: np.ndarray) -> None:
    """Greatest value of a map ``[z, y, x]`` along each line from front to back."""
    from matplotlib import colormaps

    _draw_radiograph(axes, scene, FRONT)
    greatest = np.clip(np.nan_to_num(heat.max(axis=1)), 0.0, 1.0)
    colors = colormaps[_HEAT_COLORS](greatest)
    colors[..., 3] = np.clip(greatest / 0.4, 0.0, 1.0)
    axes.imshow(colors, extent=_area(scene, FRONT), interpolation="bilinear")
    _finish(axes, scene, FRONT, f"{scene.heat_name} (maximum)")
    _color_bar(figure, axes)


def _area(scene: Scene, view: View) -> tuple[float, float, float, float]:
    width, height = extent_mm(scene, view.horizontal, 2)
    return 0.0, width, height, 0.0


def _finish(axes: Axes, scene: Scene, view: View, name: str) -> None:
    box = bounding_slices(scene.labels > 0) or tuple(slice(0, n) for n in scene.labels.shape)
    ranges = [_shown(scene, box, axis) for axis in (view.horizontal, 2)]
    fit(axes, *ranges, upwards=True)
    letters(axes, scene, view.horizontal, 2)
    caption(axes, name)
    scale_bar(axes)


def _shown(scene: Scene, box: tuple[slice, ...], axis: int) -> tuple[float, float]:
    """Range in mm along an axis that holds the labels with a margin, kept inside the scan."""
    spacing, size = scene.spacing_mm[axis], scene.labels.shape[2 - axis]
    low, high = box[2 - axis].start * spacing, box[2 - axis].stop * spacing
    whole = size * spacing
    half = min(max((high - low) * (0.5 + _MARGIN), whole * _LEAST_PART / 2), whole / 2)
    middle = min(max((low + high) / 2, half), whole - half)
    return middle - half, middle + half


def _draw_radiograph(axes: Axes, scene: Scene, view: View) -> None:
    low, high = scene.window
    floor, ceiling = low - (high - low) / 2, high + (high - low) / 2
    total = np.zeros((scene.image.shape[0], scene.image.shape[2 - view.horizontal]))
    for row, plane in enumerate(scene.image):
        total[row] = np.clip(plane, floor, ceiling).mean(axis=1 - view.through)
    dark, bright = np.percentile(total, (2, 99.5))
    axes.imshow(
        total,
        cmap="gray",
        vmin=dark,
        vmax=dark + 2.0 * max(bright - dark, 1e-6),
        extent=_area(scene, view),
        interpolation="bilinear",
    )


def _relief(scene: Scene, segments: tuple[SegmentInfo, ...], view: View) -> np.ndarray:
    """RGBA picture of the first labelled voxel along each line of sight."""
    from scipy.ndimage import gaussian_filter

    through = 2 - view.through
    labels = np.flip(scene.labels, through) if view.from_high_end else scene.labels
    # Row by row, because a mask of the whole scan would take as much memory as its labels.
    first = np.stack([(plane > 0).argmax(axis=through - 1) for plane in labels])
    label = np.take_along_axis(labels, np.expand_dims(first, through), axis=through)
    fine = np.ix_(_fine_index(scene, 2), _fine_index(scene, view.horizontal))
    label = label.squeeze(through)[fine]
    hit = label > 0
    depth_mm = first[fine] * scene.spacing_mm[view.through]
    coarsest_mm = max(scene.spacing_mm[view.horizontal], scene.spacing_mm[2])
    sigma = 0.6 * coarsest_mm / _PIXEL_MM
    weight = gaussian_filter(hit.astype(np.float32), sigma)
    smooth_mm = gaussian_filter(np.where(hit, depth_mm, 0.0).astype(np.float32), sigma)
    light = _light(smooth_mm / np.maximum(weight, 1e-3), hit)
    picture = np.zeros((*hit.shape, 4), dtype=np.float32)
    for segment in segments:
        picture[..., :3][label == segment.label] = rgb(segment)
    picture[..., :3] *= light[..., None]
    picture[..., 3] = np.clip((weight - 0.25) / 0.3, 0.0, 1.0)
    return _spread_color(picture, hit)


def _fine_index(scene: Scene, axis: int) -> np.ndarray:
    """For each fine pixel along an axis, the voxel it lies in."""
    size, spacing = scene.labels.shape[2 - axis], scene.spacing_mm[axis]
    count = max(size, min(round(size * spacing / _PIXEL_MM), 2048))
    return np.minimum((np.arange(count) + 0.5) * size / count, size - 1).astype(np.intp)


def _light(depth_mm: np.ndarray, hit: np.ndarray) -> np.ndarray:
    """Brightness: Lambert shading times a fade from near to far."""
    slope_up, slope_right = (np.clip(g, -3, 3) for g in np.gradient(depth_mm, _PIXEL_MM))
    length = np.sqrt(slope_right**2 + slope_up**2 + 1.0)
    # Rows grow towards the head, depth away from the viewer: the light comes from the upper left.
    lambert = (0.45 * slope_right - 0.5 * slope_up + 0.74) / length
    near, far = np.percentile(depth_mm[hit], (1, 99))
    fade = 1.0 - 0.5 * np.clip((depth_mm - near) / max(far - near, 60.0), 0.0, 1.0)
    return (0.40 + 0.90 * np.clip(lambert, 0.0, 1.0)) * fade


def _spread_color(picture: np.ndarray, hit: np.ndarray) -> np.ndarray:
    """Give the soft rim the colour of the nearest labelled pixel, so that edges do not darken."""
    from scipy.ndimage import distance_transform_edt

    nearest = distance_transform_edt(~hit, return_distances=False, return_indices=True)
    picture[..., :3] = picture[..., :3][tuple(nearest)]
    return np.clip(picture, 0.0, 1.0)


def _color_bar(figure: Figure, axes: Axes) -> None:
    box = axes.get_position(original=True)
    place = (box.x1 - 0.030, box.y0 + 0.58 * box.height, 0.008, 0.34 * box.height)
    bar = figure.add_axes(place)
    ramp = np.linspace(0, 1, 256)[:, None]
    bar.imshow(ramp, cmap=_HEAT_COLORS, aspect="auto", origin="lower", extent=(0, 1, 0, 1))
    bar.set_xticks([])
    bar.set_yticks((0, 0.5, 1), ("0", "0.5", "1"))
    bar.tick_params(colors=TEXT, labelsize=11, length=0)
    for spine in bar.spines.values():
        spine.set_color(FAINT)
