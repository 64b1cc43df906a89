"""What each part of a shipped model's recipe gives: the same cases, the same steps, one part less.

    python Testing/Benchmarks/model_parts.py lesion SOURCES FOLDER --case IMAGE --reference LABELS
        [--cases 40] [--iterations 800] [--seeds 3] [--variants "whole,no blob term"]
    python Testing/Benchmarks/model_parts.py airway SOURCES FOLDER [--side 64] ...

SOURCES is the folder of the real scans that the recipe makes its cases of. A training is judged on
the scan of --case, which nothing was chosen on, at the threshold of the highest mean Dice on the
validation cases: Dice, and F1 of instances of 3 mm3 or more that overlap at all; for airways Dice,
and the tree's length, branches and precision below the larynx. An airway training without --case
is judged on CT painted over a chest grown from a seed of no training. The same command goes on
where it was stopped.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated, Any

import numpy as np
import SimpleITK as sitk
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from imbalanceseg.atomic import write_json
from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.inference.segment import segment
from imbalanceseg.io import read_image
from imbalanceseg.labels import UNLABELLED
from imbalanceseg.metrics.airway import airway_score
from imbalanceseg.metrics.larynx import below_larynx
from imbalanceseg.models.bundle import Model, load_model
from imbalanceseg.synthesis.airway import ct_over
from imbalanceseg.synthesis.airway_cases import AIRWAY_SPACING_MM
from imbalanceseg.synthesis.tree_growth import grow_chest
from imbalanceseg.training.airway_model import shipped_card
from imbalanceseg.training.made_set import make_set
from imbalanceseg.training.mr_models import figures_of
from imbalanceseg.training.recipe import Recipe
from imbalanceseg.training.recipe_files import read_recipe
from imbalanceseg.training.train import start_run, train

_PLAIN = {
    "network": {"name": "plan", "width": 0.375},
    "loss": {"name": "dice_ce"},
    "supervision": {"kind": "deep"},
}
_FINEST_ALONE = {"kind": "output"}
_WITHOUT_BLOB = {
    "name": "blob",
    "settings": {"base": "dice", "global_weight": 2.0, "blob_weight": 0.0},
    "cross_entropy": 10.0,
}
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "airway": {
        "whole": {},
        "Dice for General Union": {"loss": {"name": "dice"}},
        "no group supervision": {"supervision": _FINEST_ALONE},
    },
    "lesion": {
        "whole": {},
        "no blob term": {"loss": _WITHOUT_BLOB},
        "plain nnU-Net-like": _PLAIN,
    },
    "tumor": {
        "whole": {},
        "no hardness weight": {"loss": {"name": "dice", "cross_entropy": 10.0}},
        "attention unsupervised": {"supervision": _FINEST_ALONE},
        "plain nnU-Net-like": _PLAIN,
    },
}
"""By task and name, what takes the place of the recipe's own."""

_INSTANCES, _TREE = ("dice", "instance_f1"), ("dice", "length", "branches", "precision")
_THRESHOLDS = (0.02, 0.05, *(n / 10 for n in range(1, 10)), 0.95)
_SKULL_MM = {"lesion": 0.0, "tumor": 15.0}
_JUDGING_CHEST = 903


def variant(recipe: Recipe, task: str, name: str, iterations: int, side: int | None) -> Recipe:
    """A shipped recipe with one part replaced, for a dataset that is made already."""
    known = VARIANTS[task]
    if name not in known:
        raise typer.BadParameter(f"There is no variant {name}; choose from {', '.join(known)}.")
    values = recipe.model_dump() | {"synthesis": None, "validate_every": iterations} | known[name]
    if side is not None:
        values["patch"] = [side] * len(recipe.patch or ())
    return Recipe.model_validate(values)


Case = tuple[sitk.Image, NDArray[np.uint8]]


def validation_cases(listed: Path) -> list[Case]:
    """Images and labels, 255 where nothing is known; those that show something."""
    described = json.loads(listed.read_text(encoding="utf-8"))
    cases = []
    for one in described["validation"]:
        label = sitk.GetArrayFromImage(read_image(listed.parent / one["label"]))
        if (label == 1).any():
            cases.append((read_image(listed.parent / one["image"]), label))
    return cases


def best_threshold(model: Model, cases: list[Case]) -> tuple[float, float]:
    """The threshold of the highest mean Dice, and that Dice."""
    scores: dict[float, list[float]] = {threshold: [] for threshold in _THRESHOLDS}
    for image, label in cases:
        made = segment(image, model, device="cpu", maps=()).probability
        assert made is not None
        probability = sitk.GetArrayViewFromImage(made)
        for threshold, of_threshold in scores.items():
            found, true = (probability >= threshold) & (label != UNLABELLED), label == 1
            of_threshold.append(2 * int((found & true).sum()) / int(found.sum() + true.sum()))
    means = {threshold: fmean(values) for threshold, values in scores.items()}
    best = max(means, key=lambda threshold: means[threshold])
    return best, means[best]


def judged(
    task: str, model: Model, threshold: float, image: sitk.Image, reference: sitk.Image
) -> dict[str, float]:
    """Figures on the case."""
    model = Model(model.path, model.card.model_copy(update={"threshold": threshold}))
    if task == "airway":
        # With what a shipped model does around the network: lungs alone, one tree on the trachea.
        model = Model(model.path, shipped_card(model.card, "", {}))
        found = segment(image, model, device="cpu", maps=()).labels
        score = airway_score(found, reference, below_larynx(reference))
        figures = {
            "dice": score.dice_largest,
            "length": score.length_detected,
            "branches": score.branch_detected,
            "precision": score.precision,
        }
    else:
        figures = figures_of(segment(image, model, device="cpu", maps=()).labels, reference)
    return {name: round(value, 4) for name, value in figures.items()}


