"""Train the airway model: WingsNet with the General Union loss on synthetic chest CT.

``python -m imbalanceseg.training.airway --masks FOLDER -o RUN`` runs the recipe
``recipes/synthetic/airway.yaml``; with ``--recipe recipes/synthetic/airway-stage2.yaml --weights
RUN/airway.safetensors`` the second stage goes on from there. The same command continues a run that
was interrupted.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from safetensors.torch import load_file
from torch import Tensor

from imbalanceseg.errors import ModelError
from imbalanceseg.inference.allocator import kept_memory
from imbalanceseg.inference.device import fast_layout, fast_precision
from imbalanceseg.io import write_text
from imbalanceseg.losses import create_loss
from imbalanceseg.losses.group_supervision import GroupSupervision
from imbalanceseg.networks.wingsnet import WingsNet, fix_statistics
from imbalanceseg.synthesis.library import chest_library
from imbalanceseg.training.checkpoint import write_tensors
from imbalanceseg.training.synthetic_patches import SyntheticAirwayPatches, normalized
from imbalanceseg.training.weight_gradients import fast_weight_gradients

_CHECKPOINT_SECONDS = 300.0
_VALIDATION_PATCHES = 12
_CALIBRATION = 40
"""Patches whose statistics a tile-invariant network takes from one with instance norms."""
_COLUMNS = ["iteration", "seconds", "loss", "dice", "recall", "precision"]


class Phase(BaseModel):
    """A stretch of training with one patch size.

    The learning rate falls from the first to the second value along half a cosine. ``side`` stays
    above 16: below, bfloat16 weight gradients of the smallest feature maps are wrong on some CPUs.
    """

    model_config = ConfigDict(extra="forbid")
    iterations: PositiveInt
    patches: PositiveInt
    side: Annotated[int, Field(ge=24, multiple_of=8)]
    learning_rate: tuple[float, float]
    alpha: Annotated[float, Field(gt=0, lt=1)]


class AirwayRecipe(BaseModel):
    """Everything that decides the result of a run."""

    model_config = ConfigDict(extra="forbid")
    seed: int
    spacing_mm: float
    clip_hu: tuple[float, float]
    patients: list[int]
    grown_seeds: list[int]
    validation_seeds: list[int]
    encoding_weight: float
    weight_decay: float
    warmup_iterations: PositiveInt
    ema_decay: float
    tile_invariant: bool = False
    phases: list[Phase]

    @property
    def iterations(self) -> int:
        """Optimiser steps of the whole run."""
        return sum(phase.iterations for phase in self.phases)

    def steps(self, start: int) -> Iterator[tuple[int, Phase]]:
        """``(iteration, phase)`` from ``start`` to the end."""
        first = 0
        for phase in self.phases:
            for iteration in range(max(start, first), first + phase.iterations):
                yield iteration, phase
            first += phase.iterations

    def rate(self, iteration: int) -> float:
        """Learning rate: a linear warm-up, then what the iteration's phase says."""
        first = 0
        for phase in self.phases:
            if iteration < first + phase.iterations:
                break
            first += phase.iterations
        high, low = phase.learning_rate
        share = (iteration - first) / phase.iterations
        rate = low + (high - low) * 0.5 * (1 + math.cos(math.pi * share))
        return rate * min(1.0, (iteration + 1) / self.warmup_iterations)


@dataclass
class TrainingState:
    """What a checkpoint holds; the random state is derived from the seed and the iteration."""

    network: WingsNet
    average: WingsNet
    optimizer: torch.optim.AdamW
    iteration: int = 0
    seconds: float = 0.0


