"""The loss study: eight losses, everything else alike, on three imbalanced sets.

Every run, one loss with one seed on one set, is a folder with ``result.json``. A run that has one
is not repeated, and one that was stopped goes on from its last checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from imbalanceseg.errors import InputError
from imbalanceseg.inference.device import pick_device
from imbalanceseg.io import write_json, write_text
from imbalanceseg.planning.imbalance import Sampling
from imbalanceseg.progress import ProgressCallback, ProgressEvent, ignore_progress
from imbalanceseg.training.distributed import Ranks
from imbalanceseg.training.recipe import (
    LossChoice,
    NetworkChoice,
    OptimizerChoice,
    Recipe,
    Schedule,
)
from imbalanceseg.training.schedule import Budget
from imbalanceseg.training.split import Split
from imbalanceseg.training.study_figures import judged
from imbalanceseg.training.study_sets import PreparedSet, StudySet, prepared_set
from imbalanceseg.training.trainer import Trainer

LOSSES = {
    "ce": LossChoice(name="ce"),
    "dice": LossChoice(name="dice"),
    "dice_ce": LossChoice(name="dice_ce"),
    "focal": LossChoice(name="focal"),
    "tversky": LossChoice(name="tversky"),
    "hardness_weighted_dice": LossChoice(name="hardness_weighted_dice"),
    "general_union": LossChoice(name="general_union"),
    "blob": LossChoice(name="blob", settings={"base": "dice"}),
}
"""The losses that are compared, with the constants that they have unless told otherwise."""
DEFAULT_ITERATIONS = 400
RESULT_FILE, PROTOCOL_FILE = "result.json", "protocol.json"

_FEATURES = (8, 16, 32, 64)
_STAGE = "benchmark"


class StudyResult(BaseModel):
    """One run; ``result.json`` in its folder.

    Attributes:
        study_set: name of the set.
        loss: name in :data:`LOSSES`.
        seed: of weights and patches.
        iterations: steps.
        seconds: wall time of training and judging.
        flat: the set is 2D.
        size_edges: that part small, medium and large instances; mm3 (pixels in 2D).
        figures: see :func:`~imbalanceseg.training.study_figures.judged`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    study_set: str
    loss: str
    seed: int
    iterations: int
    seconds: float
    flat: bool
    size_edges: tuple[float, float]
    figures: dict[str, float | None]


def study_recipe(one: StudySet, loss: str) -> Recipe:
    """How every run of a set is trained; nothing but ``loss`` differs between losses."""
    axes = len(one.patch)
    settings = {
        "kernels": [(3,) * axes for _ in _FEATURES],
        "strides": [(1 if n == 0 else 2,) * axes for n in range(len(_FEATURES))],
        "features": list(_FEATURES),
    }
    return Recipe(
        description="One small nnU-Net for every loss of the study.",
        network=NetworkChoice(name="nnunet", settings=settings),
        loss=LOSSES[loss],
        optimizer=OptimizerChoice(name="adamw", learning_rate=2e-3, weight_decay=1e-4),
        schedule=Schedule(name="cosine", warmup=20),
        sampling=Sampling(foreground=0.5),
        patch=one.patch,
        batch=one.batch,
        ema=0.99,
        # The same arithmetic on every processor.
        precision="float32",
    )


def require_losses(names: Sequence[str]) -> list[str]:
    """The names of losses, each once.

    Raises:
        InputError: one is not in the study, or there is none.
    """
    unknown = [name for name in names if name not in LOSSES]
    if unknown or not names:
        what = f"The study has no loss {unknown[0]!r}." if unknown else "No loss was named."
        raise InputError("study-loss-unknown", what, f"Choose from {', '.join(LOSSES)}.")
    return list(dict.fromkeys(names))