def otsu_in_brain(image: sitk.Image, skull_mm: float) -> sitk.Image:
    """What a threshold alone finds: the brightest of three classes of the voxels of the brain.

    Args:
        image: one MR.
        skull_mm: how deep the brain lies in the head; 0 where it was extracted.
    """
    from scipy.ndimage import binary_fill_holes, distance_transform_edt
    from skimage.filters import threshold_multiotsu, threshold_otsu

    values = sitk.GetArrayFromImage(image).astype(np.float32)
    brain = values > 0
    if skull_mm:
        head = binary_fill_holes(values > threshold_otsu(values) / 2)
        depth = distance_transform_edt(head, sampling=image.GetSpacing()[::-1])
        brain = depth > skull_mm
    bright = brain & (values > threshold_multiotsu(values[brain], classes=3)[-1])
    return image_from_array(bright.astype(np.uint8), Grid.of(image))


def judging_case(
    task: str, case: Path | None, reference: Path | None
) -> tuple[sitk.Image, sitk.Image]:
    """The scan that judges, and its uint8 reference."""
    if case is not None and reference is not None:
        return read_image(case), sitk.Cast(read_image(reference) > 0, sitk.sitkUInt8)
    if task != "airway" or case is not None or reference is not None:
        raise typer.BadParameter("Give both --case and --reference.")
    return ct_over(grow_chest(_JUDGING_CHEST, AIRWAY_SPACING_MM), _JUDGING_CHEST)


def run(
    task: str,
    sources: Path,
    folder: Path,
    case: tuple[sitk.Image, sitk.Image],
    cases: int,
    iterations: int,
    seeds: int,
    names: list[str],
    side: int | None,
) -> list[dict[str, Any]]:
    """Train and judge what the file of results lacks, and write it after each."""
    recipe = read_recipe(task)
    assert recipe.synthesis is not None
    fewer = recipe.synthesis.model_copy(update={"cases": cases})
    made = make_set(fewer, sources, folder / "made")
    results = folder / "model_parts.json"
    rows = json.loads(results.read_text(encoding="utf-8")) if results.exists() else []
    there = {(row["variant"], row["seed"]) for row in rows}
    validation = validation_cases(made)
    for seed in range(seeds):
        for name in names:
            if (name, seed) in there:
                continue
            place = folder / f"{name.replace(' ', '_')}-{seed}"
            began = time.perf_counter()
            # Cases are prepared once for all variants that feed their network alike.
            (folder / "prepared").mkdir(exist_ok=True)
            chosen = variant(recipe, task, name, iterations, side)
            if not (place / "run.json").is_file():
                place.mkdir(parents=True, exist_ok=True)
                (place / "prepared").symlink_to(Path("..") / "prepared")
                start_run(made, place, chosen, name, seed=seed, iterations=iterations)
            if not (place / "model").is_dir():
                train(place, "cpu")
            model = load_model(place / "model")
            threshold, dice = best_threshold(model, validation)
            row = {"task": task, "variant": name, "seed": seed, "iterations": iterations}
            row |= {"threshold": threshold, "validation_dice": round(dice, 4)}
            row |= judged(task, model, threshold, *case)
            rows.append(row | {"seconds": round(time.perf_counter() - began)})
            write_json(results, rows)
            print(rows[-1], flush=True)
    return [row for row in rows if row["variant"] in names]


def show(rows: list[dict[str, Any]]) -> None:
    """Means over seeds, with their spread."""
    metrics = _TREE if rows[0]["task"] == "airway" else _INSTANCES
    figures = ("threshold", "validation_dice", *metrics, "seconds")
    table = Table("variant", "seeds", *figures)
    for name in dict.fromkeys(row["variant"] for row in rows):
        of_name = [row for row in rows if row["variant"] == name]
        cells = []
        for figure in figures:
            values = [row[figure] for row in of_name]
            spread = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
            cells.append(f"{fmean(values):.3f}{spread}")
        table.add_row(name, str(len(of_name)), *cells)
    Console(width=120).print(table)


def main(
    task: Annotated[str, typer.Argument(help="airway, lesion or tumor.")],
    sources: Annotated[Path, typer.Argument(help="Folder of the real scans.")],
    folder: Annotated[Path, typer.Argument(help="Receives trainings and model_parts.json.")],
    case: Annotated[Path | None, typer.Option(help="Scan to judge on.")] = None,
    reference: Annotated[Path | None, typer.Option(help="Its labels.")] = None,
    cases: Annotated[int, typer.Option(min=2)] = 40,
    iterations: Annotated[int, typer.Option(min=10)] = 800,
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    variants: Annotated[str | None, typer.Option(help="Separated by commas. Default: all.")] = None,
    side: Annotated[int | None, typer.Option(help="Voxels of a patch along each axis.")] = None,
) -> None:
    """Train a shipped recipe with and without its parts, and judge all on one scan."""
    pair = judging_case(task, case, reference)
    names = variants.split(",") if variants else list(VARIANTS[task])
    rows = run(task, sources, folder, pair, cases, iterations, seeds, names, side)
    if task in _SKULL_MM:
        threshold = otsu_in_brain(pair[0], _SKULL_MM[task])
        print("Otsu in the brain:", figures_of(threshold, pair[1]))
    show(rows)


if __name__ == "__main__":
    typer.run(main)
