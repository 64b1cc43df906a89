"""A model's worst mistakes in one scan: what it missed, and what it drew where nothing is.

    python Testing/Benchmarks/gallery.py MODEL IMAGE REFERENCE PICTURE.png [--each 5] [--beyond 2]

Axial crops through the largest pieces of the reference that lie more than 2 mm beyond what the
model drew, and of what it drew beyond the reference; the reference is green, the model red.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import cc3d
import edt
import numpy as np
import SimpleITK as sitk
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from imbalanceseg.geometry import Grid, resample
from imbalanceseg.inference.segment import segment
from imbalanceseg.io import read_image
from imbalanceseg.models.bundle import load_model

_HALF_MM = 32.0

Mask = NDArray[np.bool_]


def worst(
    of: Mask, against: Mask, each: int, beyond_mm: float, spacing_mm: tuple[float, float, float]
) -> list[tuple[int, tuple[int, int, int]]]:
    """Size and middle of the largest pieces that lie farther than so much from the other mask."""
    far = of.copy()
    if against.any():
        far &= edt.edt(~against, anisotropy=spacing_mm[::-1]) > beyond_mm
    pieces = cc3d.connected_components(far.astype(np.uint8), connectivity=26)
    sizes = np.bincount(pieces.ravel())
    found = []
    for number in sorted(range(1, len(sizes)), key=lambda n: -sizes[n])[:each]:
        voxels = np.argwhere(pieces == number)
        nearest = np.abs(voxels - np.median(voxels, axis=0)).sum(axis=1).argmin()
        z, y, x = (int(v) for v in voxels[nearest])
        found.append((int(sizes[number]), (z, y, x)))
    return found


def main(
    model: str,
    image: Path,
    reference: Path,
    picture: Path,
    each: Annotated[int, typer.Option(min=1, help="Of missed and of false ones.")] = 5,
    beyond: Annotated[float, typer.Option(min=0, help="Millimetres that are forgiven.")] = 2.0,
) -> None:
    """Segment a scan and draw the worst of it."""
    upright = Grid.of(read_image(image)).oriented_lps()
    scan = resample(read_image(image), upright, "linear")
    true = sitk.GetArrayFromImage(resample(read_image(reference), upright, "nearest")) == 1
    loaded = load_model(model)
    labels = segment(scan, loaded, device="cpu", maps=()).labels
    found = sitk.GetArrayFromImage(labels) > 0
    values = sitk.GetArrayFromImage(scan).astype(np.float32)
    asked = each, beyond, upright.spacing_mm
    rows = (("missed", worst(true, found, *asked)), ("false", worst(found, true, *asked)))
    window = 0.0, float(np.percentile(values[values > 0], 99.5))
    if loaded.card.window is not None:
        middle, width = loaded.card.window.center, loaded.card.window.width
        window = middle - width / 2, middle + width / 2
    figure = Figure(figsize=(2.2 * each, 5.0), layout="constrained")
    for panels, (what, pieces) in zip(figure.subplots(2, each, squeeze=False), rows, strict=True):
        for panel in panels:
            panel.axis("off")
        for panel, (size, place) in zip(panels, pieces, strict=False):
            _draw(panel, values, window, true, found, place, upright.spacing_mm)
            panel.set_title(f"{what}, {size} voxels", fontsize=8)
    figure.savefig(picture, dpi=100)


def _draw(
    panel: Axes,
    values: NDArray[np.float32],
    window: tuple[float, float],
    true: Mask,
    found: Mask,
    place: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
) -> None:
    z, y, x = place
    half_y, half_x = (int(_HALF_MM / s) for s in spacing_mm[1::-1])
    box = slice(max(0, y - half_y), y + half_y), slice(max(0, x - half_x), x + half_x)
    aspect = spacing_mm[1] / spacing_mm[0]
    panel.imshow(values[z][box], cmap="gray", vmin=window[0], vmax=window[1], aspect=aspect)
    for mask, colour in ((true, "#33dd55"), (found, "#ff4433")):
        if mask[z][box].any():
            panel.contour(mask[z][box], [0.5], colors=colour, linewidths=0.9)


if __name__ == "__main__":
    typer.run(main)
