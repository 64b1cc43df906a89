"""From a training of the recipes ``airway``, ``lesion`` and ``tumor`` to a bundle to be shipped.

``python -m imbalanceseg.training.shipped_models write RUN -o BUNDLE`` chooses on the validation
cases what is not learned, and writes the bundle; ``... record BUNDLE METRICS`` adds to its card
what was measured with it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import SimpleITK as sitk
import typer

from imbalanceseg.errors import InputError
from imbalanceseg.io import read_image
from imbalanceseg.models.bundle import Model, load_model
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
    mean_with: Annotated[
        list[str] | None,
        typer.Option(help="Model whose weights are averaged with the training's; more than once."),
    ] = None,
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
    with TemporaryDirectory() as temporary:
        if mean_with:
            others = [load_model(other) for other in mean_with]
            model = mean_of_weights([model, *others], Path(temporary) / "mean")
            names = ", ".join(f"{other.name} {other.version}" for other in others)
            training += f" The weights are the mean of its own and those of {names}."
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


def mean_of_weights(models: Sequence[Model], folder: Path) -> Model:
    """The network in the middle of several, each weight the mean of theirs.

    Where one training began with the weights of the other, the mean keeps much of what each knows
    (Wortsman et al., CVPR 2022, arXiv 2109.01903).

    Args:
        models: with one network each, all of the same kind; the card of the first is kept.
        folder: where the bundle is written.

    Raises:
        InputError: ``networks-differ``.
    """
    states = [model.network.state_dict() for model in models]
    shapes = [{name: value.shape for name, value in state.items()} for state in states]
    if any(shape != shapes[0] for shape in shapes):
        raise InputError(
            "networks-differ",
            f"The networks of {', '.join(model.name for model in models)} differ, so their weights "
            "have no mean.",
            "Give the model that the training began with.",
        )
    for name, value in states[0].items():
        value.copy_(sum(state[name] for state in states) / len(states))
    write_bundle(folder, models[0].network, models[0].card)
    return load_model(folder)


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
    run = read_run(folder)
    fresh = run.recipe.synthesis.fresh if run.recipe.synthesis else 0
    painted = f" {fresh:.0%} of its patches were painted for their step." if fresh else ""
    before = run.start_from
    begun = "" if before is None else f" Training began with the weights of {Path(before).name}."
    return f"Trained for {steps} steps, {time} of {hardware}.{painted}{begun}"


if __name__ == "__main__":
    app()
