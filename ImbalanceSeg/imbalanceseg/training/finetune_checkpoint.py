"""What an adaptation needs to go on after it was killed, in one safetensors file."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from safetensors import SafetensorError, safe_open
from torch import Tensor

from imbalanceseg.errors import InputError
from imbalanceseg.geometry import Grid
from imbalanceseg.training.checkpoint import part_of, write_tensors

_FORMAT = "1"
_LEAST_SECONDS_BETWEEN = 2.0
_MOST_SHARE_OF_TIME = 0.05


@dataclass
class Adapting:
    """Where an adaptation stands.

    Attributes:
        seconds: used, over all runs.
        depth: that was decided on; empty before.
        look_factor: by what the network's axes are pooled when it looks at the scan; empty before
            that is decided.
        network_step: steps that the network itself was trained.
        network_seconds: wall time of those.
        network_allowed: seconds that they may take, decided when they began.
        network_trained: nothing is left of them.
        rounds: of the head that are done.
        kept: how many of those are the head that is best.
        best_dice: of the slice held out, over all rounds; below 0 before the first.
        dice: of that slice after the rounds that are kept, or None.
        judging: the slice is still asked.
        history: seconds, stage, loss and Dice of every moment.
    """

    seconds: float = 0.0
    depth: str = ""
    look_factor: list[int] = field(default_factory=list)
    network_step: int = 0
    network_seconds: float = 0.0
    network_allowed: float = 0.0
    network_trained: bool = False
    rounds: int = 0
    kept: int = 0
    best_dice: float = -1.0
    dice: float | None = None
    judging: bool = True
    history: list[tuple[float, str, float, float | None]] = field(default_factory=list)


class AdaptationCheckpoint:
    """The file, or nothing where none is asked for.

    Args:
        path: of it; its folder exists. None keeps nothing.
        purpose: by what an adaptation is known again; values that JSON has.
        resume: go on with what the file holds.

    Attributes:
        standing: see :class:`Adapting`.
        tensors: weights and moments, by name.

    Raises:
        InputError: ``checkpoint-exists`` and ``checkpoint-missing`` where it is and is not there
            against what is asked; ``checkpoint-other`` where it is of another adaptation;
            ``checkpoint-damaged``.
    """

    def __init__(self, path: Path | None, purpose: Mapping[str, Any], resume: bool) -> None:
        self._path, self._purpose = path, json.loads(json.dumps(purpose))
        self.standing = Adapting()
        self.tensors: dict[str, Tensor] = {}
        self._told, self._took = float("-inf"), 0.0
        if resume:
            self._read(path)
        elif path is not None and path.exists():
            raise InputError(
                "checkpoint-exists",
                f"{path} holds an adaptation that has not ended.",
                "Continue it with --resume, or remove the file to start again.",
            )

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin with a prefix, without it."""
        return part_of(self.tensors, prefix)

    def put(self, prefix: str, tensors: Mapping[str, Tensor]) -> None:
        """Replace the tensors whose names begin with a prefix; nothing where nothing is kept."""
        if self._path is None:
            return
        others = {k: v for k, v in self.tensors.items() if not k.startswith(prefix)}
        # Copies: what is trained goes on changing, the checkpoint does not.
        self.tensors = others | {prefix + k: v.detach().cpu().clone() for k, v in tensors.items()}

    @property
    def due(self) -> bool:
        """Whether enough time has gone by that keeping what there is costs next to nothing."""
        waited = time.monotonic() - self._told
        least = max(_LEAST_SECONDS_BETWEEN, self._took / _MOST_SHARE_OF_TIME)
        return self._path is not None and waited >= least

    def save(self, seconds: float) -> None:
        """Write it; the file is the old or the new one, never half of it.

        Args:
            seconds: used so far.

        Raises:
            OutputError: it cannot be written.
        """
        self.standing.seconds = seconds
        if self._path is None:
            return
        begun = time.monotonic()
        metadata = {
            "format": _FORMAT,
            "purpose": json.dumps(self._purpose),
            "standing": json.dumps(asdict(self.standing)),
        }
        write_tensors(self.tensors, self._path, metadata)
        self._told = time.monotonic()
        self._took = self._told - begun

    def damaged(self, error: Exception) -> InputError:
        """What is said where the file cannot be used."""
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return InputError(
            "checkpoint-damaged",
            f"The checkpoint {self._path} cannot be continued ({reason}).",
            "Remove it to start again.",
        )

    def _read(self, path: Path | None) -> None:
        if path is None or not path.is_file():
            raise InputError(
                "checkpoint-missing",
                f"There is no adaptation to go on with at {path}.",
                "Leave out --resume to start one.",
            )
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata()
                if metadata["format"] != _FORMAT:
                    raise ValueError(f"it has format {metadata['format']}, not {_FORMAT}")
                purpose = json.loads(metadata["purpose"])
                standing = json.loads(metadata["standing"])
                self.tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            standing["history"] = [tuple(row) for row in standing["history"]]
            self.standing = Adapting(**standing)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise self.damaged(error) from error
        for name in sorted({*purpose, *self._purpose}):
            if purpose.get(name) != self._purpose.get(name):
                raise InputError(
                    "checkpoint-other",
                    f"The adaptation in {path} was begun with another {name}.",
                    "Give what it was begun with, or remove the file to start again.",
                )


def scan_sha256(channels: Sequence[sitk.Image]) -> str:
    """Of the voxels and the grid."""
    digest = sha256(repr(Grid.of(channels[0])).encode())
    for image in channels:
        values = np.ascontiguousarray(sitk.GetArrayViewFromImage(image))
        digest.update(f"{values.dtype}{values.shape}".encode())
        digest.update(values.data)
    return digest.hexdigest()