def train_airway(
    recipe: AirwayRecipe,
    masks: Path | None,
    run: Path,
    library: Path,
    device: str = "cpu",
    weights: Path | None = None,
) -> WingsNet:
    """Run or continue a recipe and return the averaged network.

    Args:
        recipe: see :class:`AirwayRecipe`.
        masks: folder of the Med-MPD label maps; None trains on grown chests alone.
        run: receives ``checkpoint/`` and ``log.csv``.
        library: where anatomies are kept between runs.
        device: torch device.
        weights: what a new run starts from; random weights when None.
    """
    run.mkdir(parents=True, exist_ok=True)
    chests = chest_library(library, masks, recipe.patients, recipe.grown_seeds, recipe.spacing_mm)

    def patches(seed: int) -> SyntheticAirwayPatches:
        return SyntheticAirwayPatches(chests, seed, device=device)

    state = _start(recipe, run, device, weights, patches(recipe.seed + 8_000_000))
    validation = validation_set(recipe, library, device)
    source = patches(recipe.seed + state.iteration)
    started, saved, recent = time.monotonic() - state.seconds, time.monotonic(), []
    for iteration, phase in recipe.steps(state.iteration):
        hu, label, weight = source.batch(phase.patches, phase.side)
        general_union = create_loss("general_union", alpha=phase.alpha)
        loss_function = GroupSupervision(general_union, recipe.encoding_weight)
        recent.append(_step(state, recipe, loss_function, hu, label, weight, iteration))
        state.iteration, state.seconds = iteration + 1, time.monotonic() - started
        last = state.iteration == recipe.iterations
        if last or state.iteration % 100 == 0:
            row = [state.iteration, round(state.seconds, 1), sum(recent) / len(recent)]
            _log(run, [*row, *_validate(state.average, validation, recipe)])
            recent = []
        if last or time.monotonic() - saved > _CHECKPOINT_SECONDS:
            _save(state, run)
            saved = time.monotonic()
    return state.average


def _step(
    state: TrainingState,
    recipe: AirwayRecipe,
    loss_function: GroupSupervision,
    hu: Tensor,
    label: Tensor,
    weight: Tensor,
    iteration: int,
) -> float:
    for group in state.optimizer.param_groups:
        group["lr"] = recipe.rate(iteration)
    image = normalized(hu, recipe.clip_hu)
    image = image.to(memory_format=fast_layout(image.device))
    with fast_precision(image.device), fast_weight_gradients(image.device):
        output = state.network(image)
    loss = loss_function(output, label, weight=weight)
    if not torch.isfinite(loss):
        raise ModelError(
            "training-diverged",
            f"The loss is not finite at iteration {iteration}; the last checkpoint is kept.",
            "Lower the learning rate and run the same command again.",
        )
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(state.network.parameters(), 5.0)
    state.optimizer.step()
    decay = min(recipe.ema_decay, (1 + iteration) / (10 + iteration))
    with torch.no_grad():
        for mean, value in zip(state.average.parameters(), state.network.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)
    return float(loss.detach())


def read_recipe(path: Path | None = None) -> AirwayRecipe:
    """The recipe in a YAML file; the shipped one when ``path`` is None."""
    path = path or Path(__file__).parent / "recipes" / "synthetic" / "airway.yaml"
    return AirwayRecipe.model_validate(yaml.safe_load(path.read_text()))


def validation_set(recipe: AirwayRecipe, library: Path, device: str) -> list[tuple[Tensor, Tensor]]:
    """Fixed patches ``(image, label)``, ``[1, 1, 96, 96, 96]``, of chests never trained on."""
    chests = chest_library(library, None, (), recipe.validation_seeds, recipe.spacing_mm)
    source = SyntheticAirwayPatches(chests, recipe.seed + 7_000_000, device=device)
    patches = (source.batch(1, 96) for _ in range(_VALIDATION_PATCHES))
    return [(normalized(hu, recipe.clip_hu), label) for hu, label, _ in patches]


@torch.no_grad()
def _validate(
    network: WingsNet, patches: list[tuple[Tensor, Tensor]], recipe: AirwayRecipe
) -> list[float]:
    """Dice, recall and precision at 0.5 over all validation patches together."""
    network.eval()
    hit = predicted = true = 0.0
    for image, label in patches:
        with fast_precision(image.device):
            found = network(image.to(memory_format=fast_layout(image.device))) > 0
        hit += float((found * label).sum())
        predicted += float(found.sum())
        true += float(label.sum())
    figures = (2 * hit / max(predicted + true, 1), hit / max(true, 1), hit / max(predicted, 1))
    return [round(f, 4) for f in figures]


