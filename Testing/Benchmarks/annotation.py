"""A few painted slices: ours against what a user would do instead, on real cases and phantoms.

    python Testing/Benchmarks/annotation.py DATA RESULTS.json [--names ms07,brain1,spleen]
        [--methods "random forest,ours"] [--slices 3,5,10] [--seeds 3] [--picture FILE.png]
        [--model airway]

A simulated person paints slices of the reference, at even steps along the axis of the thickest
spacing, shifted by part of a step that the seed decides. Every method gets the same painted slices.
Dice and, of lesions, the F1 of instances count the voxels outside the painted slices only, so a
lesion that a painted slice cuts through counts as two. A result is written as soon as it is there:
the same command goes on where it was stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated, Any

import numpy as np
import SimpleITK as sitk
import typer
from rich.console import Console
from rich.table import Table
from rivals import RIVALS, Rival

from imbalanceseg.annotation.annotation import Annotation
from imbalanceseg.annotation.simulated import evenly_spaced_slices, paint_slices
from imbalanceseg.atomic import write_json
from imbalanceseg.geometry import Grid, image_from_array, resample
from imbalanceseg.io import read_image
from imbalanceseg.labels import UNLABELLED
from imbalanceseg.metrics.evaluate import evaluate
from imbalanceseg.metrics.masks import bounding_box

CASES = ("ms07", "brain1", "spleen", "hippocampus", "airway")
PHANTOMS = ("phantom-tumor", "phantom-lesion", "phantom-airway")
OURS = "ours"
_HIPPOCAMPI = 10
_PHANTOM_SEED = 700
_AIRWAY_MARGIN_MM = 20.0
_GOLDEN_RATIO = 0.618034
_FIGURES = ("dice", "instance_f1", "length_detected", "seconds", "cpu_seconds")


@dataclass(frozen=True)
class Case:
    """A scan with its reference on one grid.

    Attributes:
        group: cases whose figures are averaged.
        name: of the case.
        image: the scan.
        reference: label image, 0..K.
        metrics: of :func:`imbalanceseg.metrics.evaluate.evaluate`.
    """

    group: str
    name: str
    image: sitk.Image
    reference: sitk.Image
    metrics: tuple[str, ...] = ("dice",)

    @property
    def classes(self) -> list[int]:
        """Labels of the reference."""
        return [int(v) for v in np.unique(sitk.GetArrayViewFromImage(self.reference)) if v]

    @property
    def axis(self) -> int:
        """To paint along: that of the thickest slices, the axial one where all are alike."""
        grid = Grid.of(self.reference)
        if max(grid.spacing_mm) > 1.01 * min(grid.spacing_mm):
            return int(np.argmax(grid.spacing_mm))
        return int(np.abs(grid.matrix[2]).argmax())


def cases(data: Path, names: Iterable[str] = CASES) -> Iterator[Case]:
    """Read cases one after another.

    Args:
        data: the folder with the shared data sets.
        names: of :data:`CASES` and :data:`PHANTOMS`.
    """
    for name in names:
        if name == "ms07":
            folder = data / "ms_lesions_mni"
            pair = folder / "patient07_flair.nii.gz", folder / "patient07_lesions.nii.gz"
            yield Case(name, name, *_read(*pair), metrics=("dice", "instance_f1"))
        elif name == "brain1":
            folder = data / "tumour_brain_aniso"
            yield Case(
                name, name, *_read(folder / "brain1_image.nrrd", folder / "brain1_label.nrrd")
            )
        elif name == "spleen":
            folder = data / "spleen_crop"
            yield Case(name, name, *_read(folder / "ct.nii.gz", folder / "spleen.nii.gz"))
        elif name == "hippocampus":
            folder = data / "hippocampus" / "val"
            for path in sorted((folder / "labels").glob("*.nii.gz"))[:_HIPPOCAMPI]:
                pair = folder / "images" / path.name, path
                yield Case(name, path.name.removesuffix(".nii.gz"), *_read(*pair))
        elif name == "airway":
            folder = data / "airway_ricord"
            image, reference = _read(folder / "dicom", folder / "airway_region_grown.nii.gz")
            pair = _cropped(image, reference, _AIRWAY_MARGIN_MM)
            yield Case(name, name, *pair, metrics=("dice", "length_detected"))
        elif name in PHANTOMS:
            yield _phantom(name)
        else:
            known = ", ".join([*CASES, *PHANTOMS])
            raise typer.BadParameter(f"There is no case {name}; choose from {known}.")


def workers(names: Iterable[str], seconds: float, model: str | None) -> dict[str, Worker]:
    """What to run, by name: rivals, and ours within a number of seconds, from a model or none."""
    mine = partial(ours, seconds=seconds, model=model)
    known: dict[str, Rival] = {**RIVALS, our_name(model): mine}
    if unknown := [name for name in names if name not in known]:
        raise typer.BadParameter(f"There is no method {unknown[0]}; choose from {[*known]}.")
    return {name: Worker(known[name], name in RIVALS) for name in names}


def our_name(model: str | None) -> str:
    """Ours, by what it starts from."""
    return OURS if model is None else f"{OURS} from {Path(model).name}"


class Worker:
    """A process of its own for one method: its packages do not meet those of another.

    Args:
        method: to run.
        is_rival: then it runs once on a small cube first. Its packages take seconds to load, and in
            the program where a user would call it they are loaded.
    """

    def __init__(self, method: Rival, is_rival: bool) -> None:
        self._method = method
        self._pool = ProcessPoolExecutor(1, get_context("spawn"))
        if is_rival:
            cube = np.zeros((12, 12, 12), np.uint8)
            cube[4:8, 4:8, 4:8] = 1
            image = sitk.GetImageFromArray(cube)
            self(image + 1, paint_slices(image, evenly_spaced_slices(image, 2, 2)))

    def __call__(
        self, image: sitk.Image, annotation: Annotation, seed: int = 0
    ) -> tuple[sitk.Image, float, float]:
        """Labels, seconds by the clock and seconds of computing."""
        return self._pool.submit(timed, self._method, image, annotation, seed).result()


def timed(
    method: Rival, image: sitk.Image, annotation: Annotation, seed: int
) -> tuple[sitk.Image, float, float]:
    """What a worker does."""
    began, computed = time.perf_counter(), time.process_time()
    labels = method(image, annotation, seed=seed)
    return labels, time.perf_counter() - began, time.process_time() - computed


def ours(
    image: sitk.Image,
    annotation: Annotation,
    seconds: float = 60,
    seed: int = 0,
    model: str | None = None,
) -> sitk.Image:
    """What the painted slices teach, from scratch or behind a model's network."""
    from imbalanceseg.training.finetune import finetune

    outcome = finetune(image, annotation, model=model, depth="auto", seconds=seconds, seed=seed)
    return outcome.segmentation.labels


