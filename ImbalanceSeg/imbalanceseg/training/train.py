"""From a dataset to a model: plan, prepare, train the folds, choose post-processing, write."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from imbalanceseg.errors import InputError
from imbalanceseg.inference.device import pick_device
from imbalanceseg.io import write_text
from imbalanceseg.models.bundle import Model, load_model
from imbalanceseg.models.card import NetworkSpec
from imbalanceseg.models.planned import planned_card
from imbalanceseg.models.write import write_bundle
from imbalanceseg.planning.dataset import Dataset, open_dataset, open_unlabelled
from imbalanceseg.planning.fingerprint import Fingerprint, fingerprint
from imbalanceseg.planning.plan import Plan, make_plan, with_patch, with_range
from imbalanceseg.planning.prepare import PreparedCase, prepare, require_storage
from imbalanceseg.progress import ProgressCallback, ignore_progress
from imbalanceseg.reporting.training_report import write_training_report
from imbalanceseg.synthesis.airway_cases import AirwaySources
from imbalanceseg.training.build import (
    build_network,
    chosen_loss,
    network_arguments,
    training_decisions,
    training_patch,
)
from imbalanceseg.training.distributed import Ranks, joined_ranks
from imbalanceseg.training.fresh_patches import FreshPatches
from imbalanceseg.training.made_set import ANATOMIES, MADE, make_set
from imbalanceseg.training.outcome import Member, Outcome, judge
from imbalanceseg.training.recipe import Recipe
from imbalanceseg.training.schedule import Budget
from imbalanceseg.training.split import Split
from imbalanceseg.training.start_from import (
    begin_with,
    card_with_origin,
    plan_for_model,
    recipe_of_model,
)
from imbalanceseg.training.trainer import Trainer
from imbalanceseg.training.weight_maps import weigh_cases

DEFAULT_MINUTES = 40.0
RUN_FILE = "run.json"
_HELD_OUT = 0.1
_ENDING_SHARE = 0.05


class Run(BaseModel):
    """What a training was started with; ``run.json`` in its folder.

    Attributes:
        dataset: path; of a recipe that makes its cases, that of the scans they are made of.
        numbered: label values number instances.
        recipe: see :class:`~imbalanceseg.training.recipe.Recipe`.
        recipe_name: for people.
        plan: of the dataset.
        folds: 1 holds out a tenth of the cases; more train as many networks, each on the others'
            folds.
        seed: of everything random.
        iterations: steps a network.
        minutes: for everything.
        unlabelled: path of images without labels; None where there are none.
        start_from: name or path of the model whose weights it begins with; None for random ones.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    dataset: str
    numbered: bool
    recipe: Recipe
    recipe_name: str
    plan: Plan
    folds: int
    seed: int
    iterations: int | None
    minutes: float | None
    unlabelled: str | None = None
    start_from: str | None = None


@dataclass(frozen=True)
class Trained:
    """What a training has made.

    Attributes:
        model: the bundle ``model/`` in the folder.
        outcome: how well it does on what was held out.
    """

    model: Model
    outcome: Outcome


