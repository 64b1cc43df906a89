"""What a training needs to go on after it was killed, in one safetensors file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from imbalanceseg.errors import InputError
from imbalanceseg.io import atomic_path
from imbalanceseg.training.schedule import Plateau
from imbalanceseg.training.unlabelled import UnlabelledLearning

_FORMAT = "1"


@dataclass
class Standing:
    """Where a training stands; random numbers follow from the seed and the iteration.

    Attributes:
        iteration: steps taken.
        seconds: wall time used, over all runs.
        batch: patches of a step, of all processes together.
        best_dice: of the weights kept so far; below 0 before the first validation, 0 while none
            could judge them.
        best_iteration: when they were found.
        validations_without_gain: since then.
        loss_sum: of the steps since the last validation.
        loss_steps: how many these are.
        plateau: see :class:`~imbalanceseg.training.schedule.Plateau`.
        case_weights: see :class:`~imbalanceseg.training.patches.PatchSource`.
        unlabelled_weights: the same of cases without labels.
        looks: how often they were found.
        ended: why nothing is left to do; empty while there is.
        notes: what a reader of the report should know.
    """

    iteration: int = 0
    seconds: float = 0.0
    batch: int = 1
    best_dice: float = -1.0
    best_iteration: int = 0
    validations_without_gain: int = 0
    loss_sum: float = 0.0
    loss_steps: int = 0
    plateau: Plateau = field(default_factory=Plateau)
    case_weights: dict[str, float] = field(default_factory=dict)
    unlabelled_weights: dict[str, float] = field(default_factory=dict)
    looks: int = 0
    ended: str = ""
    notes: list[str] = field(default_factory=list)

    def add_loss(self, mean: float, steps: int) -> None:
        """Count the mean loss of some steps."""
        self.loss_sum += mean * steps
        self.loss_steps += steps

    def take_mean_loss(self) -> float:
        """Of all steps since this was last asked; NaN if there are none."""
        mean = self.loss_sum / self.loss_steps if self.loss_steps else float("nan")
        self.loss_sum, self.loss_steps = 0.0, 0
        return mean


@dataclass
class TrainingState:
    """A training in memory.

    Attributes:
        network: being trained.
        average: its averaged weights; the network itself where the recipe wants no average.
        optimizer: of the network.
        standing: see :class:`Standing`.
        hard_places: see :class:`~imbalanceseg.training.patches.PatchSource`.
        learning: what learns from unlabelled images beside the network; None without.
    """

    network: nn.Module
    average: nn.Module
    optimizer: torch.optim.Optimizer
    standing: Standing
    hard_places: dict[str, NDArray[Any]] = field(default_factory=dict)
    learning: UnlabelledLearning | None = None


def save_checkpoint(state: TrainingState, path: Path) -> None:
    """Write a checkpoint; the file is the old or the new one, never half of it."""
    tensors = {f"network.{k}": v for k, v in state.network.state_dict().items()}
    if state.average is not state.network:
        tensors |= {f"average.{k}": v for k, v in state.average.state_dict().items()}
    tensors |= {f"optimizer.{k}": v for k, v in moments_of(state.optimizer).items()}
    for name, places in state.hard_places.items():
        tensors[f"hard.{name}"] = torch.from_numpy(places)
    if state.learning is not None:
        tensors |= {f"learning.{k}": v for k, v in state.learning.state_dict().items()}
    metadata = {"format": _FORMAT, "standing": json.dumps(asdict(state.standing))}
    write_tensors(tensors, path, metadata)


def load_checkpoint(state: TrainingState, path: str | os.PathLike[str]) -> None:
    """Fill ``state`` from a checkpoint.

    Raises:
        InputError: ``checkpoint-damaged`` when the file is none, or is of another network.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            if metadata["format"] != _FORMAT:
                raise ValueError(f"it has format {metadata['format']}, not {_FORMAT}")
            standing = json.loads(metadata["standing"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        state.network.load_state_dict(part_of(tensors, "network."))
        if state.average is not state.network:
            state.average.load_state_dict(part_of(tensors, "average."))
        restore_moments(state.optimizer, part_of(tensors, "optimizer."))
        if state.learning is not None:
            state.learning.load_state_dict(part_of(tensors, "learning."))
        plateau = Plateau(**standing.pop("plateau"))
        state.standing = Standing(**standing, plateau=plateau)
        state.hard_places = {k: v.numpy() for k, v in part_of(tensors, "hard.").items()}
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            "checkpoint-damaged",
            f"The checkpoint {path} cannot be continued ({reason}).",
            "Remove it to train from the start.",
        ) from error


def save_weights(network: nn.Module, path: Path) -> None:
    """The weights alone, float32."""
    write_tensors(network.state_dict(), path)


def write_tensors(
    tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None
) -> None:
    """One safetensors file, whole or not at all.

    Args:
        tensors: on any device.
        path: of the file.
        metadata: of its header.
    """
    with atomic_path(path) as file:
        contiguous = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
        # Not save_file: what it raises where the disk is full is no OSError.
        file.write_bytes(save(contiguous, metadata))


def part_of(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def moments_of(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What an optimizer remembers, by number of the parameter and name."""
    return {
        f"{number}.{name}": value
        for number, moments in optimizer.state_dict()["state"].items()
        for name, value in moments.items()
        if isinstance(value, Tensor)
    }


def restore_moments(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Let an optimizer remember what :func:`moments_of` gave."""
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split(".", 1)
        moments.setdefault(int(number), {})[name] = value
    known = optimizer.state_dict()
    optimizer.load_state_dict({"state": moments, "param_groups": known["param_groups"]})
