"""What a training needs to go on after it was killed, in one safetensors file."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from imbalanceseg.errors import InputError
from imbalanceseg.io import atomic_path
from imbalanceseg.training.schedule import Plateau

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
    """

    network: nn.Module
    average: nn.Module
    optimizer: torch.optim.Optimizer
    standing: Standing
    hard_places: dict[str, NDArray[Any]] = field(default_factory=dict)


def save_checkpoint(state: TrainingState, path: Path) -> None:
    """Write a checkpoint; the file is the old or the new one, never half of it."""
    tensors = {f"network.{k}": v for k, v in state.network.state_dict().items()}
    if state.average is not state.network:
        tensors |= {f"average.{k}": v for k, v in state.average.state_dict().items()}
    for number, moments in state.optimizer.state_dict()["state"].items():
        kept = {k: v for k, v in moments.items() if isinstance(v, Tensor)}
        tensors |= {f"optimizer.{number}.{k}": v for k, v in kept.items()}
    for name, places in state.hard_places.items():
        tensors[f"hard.{name}"] = torch.from_numpy(places)
    metadata = {"format": _FORMAT, "standing": json.dumps(asdict(state.standing))}
    with atomic_path(path) as file:
        contiguous = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
        save_file(contiguous, file, metadata=metadata)


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
        state.network.load_state_dict(_part(tensors, "network."))
        if state.average is not state.network:
            state.average.load_state_dict(_part(tensors, "average."))
        _restore(state.optimizer, _part(tensors, "optimizer."))
        plateau = Plateau(**standing.pop("plateau"))
        state.standing = Standing(**standing, plateau=plateau)
        state.hard_places = {k: v.numpy() for k, v in _part(tensors, "hard.").items()}
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            "checkpoint-damaged",
            f"The checkpoint {path} cannot be continued ({reason}).",
            "Remove it to train from the start.",
        ) from error


def save_weights(network: nn.Module, path: Path) -> None:
    """The weights alone, float32."""
    with atomic_path(path) as file:
        weights = network.state_dict().items()
        save_file({k: v.detach().cpu().contiguous() for k, v in weights}, file)


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _restore(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split(".", 1)
        moments.setdefault(int(number), {})[name] = value
    known = optimizer.state_dict()
    optimizer.load_state_dict({"state": moments, "param_groups": known["param_groups"]})
