"""What every panel of the overview shares: colours, letters, captions, the scale bar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from imbalanceseg.labels import SegmentInfo
from imbalanceseg.reporting.scene import Scene

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH_PX, HEIGHT_PX, DPI = 1800, 1180, 100
BACKGROUND = "#0a0c0f"
TEXT = "#d7dde4"
FAINT = "#8b95a1"
WARNING = "#ffb454"


def extent_mm(scene: Scene, horizontal: int, vertical: int) -> tuple[float, float]:
    size = scene.image.shape[::-1]
    return (
        size[horizontal] * scene.spacing_mm[horizontal],
        size[vertical] * scene.spacing_mm[vertical],
    )


def rgb(segment: SegmentInfo) -> tuple[float, float, float]:
    red, green, blue = segment.color
    return red / 255, green / 255, blue / 255


def fit(
    axes: Axes, horizontal: tuple[float, float], vertical: tuple[float, float], *, upwards: bool
) -> None:
    """Show at least the given ranges in mm, centred, at true aspect; the cell keeps its size."""
    box = axes.get_position(original=True)
    cell = (box.width * WIDTH_PX) / (box.height * HEIGHT_PX)
    width, height = horizontal[1] - horizontal[0], vertical[1] - vertical[0]
    half_width, half_height = max(width, height * cell) / 2, max(height, width / cell) / 2
    x, y = sum(horizontal) / 2, sum(vertical) / 2
    axes.set_xlim(x - half_width, x + half_width)
    span = (y - half_height, y + half_height)
    axes.set_ylim(span if upwards else span[::-1])
    axes.set_aspect("equal")


def letters(axes: Axes, scene: Scene, horizontal: int, vertical: int) -> None:
    left, right = scene.letters(horizontal)
    low, high = scene.letters(vertical)
    top, bottom = (high, low) if vertical == 2 else (low, high)
    places = ((0.045, 0.5, left), (0.955, 0.5, right), (0.5, 0.955, top), (0.5, 0.05, bottom))
    for x, y, letter in places:
        write(axes, x, y, letter, color="white", fontsize=14, weight="bold", ha="center")


def write(axes: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """Text in axes coordinates with a dark rim, readable on any grey."""
    from matplotlib.patheffects import withStroke

    rim = [withStroke(linewidth=2.5, foreground="black")]
    axes.text(x, y, text, transform=axes.transAxes, va="center", path_effects=rim, **style)


def caption(axes: Axes, name: str, detail: str = "") -> None:
    write(axes, 0.02, 0.955, name, color=TEXT, fontsize=13, weight="bold", ha="left")
    if detail:
        write(axes, 0.98, 0.955, detail, color=TEXT, fontsize=11, ha="right")


def scale_bar(axes: Axes) -> None:
    from matplotlib.patheffects import withStroke

    low, high = sorted(axes.get_xlim())
    width = high - low
    length = max((mm for mm in (1, 2, 5, 10, 20, 50, 100) if mm <= 0.28 * width), default=1)
    fraction = length / width
    rim = [withStroke(linewidth=4.5, foreground="black")]
    axes.plot(
        (0.025, 0.025 + fraction), (0.045, 0.045), transform=axes.transAxes, color="white",
        linewidth=2.4, solid_capstyle="butt", path_effects=rim,
    )  # fmt: skip
    text = f"{length // 10} cm" if length >= 10 else f"{length} mm"
    write(axes, 0.025, 0.08, text, color="white", fontsize=11, ha="left")