def run_study(
    folder: Path,
    sets: Sequence[StudySet],
    losses: Sequence[str] = tuple(LOSSES),
    seeds: int = 3,
    iterations: int = DEFAULT_ITERATIONS,
    device: str = "auto",
    progress: ProgressCallback = ignore_progress,
) -> list[StudyResult]:
    """Do every run that has no result yet, and read all results.

    Args:
        folder: of the study; exists. Sets and losses may be added to it later, and two processes
            may work on different sets of it.
        sets: to compare on.
        losses: from :data:`LOSSES`.
        seeds: how many; they count from 0.
        iterations: steps of every run.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:<n>"``.
        progress: receives an event a step; raising in it stops the study, which goes on from there
            when it is called again.

    Raises:
        InputError: a loss is unknown, or runs of another protocol lie in the folder.
    """
    names = require_losses(losses)
    chosen = pick_device(device)
    for one in sets:
        _require_protocol(folder / one.name, one, iterations)
    results: list[StudyResult] = []
    total = len(sets) * len(names) * seeds
    for one in sets:
        place = folder / one.name
        prepared: PreparedSet | None = None
        for seed in range(seeds):
            for loss in names:
                run = place / "runs" / f"{loss}-{seed}"
                result = read_result(run)
                if result is None:
                    prepared = prepared or prepared_set(one, place, progress)
                    told = _as_part(progress, len(results), total, f"{one.name} {loss} seed {seed}")
                    result = _run(run, one, prepared, loss, seed, iterations, chosen, told)
                results.append(result)
    progress(ProgressEvent(_STAGE, total, total))
    return results


def read_result(run: Path) -> StudyResult | None:
    """The result in the folder of a run; None where there is none that can be read."""
    try:
        return StudyResult.model_validate_json((run / RESULT_FILE).read_bytes())
    except (OSError, ValidationError):
        return None


def _run(
    folder: Path,
    one: StudySet,
    prepared: PreparedSet,
    loss: str,
    seed: int,
    iterations: int,
    device: Any,
    progress: ProgressCallback,
) -> StudyResult:
    folder.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(
        prepared.plan,
        study_recipe(one, loss),
        Split(prepared.training, []),
        folder,
        Budget(iterations, None),
        seed,
        device,
        Ranks(),
        progress,
    )
    network = trainer.run()
    begun = time.monotonic()
    figures = judged(one, prepared, network, trainer.patch, device)
    result = StudyResult(
        study_set=one.name,
        loss=loss,
        seed=seed,
        iterations=iterations,
        seconds=round(trainer.standing.seconds + time.monotonic() - begun, 1),
        flat=len(one.patch) == 2,
        size_edges=prepared.size_edges,
        figures=figures,
    )
    write_text(folder / RESULT_FILE, result.model_dump_json(indent=2) + "\n")
    return result


def _require_protocol(folder: Path, one: StudySet, iterations: int) -> None:
    """Note how the runs of a set are done; what lies there must have been done so too."""
    recipe = study_recipe(one, next(iter(LOSSES))).model_dump(mode="json", exclude={"loss"})
    losses = {name: choice.model_dump(mode="json") for name, choice in LOSSES.items()}
    protocol = _Protocol(about=one.about, iterations=iterations, recipe=recipe, losses=losses)
    path = folder / PROTOCOL_FILE
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, protocol.model_dump(mode="json"))
        return
    try:
        same = _Protocol.model_validate_json(path.read_bytes()) == protocol
    except (OSError, ValidationError):
        same = False
    if not same:
        raise InputError(
            "other-study",
            f"The runs in {folder} were not done with {iterations} iterations and the recipe and "
            "losses of this study.",
            "Choose another folder, or ask for the same --iterations.",
        )


class _Protocol(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    about: str
    iterations: int
    recipe: dict[str, Any]
    losses: dict[str, Any]


def _as_part(progress: ProgressCallback, done: int, total: int, name: str) -> ProgressCallback:
    """Events of one run as those of the whole study."""

    def tell(event: ProgressEvent) -> None:
        message = f"{name}, step {event.done} of {event.total}, {event.message}".rstrip(", ")
        progress(replace(event, stage=_STAGE, done=done, total=total, message=message))

    return tell
