"""How the chest CT that is painted for training differs from a real one, in figures and by eye.

    python Testing/Benchmarks/ct_appearance.py DATA [--images 8] [--patient 4] [--picture FILE.png]

DATA holds airway_ricord (a real CT and its region-grown airways) and airway_medmpd_masks (anatomy
to paint over). Painted CT is sampled on the real scanner's spacing first, and its airways end where
region growing would stop, as the real ones do. What is compared: HU of lumen, wall and parenchyma,
the wall's contrast by generation of the airway, and the power of the noise by frequency. Appearance
in training is drawn wider than reality, so the question is whether the real scan lies within the
painted ones; figures outside their range are marked.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import SimpleITK as sitk
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy import ndimage

from imbalanceseg.geometry import Grid, resample
from imbalanceseg.io import read_image
from imbalanceseg.metrics.airway_tree import parse_airway_tree
from imbalanceseg.metrics.masks import bounding_box
from imbalanceseg.preprocessing.lung_box import chest_region
from imbalanceseg.synthesis.airway import as_scanned, ct_over
from imbalanceseg.synthesis.anatomy import anatomy_from_masks
from imbalanceseg.synthesis.chest_ct import training_style

Values = NDArray[np.float32]

_FIRST_SEED = 3000
_GENERATIONS = ("0", "1", "2", "3", "4", "5 and beyond")
_WALL_MM, _AROUND_MM, _FAR_MM = (0.2, 1.6), (3.0, 6.0), 8.0
_MARGIN_MM = 30.0
_SOLID_HU, _LUNG_HU, _GROWN_HU = -600, -500, -870
_NOISE_VOXELS = 24
_BANDS_PER_MM = ((0.05, 0.2), (0.2, 0.4), (0.4, 0.71))
_DECILES = (10, 50, 90)


@dataclass(frozen=True, eq=False)
class Appearance:
    """What is measured on one CT.

    Attributes:
        figures: by name.
        histograms: HU of a sample of voxels, by tissue.
    """

    figures: dict[str, float]
    histograms: dict[str, Values]


def appearance(ct: sitk.Image, airway: sitk.Image) -> Appearance:
    """Measure a CT.

    Args:
        ct: in HU.
        airway: its lumen, on the same grid.
    """
    tree = parse_airway_tree(airway)
    grid = _around(airway)
    hu = sitk.GetArrayFromImage(resample(ct, grid, "linear", -1024)).astype(np.float32)
    regions = sitk.GetArrayFromImage(tree.region_image(grid)).astype(int)
    spacing = grid.spacing_mm[::-1]
    outside, nearest = ndimage.distance_transform_edt(
        regions == 0, sampling=spacing, return_indices=True
    )
    inside = ndimage.distance_transform_edt(regions > 0, sampling=spacing)
    generation_of = np.array([0, *(branch.generation for branch in tree.branches)])
    generation = np.minimum(generation_of[regions[tuple(nearest)]], len(_GENERATIONS) - 1)

    def shell(low: float, high: float) -> NDArray[np.bool_]:
        return (outside > low) & (outside <= high)

    lung = ndimage.gaussian_filter(hu, [2 / s for s in spacing]) < _LUNG_HU
    region = chest_region(ct)
    assert region is not None
    body = sitk.GetArrayFromImage(resample(region.body, grid, "nearest")) > 0
    lung &= ndimage.binary_erosion(lung, iterations=3) & body
    tissues = {
        "lumen": inside > 1.01 * max(spacing),
        "wall": shell(*_WALL_MM) & (generation < 3),
        "parenchyma": lung & (outside > _FAR_MM) & (hu < _SOLID_HU),
    }
    figures: dict[str, float] = {}
    for name, mask in tissues.items():
        for decile, value in zip(_DECILES, np.percentile(hu[mask], _DECILES), strict=True):
            figures[f"{name}, {decile} % of HU below"] = float(value)
    for number, name in enumerate(_GENERATIONS):
        of = generation == number
        wall, around = shell(*_WALL_MM) & of & lung, shell(*_AROUND_MM) & of & lung
        if wall.sum() > 200 and around.sum() > 200:
            contrast = float(hu[wall].mean() - hu[around].mean())
            figures[f"wall above parenchyma, generation {name}, HU"] = contrast
    figures |= noise_power(hu, tissues["parenchyma"], spacing)
    draw = np.random.default_rng(0)
    sample = {name: draw.choice(hu[mask], 20000) for name, mask in tissues.items()}
    return Appearance(figures, sample)


def _around(airway: sitk.Image) -> Grid:
    """The box of the airways, and a margin."""
    grid = Grid.of(airway)
    box = bounding_box(sitk.GetArrayViewFromImage(airway) > 0)[::-1]
    reach = [round(_MARGIN_MM / s) for s in grid.spacing_mm]
    low = [max(0, span.start - r) for span, r in zip(box, reach, strict=True)]
    high = [min(n, b.stop + r) for n, b, r in zip(grid.size, box, reach, strict=True)]
    return grid.cropped(low, [h - start for h, start in zip(high, low, strict=True)])


def noise_power(
    hu: Values, lung: NDArray[np.bool_], spacing: tuple[float, ...]
) -> dict[str, float]:
    """Standard deviation of the noise by bands of frequency in the slice, in squares of lung."""
    n = _NOISE_VOXELS
    window = np.outer(np.hanning(n), np.hanning(n)).astype(np.float32)
    frequency = np.hypot(*np.meshgrid(*(np.fft.fftfreq(n, s) for s in spacing[1:]), indexing="ij"))
    total, squares = np.zeros((n, n)), 0
    for z in range(0, len(hu), 2):
        for y in range(0, hu.shape[1] - n, n):
            for x in range(0, hu.shape[2] - n, n):
                at = (z, slice(y, y + n), slice(x, x + n))
                if lung[at].mean() > 0.97:
                    square = np.clip(hu[at], None, _SOLID_HU)
                    square = (square - square.mean()) * window
                    total += np.abs(np.fft.fft2(square)) ** 2
                    squares += 1
    power = total / max(squares, 1) / (n * n * (window**2).sum())
    bands = {
        f"noise, {low} to {high} per mm, HU": (frequency >= low) & (frequency < high)
        for low, high in _BANDS_PER_MM
    }
    return {name: float(np.sqrt(power[band].sum())) for name, band in bands.items()}


def show(real: Appearance, painted: list[Appearance]) -> None:
    """The real scan's figures beside the range of the painted ones'."""
    table = Table("figure", "real", "painted, middle", "painted, range", "within")
    for name, value in real.figures.items():
        values = [one.figures[name] for one in painted if name in one.figures]
        low, middle, high = min(values), float(np.median(values)), max(values)
        within = "yes" if low <= value <= high else "NO"
        table.add_row(name, f"{value:.0f}", f"{middle:.0f}", f"{low:.0f} to {high:.0f}", within)
    Console(width=110).print(table)


def draw(
    real: tuple[sitk.Image, Appearance], painted: list[tuple[sitk.Image, Appearance]], path: Path
) -> None:
    """Slices of the real scan and of painted ones in the lung window; HU of the tissues below."""
    from matplotlib.figure import Figure

    shown = [real, *painted[:3]]
    figure = Figure(figsize=(3 * len(shown), 8.4), layout="constrained")
    rows = figure.subplots(3, len(shown))
    for column, (ct, _) in enumerate(shown):
        hu = sitk.GetArrayFromImage(ct)
        z, y, _ = (n // 2 for n in hu.shape)
        aspect = ct.GetSpacing()[2] / ct.GetSpacing()[0]
        rows[0, column].imshow(hu[z], cmap="gray", vmin=-1100, vmax=100)
        rows[1, column].imshow(hu[::-1, y], cmap="gray", vmin=-1100, vmax=100, aspect=aspect)
        rows[0, column].set_title("real (RICORD)" if column == 0 else f"painted {column}")
        for row in rows[:2]:
            row[column].axis("off")
    for panel, tissue in zip(rows[2], real[1].histograms, strict=False):
        for number, (_, one) in enumerate([*painted, real]):
            is_real = number == len(painted)
            style = {"color": "C3", "linewidth": 2} if is_real else {"color": "0.7"}
            panel.hist(
                one.histograms[tissue],
                80,
                range=(-1024, 100),
                density=True,
                histtype="step",
                **style,
            )
        panel.set_title(f"{tissue}, HU: real red", fontsize=9)
        panel.set_yticks([])
    for panel in rows[2, len(real[1].histograms) :]:
        panel.axis("off")
    figure.savefig(path, dpi=80)


def main(
    data: Annotated[Path, typer.Argument(help="Folder with the data sets.")],
    images: Annotated[int, typer.Option(min=3, help="CT to paint.")] = 8,
    patient: Annotated[int, typer.Option(min=1, max=4, help="Anatomy to paint over.")] = 4,
    picture: Annotated[Path | None, typer.Option(help="Side by side, as PNG.")] = None,
) -> None:
    """Compare painted chest CT with a real one."""
    folder = data / "airway_ricord"
    ct = read_image(folder / "dicom")
    upright = Grid.of(ct).oriented_lps()
    ct = resample(ct, upright, "linear", -1024)
    airway = resample(read_image(folder / "airway_region_grown.nii.gz"), upright, "nearest")
    real = ct, appearance(ct, sitk.Cast(airway > 0, sitk.sitkUInt8))
    anatomy = anatomy_from_masks(data / "airway_medmpd_masks", patient)
    painted = []
    for seed in range(_FIRST_SEED, _FIRST_SEED + images):
        style = training_style(np.random.default_rng(seed))
        made, lumen = as_scanned(*ct_over(anatomy, seed, style), upright.spacing_mm)
        lumen = sitk.Cast((made < _GROWN_HU) & (lumen > 0), sitk.sitkUInt8)
        painted.append((made, appearance(made, lumen)))
    show(real[1], [one for _, one in painted])
    if picture:
        draw(real, painted, picture)


if __name__ == "__main__":
    typer.run(main)
