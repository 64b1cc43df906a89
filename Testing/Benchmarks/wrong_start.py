"""A model that starts wrong: how much of the lost Dice do three painted slices bring back?

    python Testing/Benchmarks/wrong_start.py MODEL DATA RESULTS.json [--cases 5] [--seconds 60]

MODEL is a bundle trained on one kind of scan, DATA a folder with ``images`` and ``labels`` of the
same kind that it was not trained on. Each scan is changed in ways that were not met in
training, the model segments it, and is adapted with painted slices. Then one class alone is painted
on the scan as it is, and of all others is measured what they lose. Dice counts the voxels outside
the painted slices.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import numpy as np
import SimpleITK as sitk
import typer
from rich.console import Console
from rich.table import Table

from imbalanceseg.annotation.annotation import Annotation
from imbalanceseg.annotation.simulated import evenly_spaced_slices, paint_slices
from imbalanceseg.atomic import write_json
from imbalanceseg.geometry import Grid, image_from_array, resample
from imbalanceseg.inference.segment import segment
from imbalanceseg.io import read_image
from imbalanceseg.labels import UNLABELLED
from imbalanceseg.metrics.evaluate import evaluate
from imbalanceseg.models.bundle import Model, load_model
from imbalanceseg.training.finetune import finetune

_THICK = 3
_GAMMA = 3.0
_BIAS = 1.0
"""Logarithm of the factor between the middle of the scan and one end of it."""

_KEYS = ("as trained", "shifted", "adapted", "seconds")

Scan = tuple[sitk.Image, sitk.Image]


def other_contrast(image: sitk.Image, reference: sitk.Image) -> Scan:
    """Dark is bright: as between T1 and T2."""
    values = sitk.GetArrayFromImage(image).astype(np.float32)
    return image_from_array(values.max() - values, Grid.of(image)), reference


def lower_resolution(image: sitk.Image, reference: sitk.Image) -> Scan:
    """Three slices become one."""
    return _shrunk(image, reference, (1, 1, _THICK))


def larger_voxels(image: sitk.Image, reference: sitk.Image) -> Scan:
    """Eight voxels become one."""
    return _shrunk(image, reference, (2, 2, 2))


def noise(image: sitk.Image, reference: sitk.Image) -> Scan:
    """As strong as the image itself."""
    values = sitk.GetArrayFromImage(image).astype(np.float32)
    drawn = np.random.default_rng(0).standard_normal(values.shape, np.float32)
    return image_from_array(values + values.std() * drawn, Grid.of(image)), reference


def _shrunk(image: sitk.Image, reference: sitk.Image, factors: tuple[int, int, int]) -> Scan:
    small = sitk.BinShrink(sitk.Cast(image, sitk.sitkFloat32), factors)
    return small, resample(reference, Grid.of(small), "nearest")


def shifted_intensity(image: sitk.Image, reference: sitk.Image) -> Scan:
    """Another curve of grey values, and a coil that hears one end better."""
    values = sitk.GetArrayFromImage(image).astype(np.float32)
    low, high = np.percentile(values, [0, 99.5])
    values = np.clip((values - low) / max(high - low, 1e-6), 0, 1) ** _GAMMA
    field = np.exp(np.linspace(-_BIAS, _BIAS, values.shape[1], dtype=np.float32))
    return image_from_array(values * field[:, None], Grid.of(image)), reference


SHIFTS: dict[str, Callable[[sitk.Image, sitk.Image], Scan]] = {
    "other contrast": other_contrast,
    "lower resolution": lower_resolution,
    "larger voxels": larger_voxels,
    "noise": noise,
    "shifted intensity": shifted_intensity,
}


def dice(labels: sitk.Image, reference: sitk.Image, annotation: Annotation, value: int) -> float:
    """Of one class, outside what is painted."""
    outside = sitk.GetArrayFromImage(reference)
    outside[annotation.known] = UNLABELLED
    truth = image_from_array(outside, Grid.of(reference))
    return float(evaluate(labels, truth, ["dice"], [value])["dice"])


def one_case(
    model: Model, scan: Scan, slices: int, seconds: float, known: dict[str, Any]
) -> dict[str, Any]:
    """Figures of a case, by shift; under ``untouched`` what classes that nobody painted lose."""
    image, reference = scan
    classes = sorted(segment_info.label for segment_info in model.card.segments)
    found = dict(known)
    for name, shift in SHIFTS.items():
        if name in known:
            continue
        shifted, truth = shift(image, reference)
        annotation = paint_slices(truth, evenly_spaced_slices(truth, slices, 2))
        right = paint_slices(reference, evenly_spaced_slices(reference, slices, 2))
        wrong = segment(shifted, model).labels
        begun = time.monotonic()
        tuned = finetune(shifted, annotation, model, seconds=seconds)
        took = time.monotonic() - begun
        found[name] = {
            "as trained": fmean(
                dice(segment(image, model).labels, reference, right, value) for value in classes
            ),
            "shifted": fmean(dice(wrong, truth, annotation, value) for value in classes),
            "adapted": fmean(
                dice(tuned.segmentation.labels, truth, annotation, value) for value in classes
            ),
            "seconds": round(took, 1),
        }
    if "untouched" in known:
        return found
    before = segment(image, model).labels
    losses = []
    for value in classes:
        only = sitk.Cast(reference == value, sitk.sitkUInt8) * value
        annotation = paint_slices(only, evenly_spaced_slices(only, slices, 2))
        annotation.classes = (value,)
        after = finetune(image, annotation, model, seconds=seconds).segmentation.labels
        nothing = Annotation.of(reference)
        for other in set(classes) - {value}:
            losses.append(
                dice(before, reference, nothing, other) - dice(after, reference, nothing, other)
            )
    return found | {"untouched": losses}


def main(
    bundle: Annotated[Path, typer.Argument(help="Model.")],
    data: Annotated[Path, typer.Argument(help="Folder with images and labels.")],
    results: Annotated[Path, typer.Argument(help="JSON file; what it has is not run again.")],
    count: Annotated[int, typer.Option("--cases", help="How many.")] = 5,
    slices: Annotated[int, typer.Option(help="To paint.")] = 3,
    seconds: Annotated[float, typer.Option(help="For each adaptation.")] = 60,
) -> None:
    """Shift, segment, paint, adapt."""
    model = load_model(bundle)
    rows = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
    for path in sorted((data / "labels").glob("*.nii.gz"))[:count]:
        image = read_image(data / "images" / path.name)
        reference = sitk.Cast(read_image(path), sitk.sitkUInt8)
        known = rows.get(path.name, {})
        rows[path.name] = one_case(model, (image, reference), slices, seconds, known)
        write_json(results, rows)
        print(path.name, rows[path.name], flush=True)
    table = Table("start", "as trained", "shifted", "adapted", "recovered", "seconds")
    for name in SHIFTS:
        mean = {key: fmean(row[name][key] for row in rows.values()) for key in _KEYS}
        lost = mean["as trained"] - mean["shifted"]
        share = (mean["adapted"] - mean["shifted"]) / lost if lost > 0 else float("nan")
        table.add_row(
            name,
            *(f"{mean[key]:.3f}" for key in _KEYS[:3]),
            f"{100 * share:.0f} %",
            f"{mean['seconds']:.0f}",
        )
    Console().print(table)
    losses = [loss for row in rows.values() for loss in row["untouched"]]
    mean_loss, most = fmean(losses), max(losses)
    print(f"Classes that nobody painted lose {mean_loss:.4f} on average, {most:.4f} at most.")


if __name__ == "__main__":
    typer.run(main)
