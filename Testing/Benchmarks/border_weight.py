"""A picture of the U-Net's border weight on real touching nuclei.

    python Testing/Benchmarks/border_weight.py --data FOLDER --picture border_weight.png

FOLDER holds nuclei_2d. The part of the image is drawn in which the gaps weigh most.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from imbalanceseg.atomic import atomic_path
from imbalanceseg.losses.weights import border_weight

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

_SIZE_INCHES = (18.0, 5.82)
_LEFT_EDGES, _WIDTH = (0.006, 0.324, 0.642), 0.312
_WEIGHT_COLORS = "inferno"


def parted(instances: np.ndarray) -> np.ndarray:
    """Instances without the pixels that lie against another one.

    The weight is meant for background between instances; where labels abut there is none.

    Args:
        instances: ``[Y, X]``, 0 background, one number an instance.
    """
    highest = np.iinfo(instances.dtype).max
    largest = ndimage.maximum_filter(instances, size=3)
    smallest = ndimage.minimum_filter(np.where(instances > 0, instances, highest), size=3)
    return np.where((instances > 0) & (largest == smallest), instances, 0)


def heaviest_part(weight: np.ndarray, side: int) -> tuple[slice, slice]:
    """The square of ``side`` pixels that holds most weight."""
    total = np.pad(weight.astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    sums = total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]
    y, x = np.unravel_index(int(sums.argmax()), sums.shape)
    return slice(int(y), int(y) + side), slice(int(x), int(x) + side)


def write_picture(image: np.ndarray, instances: np.ndarray, side: int, path: Path) -> None:
    """Draw image, outlines and weight side by side and write them as a PNG file.

    Args:
        image: grey values ``[Y, X]``.
        instances: ``[Y, X]``, 0 background, one number an instance.
        side: of the part to draw, in pixels.
        path: PNG file to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from imbalanceseg.reporting.canvas import BACKGROUND, DPI, caption

    separate = parted(instances)
    weight = border_weight(separate)
    part = heaviest_part(border_weight(separate, balance=False), side)
    figure = Figure(figsize=_SIZE_INCHES, dpi=DPI, facecolor=BACKGROUND)
    panels = [figure.add_axes((x, 0.0175, _WIDTH, 0.965)) for x in _LEFT_EDGES]
    for panel in panels:
        panel.set_axis_off()
    low, high = np.percentile(image[part], (0.5, 99.8))
    for panel in panels[:2]:
        panel.imshow(image[part], cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    draw_outlines(panels[1], separate[part])
    shown = panels[2].imshow(
        weight[part], cmap=_WEIGHT_COLORS, vmin=0, vmax=weight[part].max(), interpolation="nearest"
    )
    draw_color_bar(figure, panels[2], shown)
    caption(panels[0], "image", f"{side} x {side} pixels")
    caption(panels[1], "instances", f"{len(np.unique(separate[part])) - 1} nuclei")
    caption(panels[2], "border weight")
    with atomic_path(path) as temporary:
        FigureCanvasAgg(figure).print_png(str(temporary))


def draw_outlines(axes: Axes, instances: np.ndarray) -> None:
    """The outline of every instance, in changing colours."""
    from matplotlib import colormaps

    colors = colormaps["Set1"]
    for n, number in enumerate(np.unique(instances[instances > 0])):
        mask = np.pad(instances == number, 1)
        places = np.arange(-1, mask.shape[0] - 1)
        axes.contour(
            places, places, mask, levels=[0.5], colors=[colors(n % colors.N)], linewidths=1.8
        )
    axes.set_xlim(-0.5, instances.shape[1] - 0.5)
    axes.set_ylim(instances.shape[0] - 0.5, -0.5)


def draw_color_bar(figure: Figure, axes: Axes, shown: ScalarMappable) -> None:
    """Colour bar to the right of a panel."""
    from imbalanceseg.reporting.canvas import FAINT, TEXT

    box = axes.get_position()
    place = figure.add_axes((box.x1 + 0.008, box.y0, 0.011, box.height))
    bar = figure.colorbar(shown, cax=place)
    bar.ax.tick_params(colors=TEXT, labelsize=13, length=3)
    bar.outline.set_edgecolor(FAINT)


def main() -> None:
    """Draw what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with nuclei_2d")
    parser.add_argument("--picture", type=Path, required=True, help="PNG file to write")
    parser.add_argument("--case", default="train/train002", help="default %(default)s")
    parser.add_argument("--side", type=int, default=96, help="pixels drawn (default %(default)s)")
    arguments = parser.parse_args()
    split, name = arguments.case.split("/")
    folder = arguments.data / "nuclei_2d" / split
    image, instances = (
        sitk.GetArrayFromImage(sitk.ReadImage(str(folder / kind / f"{name}.png")))
        for kind in ("images", "labels")
    )
    if image.ndim == 3:
        image = image.mean(axis=2)
    write_picture(image, instances, arguments.side, arguments.picture)


if __name__ == "__main__":
    main()