def _start(
    recipe: AirwayRecipe,
    run: Path,
    device: str,
    weights: Path | None,
    patches: SyntheticAirwayPatches,
) -> TrainingState:
    torch.manual_seed(recipe.seed)
    network, average = (
        _placed(WingsNet(tile_invariant=recipe.tile_invariant), device) for _ in range(2)
    )
    path = run / "checkpoint.safetensors"
    if weights is not None and not path.is_file():
        _load_weights(network, load_file(weights, device=device), recipe, patches)
    network.train()
    average.eval()
    average.load_state_dict(network.state_dict())
    optimizer = torch.optim.AdamW(
        network.parameters(), recipe.rate(0), weight_decay=recipe.weight_decay
    )
    state = TrainingState(network, average, optimizer)
    if path.is_file():
        _load(state, load_file(path, device=device))
        torch.manual_seed(recipe.seed + state.iteration)
    _forget_rows_after(state.iteration, run)
    return state


def _load_weights(
    network: WingsNet,
    weights: dict[str, Tensor],
    recipe: AirwayRecipe,
    patches: SyntheticAirwayPatches,
) -> None:
    weights = {name: value.float() for name, value in weights.items()}
    if not recipe.tile_invariant or any("running_mean" in name for name in weights):
        network.load_state_dict(weights)
        return
    source = _placed(WingsNet(), patches.device)
    source.load_state_dict(weights)
    images = (normalized(patches.batch(1, 96)[0], recipe.clip_hu) for _ in range(_CALIBRATION))
    fix_statistics(network, source, images)


def _placed(network: WingsNet, device: str) -> WingsNet:
    layout = fast_layout(torch.device(device))
    network.to(device, memory_format=layout)  # type: ignore[call-overload]
    return network


def _save(state: TrainingState, run: Path) -> None:
    tensors = {f"network.{k}": v for k, v in state.network.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in state.average.state_dict().items()}
    for n, moments in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{n}.{k}": v for k, v in moments.items()}
    tensors["iteration"] = torch.tensor(state.iteration)
    tensors["seconds"] = torch.tensor(state.seconds)
    write_tensors(tensors, run / "checkpoint.safetensors")


def _load(state: TrainingState, tensors: dict[str, Tensor]) -> None:
    def part(prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    state.network.load_state_dict(part("network."))
    state.average.load_state_dict(part("average."))
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in part("optimizer.").items():
        number, name = key.split(".", 1)
        moments.setdefault(int(number), {})[name] = value
    known = state.optimizer.state_dict()
    state.optimizer.load_state_dict({"state": moments, "param_groups": known["param_groups"]})
    state.iteration = int(tensors["iteration"])
    state.seconds = float(tensors["seconds"])


def _forget_rows_after(iteration: int, run: Path) -> None:
    """Drop what was logged between the checkpoint and the interruption: it comes again."""
    path = run / "log.csv"
    if not path.is_file():
        return
    head, *rows = path.read_text().splitlines()
    kept = [row for row in rows if int(row.split(",", 1)[0]) <= iteration]
    if kept != rows:
        write_text(path, "\n".join([head, *kept]) + "\n")


def _log(run: Path, row: list[float]) -> None:
    path = run / "log.csv"
    fresh = not path.is_file()
    with open(path, "a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if fresh:
            writer.writerow(_COLUMNS)
        writer.writerow(row)
    print(dict(zip(_COLUMNS, row, strict=True)), flush=True)


def main(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run.")],
    masks: Annotated[Path | None, typer.Option(help="Folder of the Med-MPD label maps.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="Recipe; the shipped one if absent.")] = None,
    device: Annotated[str, typer.Option(help="torch device.")] = "cpu",
    weights: Annotated[Path | None, typer.Option(help="What a new run starts from.")] = None,
) -> None:
    """Train the airway model, or continue an interrupted run."""
    torch.set_flush_denormal(True)
    library = output.parent / "anatomies"
    with kept_memory():
        network = train_airway(read_recipe(recipe), masks, output, library, device, weights)
    halves = {k: v.half() for k, v in network.state_dict().items()}
    write_tensors(halves, output / "airway.safetensors")


if __name__ == "__main__":
    typer.run(main)