def painted(case: Case, n: int, seed: int) -> Annotation | None:
    """``n`` slices of a case; None where that leaves no foreground outside them to score."""
    # Steps of the golden ratio: however many seeds there are, their offsets lie far apart.
    offset = (seed * _GOLDEN_RATIO + 0.5) % 1 - 0.5
    slices = evenly_spaced_slices(case.reference, n, case.axis, offset)
    annotation = paint_slices(case.reference, slices)
    left = (sitk.GetArrayViewFromImage(case.reference) > 0) & ~annotation.known
    return annotation if len(slices) == n and left.any() else None


def scored(case: Case, annotation: Annotation, method: Worker, seed: int) -> dict[str, float]:
    """Figures of one method on the voxels that were not painted, and its time."""
    labels, seconds, computed = method(case.image, annotation, seed)
    outside = sitk.GetArrayFromImage(case.reference).astype(np.uint8)
    outside[annotation.known] = UNLABELLED
    reference = image_from_array(outside, Grid.of(case.reference))
    wanted = [name for name in case.metrics if name != "length_detected"]
    figures = evaluate(
        resample(labels, Grid.of(reference), "nearest"), reference, wanted, case.classes
    )
    if "length_detected" in case.metrics:
        # Without the painted slices a tree would fall apart, and only its largest part counts.
        figures |= evaluate(labels, case.reference, ["length_detected"])
    figures = {name: round(value, 4) for name, value in figures.items()}
    return figures | {"seconds": round(seconds, 2), "cpu_seconds": round(computed, 2)}