def start_run(
    dataset: str | os.PathLike[str],
    folder: Path,
    recipe: Recipe,
    recipe_name: str = "default",
    *,
    numbered: bool = False,
    folds: int = 1,
    seed: int = 0,
    iterations: int | None = None,
    minutes: float | None = None,
    memory_gb: float = 8.0,
    unlabelled: str | os.PathLike[str] | None = None,
    start_from: str | os.PathLike[str] | None = None,
    progress: ProgressCallback = ignore_progress,
) -> Run:
    """Measure a dataset, plan its training and write down what is to be done.

    Without ``iterations`` and ``minutes``, and with a recipe that has no iterations either, the
    training takes forty minutes.

    Args:
        dataset: see :func:`~imbalanceseg.planning.dataset.open_dataset`; for a recipe that
            makes its cases, :func:`~imbalanceseg.training.made_set.make_set`.
        folder: of the run; exists, and holds no other run.
        recipe: what the plan does not decide.
        recipe_name: for people.
        numbered: label values number instances of one class.
        folds: see :class:`Run`.
        seed: of everything random.
        iterations: steps a network.
        minutes: for everything, until the model is written.
        memory_gb: for training.
        unlabelled: images without labels, for a recipe that learns from them; see
            :func:`~imbalanceseg.planning.dataset.open_unlabelled`.
        start_from: name or folder of a model to begin with, which then decides the network, the
            resolution and how intensities are scaled.
        progress: receives an event a case.

    Raises:
        InputError: the dataset or ``folds`` cannot be used, ``unlabelled`` and recipe do not
            go together, the recipe's network or patch
            has another number of axes, or ``folder`` holds a run; ``start-differs``.
        ModelError: the model to begin with cannot be used.
        DependencyError: what stores prepared cases is not installed.
    """
    require_storage()
    if (folder / RUN_FILE).exists():
        raise InputError(
            "run-exists",
            f"{folder} holds a training already.",
            "Continue it with --resume, or choose another folder.",
        )
    _require_both_or_none(recipe, recipe_name, unlabelled)
    begun = None if start_from is None else load_model(start_from)
    if begun is not None:
        recipe = recipe_of_model(recipe, begun)
    described = _opened(Path(dataset), recipe, numbered, folder, progress)
    if unlabelled is not None:
        open_unlabelled(unlabelled, described)
    found = fingerprint(described, progress=progress)
    _require_cases_for(folds, described, found)
    plan = _planned(described, found, recipe, memory_gb, begun)
    if begun is not None:
        # Damage is told now, and not when all cases are prepared.
        begin_with(build_network(plan, recipe, seed), begun)
    _require_same_axes(plan, recipe, recipe_name)
    if iterations is None and minutes is None:
        iterations = recipe.iterations
        minutes = None if iterations else DEFAULT_MINUTES
    run = Run(
        dataset=str(Path(dataset).resolve()),
        numbered=numbered,
        recipe=recipe,
        recipe_name=recipe_name,
        plan=plan,
        folds=folds,
        seed=seed,
        iterations=iterations,
        minutes=minutes,
        unlabelled=None if unlabelled is None else str(Path(unlabelled).resolve()),
        start_from=None if begun is None else str(begun.path.resolve()),
    )
    write_text(folder / "fingerprint.json", found.model_dump_json(indent=2) + "\n")
    write_text(folder / RUN_FILE, run.model_dump_json(indent=2) + "\n")
    return run


def _planned(
    dataset: Dataset, found: Fingerprint, recipe: Recipe, memory_gb: float, begun: Model | None
) -> Plan:
    """What follows from the dataset, and what a recipe and the model to begin with overrule."""
    plan = make_plan(dataset, found, memory_gb, recipe.preset, recipe.spacing_mm)
    if recipe.intensity_range:
        plan = with_range(plan, *recipe.intensity_range)
    if recipe.patch and recipe.network.name == "plan":
        plan = with_patch(plan, recipe.patch)
    return plan if begun is None else plan_for_model(plan, begun)


def _require_both_or_none(
    recipe: Recipe, name: str, unlabelled: str | os.PathLike[str] | None
) -> None:
    if (recipe.unlabelled is None) == (unlabelled is None):
        return
    if unlabelled is None:
        raise InputError(
            "unlabelled-missing",
            f"The recipe {name} learns from images without labels beside those with.",
            "Give their folder with --unlabelled.",
        )
    raise InputError(
        "unlabelled-unused",
        f"The recipe {name} does not learn from images without labels.",
        "Choose a recipe that does, such as action or mean-teacher, or leave out --unlabelled.",
    )


def _require_cases_for(folds: int, dataset: Dataset, found: Fingerprint) -> None:
    named = {case.fold for case in dataset.cases if case.label} - {None}
    most, what = (len(named), "named folds") if named else (found.cases, "labelled cases")
    if folds > most:
        raise InputError(
            "too-many-folds",
            f"{most} {what} do not make {folds} folds.",
            f"Ask for at most {most}.",
        )


