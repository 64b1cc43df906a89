"""``imbalanceseg train``: from a folder of images and labels to a model."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imbalanceseg.cli.console import ProgressStyle, print_table, show_progress
from imbalanceseg.cli.plan import DatasetArgument
from imbalanceseg.cli.segment import ProgressOption

if TYPE_CHECKING:
    from imbalanceseg.training.train import Run


def train(
    context: typer.Context,
    dataset: DatasetArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the training.")
    ],
    recipe: Annotated[
        str | None,
        typer.Option(metavar="R", help="Name of a recipe, or a YAML file. Default: default."),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(min=0.1, metavar="N", help="Wall time for everything. Default: 40."),
    ] = None,
    iterations: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Steps of each network instead.")
    ] = None,
    folds: Annotated[
        int, typer.Option(min=1, max=100, metavar="K", help="Networks, by cross-validation.")
    ] = 1,
    fold: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Train this fold alone, from 0.")
    ] = None,
    instances: Annotated[
        bool, typer.Option("--instances", help="Label values number instances of one class.")
    ] = False,
    memory: Annotated[
        float, typer.Option("--memory-gb", min=1, metavar="GB", help="Memory for training.")
    ] = 8.0,
    unlabelled: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Images without labels, if the recipe learns from them."),
    ] = None,
    start_from: Annotated[
        str | None,
        typer.Option(metavar="M", help="Model to begin with, by name or folder, not from nothing."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31, help="Same seed, same model.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:<n>.")] = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the training in DIR, as it was started.")
    ] = False,
    progress: ProgressOption = ProgressStyle.BAR,
) -> None:
    """Train a model; stop and --resume it whenever you like. Not for clinical use.

    Nothing needs to be set: the plan follows from the dataset (see `imbalanceseg plan`). DIR
    receives the model, a report with the curve, the log, and the prepared cases.
    """
    from imbalanceseg.errors import InputError
    from imbalanceseg.session import output_folder
    from imbalanceseg.training.recipe_files import read_recipe
    from imbalanceseg.training.train import read_run, start_run
    from imbalanceseg.training.train import train as trained

    with output_folder(output), show_progress(progress) as tell:
        if resume:
            run = read_run(output)
            if Path(run.dataset) != dataset.resolve():
                raise InputError(
                    "other-dataset",
                    f"The training in {output} was started on {run.dataset}.",
                    "Give that dataset, or another folder.",
                )
            _require_no_other_start(context, run)
        else:
            chosen = recipe or "default"
            run = start_run(
                dataset,
                output,
                read_recipe(chosen),
                Path(chosen).stem,
                numbered=instances,
                folds=folds,
                seed=seed,
                iterations=iterations,
                minutes=minutes,
                memory_gb=memory,
                unlabelled=unlabelled,
                start_from=start_from,
                progress=tell,
            )
        if fold is not None and fold >= run.folds:
            raise InputError(
                "fold-unknown", f"There is no fold {fold} of {run.folds}.", "Folds count from 0."
            )
        with _resumable():
            result = trained(output, device, tell, fold)
    if result is None:
        return
    outcome = result.outcome
    header = ("class", "Dice on held-out cases", "with mirrored copies")
    mirrored = outcome.mirrored or (None,) * len(outcome.dice)
    rows = [
        (run.plan.labels[value], _figure(plain), _figure(copies))
        for value, plain, copies in zip(outcome.values, outcome.dice, mirrored, strict=True)
    ]
    print_table([header, *rows])
    for name in ("model", "report.html", "curve.png"):
        print(output / name)


def _require_no_other_start(context: typer.Context, run: Run) -> None:
    """Nobody shall wait for what --resume does not do: it goes on as the training was started."""
    from imbalanceseg.errors import InputError
    from imbalanceseg.models.bundle import load_model
    from imbalanceseg.training.recipe_files import read_recipe
    from imbalanceseg.training.start_from import recipe_of_model

    started = {
        "recipe": run.recipe_name,
        "minutes": run.minutes,
        "iterations": run.iterations,
        "folds": run.folds,
        "instances": run.numbered,
        "memory": None,
        "unlabelled": None if run.unlabelled is None else Path(run.unlabelled),
        "start_from": run.start_from,
        "seed": run.seed,
    }
    for name, value in started.items():
        given, source = context.params[name], context.get_parameter_source(name)
        if source is None or source.name != "COMMANDLINE":
            continue
        same = given == value
        if name == "recipe":
            asked = read_recipe(given)
            if run.start_from is not None:
                asked = recipe_of_model(asked, load_model(run.start_from))
            same = asked == run.recipe
        elif name == "start_from":
            same = str(load_model(given).path.resolve()) == value
        elif isinstance(given, Path):
            same = given.resolve() == value
        if not same:
            option = "--memory-gb" if name == "memory" else f"--{name.replace('_', '-')}"
            was = "" if value is None else f" (it was {value})"
            raise InputError(
                "resume-differs",
                f"A training that goes on cannot take another {option}{was}.",
                f"Leave out {option}, or start another training in another folder.",
            )


@contextmanager
def _resumable() -> Iterator[None]:
    """Whoever stops a training is told that nothing is lost."""
    try:
        yield
    except Exception:
        raise
    except BaseException:
        print("The last checkpoint is kept: go on with --resume.", file=sys.stderr)
        raise


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