def run(
    data: Path,
    results: Path,
    names: list[str],
    wanted: list[str],
    counts: list[int],
    seeds: int,
    seconds: float,
    model: str | None,
) -> list[dict[str, Any]]:
    """Score what the file of results lacks, and write it after each."""
    rows = json.loads(results.read_text(encoding="utf-8")) if results.exists() else []
    there = {_key(row) for row in rows}
    methods = workers(wanted, seconds, model)
    for case in cases(data, names):
        for n in counts:
            for seed in range(seeds):
                annotation = painted(case, n, seed)
                if annotation is None:
                    print(f"{case.name}: {n} slices leave nothing to score", flush=True)
                    break
                for name, method in methods.items():
                    row = {"case": case.name, "slices": n, "seed": seed, "method": name}
                    if _key(row) in there:
                        continue
                    figures = scored(case, annotation, method, seed)
                    painted_at = [one.index for one in annotation.confirmed]
                    row |= {"group": case.group, "axis": case.axis, "painted": painted_at}
                    rows.append(row | figures)
                    write_json(results, rows)
                    print(f"{case.name}, {n} slices, seed {seed}, {name}: {figures}", flush=True)
    return [row for row in rows if row["group"] in names and row["method"] in wanted]


def show(rows: list[dict[str, Any]]) -> None:
    """Means over the cases of a group and the seeds, with the spread of seeds where it is known."""
    table = Table("case", "slices", "method", *_FIGURES)
    for (group, n, method), of_cell in _cells(rows).items():
        cells = [_shown(of_cell, figure) for figure in _FIGURES]
        table.add_row(group, str(n), method, *cells)
    Console(width=130).print(table)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Figures against painted slices above and seconds below, a column for each group and figure.

    The points of a method are its numbers of slices.
    """
    from matplotlib.figure import Figure

    groups = dict.fromkeys(row["group"] for row in rows)
    scores = ("dice", "instance_f1", "length_detected")
    columns = [
        (group, score)
        for group in groups
        for score in scores
        if any(row["group"] == group and score in row for row in rows)
    ]
    figure = Figure(figsize=(2.5 * len(columns), 5.2), layout="constrained")
    panels = figure.subplots(2, len(columns), squeeze=False)
    cells = _cells(rows)
    for (above, below), (group, score) in zip(panels.T, columns, strict=True):
        for number, method in enumerate(dict.fromkeys(row["method"] for row in rows)):
            points = sorted(
                (n, *(fmean(row[name] for row in of_cell) for name in (score, "seconds")))
                for (of_group, n, of_method), of_cell in cells.items()
                if (of_group, of_method) == (group, method)
            )
            if not points:
                continue
            counts, values, seconds = zip(*points, strict=True)
            style = {"linewidth": 2.4} if method.startswith(OURS) else {"linestyle": "--"}
            style |= {"color": f"C{number}", "marker": "o", "label": method}
            above.plot(counts, values, **style)
            below.plot([max(one, 0.01) for one in seconds], values, **style)
        above.set_title(f"{group}\n{score.replace('_', ' ')}", fontsize=9)
        above.set_xticks(sorted({row["slices"] for row in rows}))
        above.set_xlabel("painted slices")
        below.set_xlabel("seconds")
        below.set_xscale("log")
        for panel in (above, below):
            panel.set_ylim(0, 1)
            panel.grid(alpha=0.3)
    # No single panel has every method.
    shown = {line.get_label(): line for panel in panels[0] for line in panel.get_lines()}
    figure.legend(shown.values(), shown, loc="outside lower center", ncols=len(shown), fontsize=9)
    figure.savefig(path, dpi=90)


def _read(image: Path, reference: Path) -> tuple[sitk.Image, sitk.Image]:
    scan = read_image(image)
    return scan, resample(
        sitk.Cast(read_image(reference), sitk.sitkUInt8), Grid.of(scan), "nearest"
    )


def _phantom(name: str) -> Case:
    """A made scan of middling difficulty whose exact labels are known."""
    from imbalanceseg.synthesis.airway import chest_phantom
    from imbalanceseg.synthesis.lesions import lesion_phantom
    from imbalanceseg.synthesis.tumor import tumor_phantom

    if name == "phantom-tumor":
        pair = tumor_phantom(_PHANTOM_SEED, "glioma", "T1c", (0.8, 0.8, 1.5))
        return Case(name, name, *pair)
    if name == "phantom-lesion":
        return Case(name, name, *lesion_phantom(_PHANTOM_SEED), metrics=("dice", "instance_f1"))
    pair = _cropped(*chest_phantom(_PHANTOM_SEED, spacing_mm=1.5), _AIRWAY_MARGIN_MM)
    return Case(name, name, *pair, metrics=("dice", "length_detected"))


def _cropped(
    image: sitk.Image, reference: sitk.Image, margin_mm: float
) -> tuple[sitk.Image, sitk.Image]:
    """Both cut to the box of the reference and a margin."""
    box = bounding_box(sitk.GetArrayViewFromImage(reference) > 0)[::-1]
    reach = [int(np.ceil(margin_mm / s)) for s in reference.GetSpacing()]
    around = tuple(
        slice(max(0, span.start - r), min(n, span.stop + r))
        for span, r, n in zip(box, reach, reference.GetSize(), strict=True)
    )
    return image[around], reference[around]


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["case"], row["slices"], row["seed"], row["method"]


def _cells(rows: list[dict[str, Any]]) -> dict[tuple[str, int, str], list[dict[str, Any]]]:
    cells: dict[tuple[str, int, str], list[dict[str, Any]]] = {}
    for row in rows:
        cells.setdefault((row["group"], row["slices"], row["method"]), []).append(row)
    return cells


def _shown(rows: list[dict[str, Any]], figure: str) -> str:
    by_seed: dict[int, list[float]] = {}
    for row in rows:
        if figure in row:
            by_seed.setdefault(row["seed"], []).append(row[figure])
    means = [fmean(values) for values in by_seed.values()]
    if not means:
        return "-"
    digits = 1 if figure.endswith("seconds") else 3
    spread = f" ± {stdev(means):.{digits}f}" if len(means) > 1 else ""
    return f"{fmean(means):.{digits}f}{spread}"


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def main(
    data: Annotated[Path, typer.Argument(help="Folder with the data sets.")],
    results: Annotated[Path, typer.Argument(help="JSON file; what it has is not run again.")],
    names: Annotated[str, typer.Option(help="Cases.")] = ",".join(CASES),
    wanted: Annotated[
        str | None, typer.Option("--methods", help="Of rivals and ours. Default: all.")
    ] = None,
    slices: Annotated[str, typer.Option(help="How many to paint.")] = "3,5,10",
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each.")] = 3,
    seconds: Annotated[float, typer.Option(help="For ours.")] = 60,
    model: Annotated[str | None, typer.Option(help="Ours starts from this one.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Curves as PNG.")] = None,
) -> None:
    """Score methods on painted slices."""
    counts = [int(n) for n in _list(slices)]
    methods = _list(wanted) if wanted else [*RIVALS, our_name(model)]
    methods = [our_name(model) if name == OURS else name for name in methods]
    rows = run(data, results, _list(names), methods, counts, seeds, seconds, model)
    show(rows)
    if picture:
        draw(rows, picture)


if __name__ == "__main__":
    typer.run(main)