def _require_same_axes(plan: Plan, recipe: Recipe, recipe_name: str) -> None:
    network = build_network(plan, recipe, seed=0)
    axes = (len(network.multiples()), len(recipe.patch or plan.patch))  # type: ignore[operator]
    if axes != (len(plan.patch),) * 2:
        raise InputError(
            "recipe-axes",
            f"The network of {recipe_name} takes {axes[0]}D images and its patch is {axes[1]}D; "
            f"these images are {len(plan.patch)}D.",
            "Choose another recipe, or leave it out.",
        )


def read_run(folder: Path) -> Run:
    """What a training was started with.

    Raises:
        InputError: ``run-missing`` or ``run-damaged``.
    """
    path = folder / RUN_FILE
    if not path.is_file():
        raise InputError(
            "run-missing", f"{folder} holds no training.", "Leave out --resume to start one."
        )
    try:
        return Run.model_validate_json(path.read_bytes())
    except (ValidationError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            "run-damaged", f"{path} cannot be read ({reason}).", "Start the training again."
        ) from error


def train(
    folder: Path,
    device: str = "auto",
    progress: ProgressCallback = ignore_progress,
    only_fold: int | None = None,
) -> Trained | None:
    """Do what a run says, or what is left of it.

    Args:
        folder: of a run that :func:`start_run` wrote.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:<n>"``.
        progress: receives events all the time.
        only_fold: train this one alone, counted from 0, and write no model: other folds are trained
            elsewhere.

    Returns:
        None in processes of ``torchrun`` that do not lead, and with ``only_fold``.

    Raises:
        InputError, ModelError, OutputError: see :class:`~imbalanceseg.training.trainer.Trainer`.
    """
    begun = time.monotonic()
    run = read_run(folder)
    chosen = pick_device(device)
    with joined_ranks(chosen.type == "cuda") as ranks:
        if ranks.world > 1 and chosen.type == "cuda":
            chosen = torch.device("cuda", ranks.local)
        dataset = _opened(Path(run.dataset), run.recipe, run.numbered, folder, progress)
        cases = _prepared(dataset, run, folder, ranks, progress)
        splits = split_cases(cases, run.folds, run.seed)
        if run.unlabelled is not None:
            bare = open_unlabelled(run.unlabelled, dataset)
            more = prepare(bare, run.plan, folder / "prepared", progress, labelled=False)
            splits = [replace(split, unlabelled=more) for split in splits]
        budget = Budget(run.iterations, _seconds_a_fold(run, time.monotonic() - begun))
        members = []
        for number, split in enumerate(splits):
            if only_fold not in (None, number):
                continue
            place = folder / f"fold_{number}"
            place.mkdir(exist_ok=True)
            trainer = Trainer(
                run.plan,
                run.recipe,
                split,
                place,
                budget,
                run.seed + number,
                chosen,
                ranks,
                progress if ranks.leads else ignore_progress,
                None if run.start_from is None else load_model(run.start_from),
                _fresh(run, folder, chosen),
            )
            members.append(Member(trainer.run(), split.validation, place, trainer.standing))
        if only_fold is not None or not ranks.leads:
            return None
        learned = len({case.name for split in splits for case in split.training})
        outcome = judge(run.plan, run.recipe, members, learned, chosen, progress)
    used = training_decisions(
        run.plan, run.recipe, training_patch(run.plan, run.recipe, members[0].network)
    )
    write_training_report(folder, run.plan, run.recipe_name, used, members, outcome)
    return Trained(write_model(folder / "model", run, members, outcome), outcome)


def _fresh(run: Run, folder: Path, device: torch.device) -> FreshPatches | None:
    recipe = run.recipe
    if recipe.synthesis is None or not recipe.synthesis.fresh:
        return None
    chests = AirwaySources.read(Path(run.dataset), folder / MADE / ANATOMIES)
    painted_mm = chests.training[0].anatomy.grid.spacing_mm
    if not np.allclose(painted_mm, run.plan.spacing_mm):
        raise InputError(
            "fresh-spacing",
            f"Fresh patches have voxels of {painted_mm[0]:g} mm, this training those of "
            f"{' x '.join(f'{step:g}' for step in run.plan.spacing_mm)} mm.",
            "Set spacing_mm in the recipe to what is painted, or fresh to 0.",
        )
    assert recipe.patch is not None
    side = recipe.patch[0]
    return FreshPatches(chests.training, recipe.synthesis.fresh, side, run.plan, device)


