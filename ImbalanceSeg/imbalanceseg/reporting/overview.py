"""One picture of a result: three planes, a projection of the labels, and the map.

Drawn by the conventions of a reading room: patient right on the left of the picture, true aspect,
a scale bar and orientation letters.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from imbalanceseg.inference.segmentation import Segmentation
from imbalanceseg.labels import SegmentInfo
from imbalanceseg.reporting.canvas import (
    BACKGROUND,
    DPI,
    FAINT,
    HEIGHT_PX,
    TEXT,
    WARNING,
    WIDTH_PX,
    caption,
    extent_mm,
    fit,
    letters,
    rgb,
    scale_bar,
)
from imbalanceseg.reporting.projection import FRONT, SIDE, draw_heat, draw_relief
from imbalanceseg.reporting.scene import Scene
from imbalanceseg.reporting.statistics import SegmentStatistics, segment_statistics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DISCLAIMER = "NOT FOR CLINICAL USE"
_LEFT, _RIGHT, _TOP, _BOTTOM, _GAP = 0.014, 0.986, 0.915, 0.020, 0.010

_Plane = tuple[str, int, int, int]
_PLANES: tuple[_Plane, ...] = (
    ("axial", 2, 0, 1),
    ("coronal", 1, 0, 2),
    ("sagittal", 0, 1, 2),
)
"""Name, axis looked along, horizontal axis and vertical axis (0 x, 1 y, 2 z)."""


def write_overview(
    image: sitk.Image,
    result: Segmentation,
    path: Path,
    *,
    title: str = "",
    window: Mapping[str, float] | None = None,
) -> None:
    """Draw the overview and write it as a PNG file of 1800 x 1180 pixels.

    Args:
        image: the scan.
        result: labels and maps on the scan's grid.
        path: PNG file to write.
        title: headline; the names of the segments when empty.
        window: ``{"center": ..., "width": ...}`` of the display; from percentiles when None.

    Raises:
        GeometryError: labels or map do not lie on the scan's grid.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = draw_overview(image, result, title=title, window=window)
    FigureCanvasAgg(figure).print_png(str(path))


def draw_overview(
    image: sitk.Image,
    result: Segmentation,
    *,
    title: str = "",
    window: Mapping[str, float] | None = None,
) -> Figure:
    """The overview as a matplotlib figure; arguments and errors of :func:`write_overview`."""
    from matplotlib.figure import Figure

    scene = Scene.of(image, result, window)
    size = (WIDTH_PX / DPI, HEIGHT_PX / DPI)
    figure = Figure(figsize=size, dpi=DPI, facecolor=BACKGROUND)
    cells = _cells(figure)
    for cell, plane in zip(cells[:3], _PLANES, strict=True):
        _draw_plane(cell, scene, plane, result.segments)
    draw_relief(cells[3], scene, result.segments, FRONT)
    if scene.heat is None:
        draw_relief(cells[4], scene, result.segments, SIDE)
    else:
        draw_heat(figure, cells[4], scene, scene.heat)
    statistics = segment_statistics(result.labels, result.segments, result.hardness)
    _draw_facts(cells[5], scene, result, statistics)
    _draw_header(figure, result, title)
    return figure


def _cells(figure: Figure) -> list[Axes]:
    """Six equal cells below the header, row by row."""
    gap_y = _GAP * WIDTH_PX / HEIGHT_PX
    width = (_RIGHT - _LEFT - 2 * _GAP) / 3
    height = (_TOP - _BOTTOM - gap_y) / 2
    cells = []
    for number in range(6):
        row, column = divmod(number, 3)
        corner = (_LEFT + column * (width + _GAP), _TOP - height - row * (height + gap_y))
        axes = figure.add_axes((*corner, width, height), facecolor="black")
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_color("#1d232a")
        cells.append(axes)
    return cells


def _draw_header(figure: Figure, result: Segmentation, title: str) -> None:
    headline = title or ", ".join(s.name for s in result.segments)
    made_by = f"ImbalanceSeg · model {result.model_name} {result.model_version}"
    middle = (1 + _TOP) / 2
    figure.text(
        _LEFT, middle + 0.015, headline, color="white", fontsize=21, weight="bold", va="center"
    )
    figure.text(_LEFT, middle - 0.020, made_by, color=FAINT, fontsize=13, va="center")
    style: dict[str, Any] = {"color": WARNING, "fontsize": 17, "weight": "bold"}
    figure.text(_RIGHT, middle, _DISCLAIMER, va="center", ha="right", **style)


