"""How well a network does on whole cases it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from imbalanceseg.inference.tiles import tiled_probability
from imbalanceseg.labels import UNLABELLED
from imbalanceseg.planning.prepare import PreparedCase

_OVERLAP = 0.25


@dataclass(frozen=True)
class CaseDice:
    """Dice of one case.

    Attributes:
        case: its name.
        dice: by class from 1; None where neither label nor prediction has the class.
    """

    case: str
    dice: tuple[float | None, ...]


def case_probability(
    networks: Sequence[nn.Module],
    case: PreparedCase,
    tile: Sequence[int],
    device: torch.device,
    overlap: float = _OVERLAP,
    mirrored: Sequence[tuple[int, ...]] = ((),),
) -> Tensor:
    """Probability of a prepared case, float32 ``[K, ...]``; the tile is the training patch."""
    volume = torch.from_numpy(case.image())[None].to(device)
    return tiled_probability(networks, volume, tile, overlap, mirrored)


def labels_of(probability: Tensor, threshold: float = 0.5) -> NDArray[np.uint8]:
    """The likeliest class of every voxel, uint8 ``[...]``."""
    if probability.shape[0] == 1:
        return (probability[0] > threshold).numpy().astype(np.uint8)
    return probability.argmax(0).numpy().astype(np.uint8)


def dice_by_class(
    prediction: NDArray[np.uint8], label: NDArray[np.uint8], classes: int
) -> tuple[float | None, ...]:
    """Dice of classes 1 to ``classes`` over the labelled voxels; None where both are empty."""
    labelled = label != UNLABELLED
    predicted, true = prediction[labelled], label[labelled]
    result: list[float | None] = []
    for value in range(1, classes + 1):
        p, g = predicted == value, true == value
        size = int(p.sum()) + int(g.sum())
        result.append(2 * int((p & g).sum()) / size if size else None)
    return tuple(result)


def validate(
    network: nn.Module,
    cases: Sequence[PreparedCase],
    tile: Sequence[int],
    classes: int,
    device: torch.device,
) -> list[CaseDice]:
    """Dice of every case; the network is left as it was found."""
    training = network.training
    network.eval()
    try:
        return [
            CaseDice(
                case.name,
                dice_by_class(
                    labels_of(case_probability([network], case, tile, device)),
                    case.label(),
                    classes,
                ),
            )
            for case in cases
        ]
    finally:
        network.train(training)


def mean_by_class(scores: Sequence[CaseDice]) -> tuple[float | None, ...]:
    """Mean over the cases that have the class; None where none has it."""
    columns = zip(*(score.dice for score in scores), strict=True)
    known = ([value for value in column if value is not None] for column in columns)
    return tuple(float(np.mean(values)) if values else None for values in known)


def mean_dice(scores: Sequence[CaseDice]) -> float:
    """Mean over classes of the mean over cases; NaN where nothing can be judged."""
    known = [value for value in mean_by_class(scores) if value is not None]
    return float(np.mean(known)) if known else float("nan")