def _seconds_a_fold(run: Run, used: float) -> float | None:
    """Wall time for the steps of a fold; a little is left for judging and writing."""
    if run.minutes is None:
        return None
    return max(1.0, (run.minutes * 60 * (1 - _ENDING_SHARE) - used) / run.folds)


def split_cases(cases: Sequence[PreparedCase], folds: int, seed: int) -> list[Split]:
    """What is held out of each training: every fold once; with one fold, a tenth of the cases.

    Cases of which only the classes are known are never held out.
    Folds that the dataset names are kept to; with one fold the first of them is held out. Without
    any, fewer than three cases are all trained on, and nothing is held out.

    Raises:
        InputError: ``nothing-to-train-on`` where a named fold holds all cases.
    """
    every = [cases[int(n)] for n in np.random.default_rng(seed).permutation(len(cases))]
    # What an image shows as a whole judges nobody.
    order = [case for case in every if case.shows is None]
    whole = [case for case in every if case.shows is not None]
    named = sorted({case.fold for case in cases if case.fold is not None})
    if not named and folds == 1 and len(order) < 3:
        return [Split(every, [])]
    if named:
        held_out = [[case for case in order if case.fold == number] for number in named[:folds]]
    elif folds == 1:
        held_out = [order[: max(1, round(_HELD_OUT * len(order)))]]
    else:
        held_out = [order[n::folds] for n in range(folds)]
    splits = [
        Split([case for case in order if case not in validation] + whole, validation)
        for validation in held_out
    ]
    if not all(split.training for split in splits):
        raise InputError(
            "nothing-to-train-on",
            "All cases are in the fold that is held out.",
            "Give some cases another fold, or no fold at all.",
        )
    return splits


def _opened(
    path: Path, recipe: Recipe, numbered: bool, folder: Path, progress: ProgressCallback
) -> Dataset:
    if recipe.synthesis is not None:
        path = make_set(recipe.synthesis, path, folder / MADE, progress)
    return open_dataset(path, numbered)


def _prepared(
    dataset: Dataset, run: Run, folder: Path, ranks: Ranks, progress: ProgressCallback
) -> list[PreparedCase]:
    place = folder / "prepared"
    if ranks.leads:
        place.mkdir(exist_ok=True)
        cases = prepare(dataset, run.plan, place, progress)
        weight = chosen_loss(run.plan, run.recipe).weight
        weigh_cases(cases, weight, run.plan.spacing_mm, progress)
    ranks.wait()
    return prepare(dataset, run.plan, place)


def write_model(folder: Path, run: Run, members: Sequence[Member], outcome: Outcome) -> Model:
    """The bundle of a training: its networks, and a card with what was measured."""
    name, arguments = network_arguments(run.plan, run.recipe)
    network = members[0].network
    figures = {
        f"{run.plan.labels[value]}_dice": round(dice, 4)
        for value, dice in zip(outcome.values, outcome.dice, strict=True)
        if dice is not None
    }
    held_out = sum(len(member.validation) for member in members)
    card = planned_card(
        run.plan,
        NetworkSpec(name=name, kwargs=arguments),
        name=model_name(run.plan.dataset),
        recipe_name=run.recipe_name,
        cases=outcome.training_cases,
        patch=training_patch(run.plan, run.recipe, network),
        mirrored_axes=None if run.recipe.augmentation.mirror else (),
        largest_component_of=outcome.largest_component_of,
        metrics={f"{held_out} held-out cases of the same dataset": figures} if figures else {},
        limitations=outcome.limitations,
    )
    if run.start_from is not None:
        card = card_with_origin(card, load_model(run.start_from))
    return write_bundle(folder, [member.network for member in members], card)


def model_name(dataset: str) -> str:
    """A bundle's name from a dataset's: lower case, digits and hyphens."""
    plain = re.sub(r"[^a-z0-9]+", "-", dataset.lower()).strip("-")
    return plain[:64].strip("-") or "model"