def _draw_plane(axes: Axes, scene: Scene, plane: _Plane, segments: tuple[SegmentInfo, ...]) -> None:
    name, through, horizontal, vertical = plane
    index, count = scene.focus[through], scene.image.shape[2 - through]
    picture = np.take(scene.image, index, axis=2 - through)
    width, height = extent_mm(scene, horizontal, vertical)
    low, high = scene.window
    area = (0, width, height, 0)
    axes.imshow(picture, cmap="gray", vmin=low, vmax=high, extent=area, interpolation="bilinear")
    labels = np.take(scene.labels, index, axis=2 - through)
    _draw_contours(axes, scene, labels, segments, (horizontal, vertical))
    fit(axes, (0, width), (0, height), upwards=vertical == 2)
    _draw_cuts(axes, scene, horizontal, vertical)
    letters(axes, scene, horizontal, vertical)
    caption(axes, name, f"{index + 1}/{count}")
    scale_bar(axes)


def _draw_contours(
    axes: Axes,
    scene: Scene,
    labels: np.ndarray,
    segments: tuple[SegmentInfo, ...],
    plane_axes: tuple[int, int],
) -> None:
    # A border of background closes the contours of labels that touch the edge of the image.
    step_x, step_y = (scene.spacing_mm[a] for a in plane_axes)
    x = (np.arange(-1, labels.shape[1] + 1) + 0.5) * step_x
    y = (np.arange(-1, labels.shape[0] + 1) + 0.5) * step_y
    for segment in segments:
        mask = np.pad(labels == segment.label, 1)
        if mask.any():
            axes.contour(x, y, mask, levels=[0.5], colors=[rgb(segment)], linewidths=1.2)


def _draw_cuts(axes: Axes, scene: Scene, horizontal: int, vertical: int) -> None:
    """Short ticks at the border that say where the other two planes cut."""
    x = (scene.focus[horizontal] + 0.5) * scene.spacing_mm[horizontal]
    y = (scene.focus[vertical] + 0.5) * scene.spacing_mm[vertical]
    style: dict[str, Any] = {"color": WARNING, "linewidth": 1.6}
    for low, high in ((0.0, 0.018), (0.982, 1.0)):
        axes.axvline(x, low, high, **style)
        axes.axhline(y, low, high, **style)


def _draw_facts(
    axes: Axes, scene: Scene, result: Segmentation, statistics: tuple[SegmentStatistics, ...]
) -> None:
    axes.set_facecolor(BACKGROUND)
    y = 0.93
    for one, segment in list(zip(statistics, result.segments, strict=True))[:4]:
        axes.text(0.05, y, "■", color=rgb(segment), fontsize=17, va="center")
        axes.text(0.11, y, one.name, color="white", fontsize=16, weight="bold", va="center")
        for name, value in _segment_facts(one):
            y = _fact(axes, y - 0.062, name, value)
        y -= 0.095
    for name, value in _scan_facts(scene, result):
        y = _fact(axes, y, name, value) - 0.062
    for note in result.notes[:2]:
        axes.text(0.05, y, note, color=WARNING, fontsize=12, va="top", wrap=True)
        y -= 0.062


def _segment_facts(one: SegmentStatistics) -> list[tuple[str, str]]:
    facts = [
        ("volume", f"{one.volume_ml:.2f} ml"),
        ("voxels", f"{one.voxels:,}"),
        ("connected pieces", f"{one.components:,}"),
    ]
    if one.mean_hardness is not None:
        facts.append(("mean hardness at its surface", f"{one.mean_hardness:.3f}"))
    return facts


def _scan_facts(scene: Scene, result: Segmentation) -> list[tuple[str, str]]:
    size = " x ".join(str(n) for n in reversed(scene.image.shape))
    spacing = " x ".join(f"{s:.3g}" for s in scene.spacing_mm)
    low, high = scene.window
    return [
        ("matrix (L x P x S)", size),
        ("spacing", f"{spacing} mm"),
        ("display window", f"{low:.4g} to {high:.4g}"),
        ("computed on", result.device),
    ]


def _fact(axes: Axes, y: float, name: str, value: str) -> float:
    axes.text(0.11, y, name, color=FAINT, fontsize=13, va="center")
    axes.text(0.95, y, value, color=TEXT, fontsize=13, va="center", ha="right")
    return y
