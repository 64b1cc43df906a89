"""From a training of the recipes ``airway``, ``lesion`` and ``tumor`` to a bundle to be shipped.

``python -m imbalanceseg.training.shipped_models write RUN -o BUNDLE`` chooses on the validation
cases what is not learned, and writes the bundle; ``... record BUNDLE METRICS`` adds to its card
what was measured with it.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import numpy as np
import SimpleITK as sitk
import typer

from imbalanceseg.errors import InputError
from imbalanceseg.io import read_image
from imbalanceseg.models.bundle import load_model
from imbalanceseg.models.write import add_metrics, write_bundle
from imbalanceseg.synthesis.airway_cases import AirwaySources
from imbalanceseg.training.airway_model import airway_card
from imbalanceseg.training.made_set import ANATOMIES, MADE
from imbalanceseg.training.mr_models import mr_card
from imbalanceseg.training.train import read_run

app = typer.Typer(no_args_is_help=True)


@app.command()
def write(
    folder: Annotated[Path, typer.Argument(help="Folder of a finished training.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the bundle.")],
    hardware: Annotated[str, typer.Option(help="What it was trained on.")] = "one processor core",
) -> None:
    """Choose on the validation cases what is not learned, and write the bundle."""
    synthesis = read_run(folder).recipe.synthesis
    if synthesis is None:
        raise InputError(
            "run-not-shipped",
            f"The training in {folder} made no cases of its own.",
            "Give one of the recipes airway, lesion and tumor.",
        )
    made = folder / MADE
    described = json.loads((made / f"{synthesis.task}.json").read_text(encoding="utf-8"))
    cases = Counter(_kind(one["about"]) for one in described["training"])
    validation = [
        (read_image(made / one["image"]), read_image(made / one["label"]))
        for one in described["validation"]
    ]
    validation = [pair for pair in validation if _shows_something(pair[1])]
    model, training = load_model(folder / "model"), _training(folder, hardware)
    if synthesis.task == "airway":
        chests = AirwaySources.read(made, made / ANATOMIES).validation
        anatomies = [chest.anatomy for chest in chests]
        card = airway_card(model, training, cases, validation, anatomies)
    else:
        card = mr_card(synthesis.task, model, training, cases, validation)
    write_bundle(output, model.network, card)


@app.command()
def record(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")],
    metrics: Annotated[Path, typer.Argument(help="JSON: test set, metric, figure.")],
) -> None:
    """Write the card anew, with these figures beside those of the validation."""
    add_metrics(bundle, json.loads(metrics.read_text(encoding="utf-8")))


def _kind(about: str) -> str:
    """What a case is made of, in few words."""
    if "chest" in about or "slices" in about:
        return "pieces of grown chests" if "grown" in about else "pieces of real anatomy"
    if "phantom" in about or "procedural" in about:
        return "phantoms"
    return "scans with implants or lesions of their own"


def _shows_something(label: sitk.Image) -> bool:
    return 1 in np.unique(sitk.GetArrayViewFromImage(label))


def _training(folder: Path, hardware: str) -> str:
    """How long, in a sentence."""
    log = (folder / "fold_0" / "log.csv").read_text(encoding="utf-8").splitlines()
    steps, seconds = log[-1].split(",")[:2]
    hours, minutes = float(seconds) / 3600, float(seconds) / 60
    time = f"{hours:.1f} hours" if hours >= 1 else f"{minutes:.0f} minutes"
    before = read_run(folder).start_from
    begun = "" if before is None else f" Training began with the weights of {Path(before).name}."
    return f"Trained for {steps} steps, {time} of {hardware}.{begun}"


if __name__ == "__main__":
    app()
