"""How well a training came out on what it held out, and the post-processing that helps there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from imbalanceseg.planning.plan import Plan
from imbalanceseg.planning.prepare import PreparedCase
from imbalanceseg.progress import ProgressCallback, ProgressEvent
from imbalanceseg.training.build import class_count, training_patch
from imbalanceseg.training.checkpoint import Standing
from imbalanceseg.training.postprocessing import keep_largest, largest_component_helps
from imbalanceseg.training.recipe import Recipe
from imbalanceseg.training.validation import (
    CaseDice,
    case_probability,
    dice_by_class,
    labels_of,
    mean_by_class,
)

_OVERLAP = 0.5
_LIMITATION = (
    "Weights and post-processing were chosen on the held-out cases that the figures are of, which "
    "flatters them a little."
)
_NOTHING_HELD_OUT = "No case was held out: how well it does is not known."


@dataclass(frozen=True, eq=False)
class Member:
    """A trained network of the ensemble.

    Attributes:
        network: with its best weights, in evaluation mode.
        validation: the cases that it has not learned from.
        folder: of its log.
        standing: at the end.
    """

    network: nn.Module
    validation: Sequence[PreparedCase]
    folder: Path
    standing: Standing


@dataclass(frozen=True)
class Outcome:
    """What a training is worth, measured on held-out cases by the network that did not see them.

    Attributes:
        values: label values of the classes.
        cases: Dice by case and class, without mirrored copies, before post-processing.
        dice: mean by class of the model as it is shipped, post-processing included.
        mirrored: the same, averaged over mirrored copies too; empty where those are not judged.
        largest_component_of: classes of which only the largest component is kept.
        training_cases: learned from by at least one network.
        limitations: for the model's card.
    """

    values: tuple[int, ...]
    cases: tuple[CaseDice, ...]
    dice: tuple[float | None, ...]
    mirrored: tuple[float | None, ...]
    largest_component_of: tuple[int, ...]
    training_cases: int
    limitations: tuple[str, ...]


def judge(
    plan: Plan,
    recipe: Recipe,
    members: Sequence[Member],
    training_cases: int,
    device: torch.device,
    progress: ProgressCallback,
) -> Outcome:
    """Segment every held-out case, with mirrored copies too where the recipe wants it, and choose
    post-processing.

    Args:
        plan: of the dataset.
        recipe: of the training.
        members: the networks.
        training_cases: learned from by at least one of them.
        device: where the networks are.
        progress: receives an event a case.
    """
    classes = class_count(plan)
    values = tuple(sorted(set(plan.labels) - {0}))
    patch = training_patch(plan, recipe, members[0].network)
    held_out = [(member, case) for member in members for case in member.validation]
    copies: list[tuple[tuple[int, ...], ...]] = [((),)]
    if recipe.augmentation.mirror and recipe.judge_mirrored:
        copies.append(mirrored_copies(len(patch)))
    found: list[list[NDArray[np.uint8]]] = [[] for _ in copies]
    for done, (member, case) in enumerate(held_out):
        progress(ProgressEvent("judge", done, len(held_out), case.name))
        for predictions, mirrored in zip(found, copies, strict=True):
            probability = case_probability(
                [member.network], case, patch, device, _OVERLAP, mirrored
            )
            predictions.append(labels_of(probability))
    progress(ProgressEvent("judge", len(held_out), len(held_out)))
    names = [case.name for _, case in held_out]
    labels = [case.label() for _, case in held_out]
    kept = largest_component_helps(found[0], labels, classes)

    def scores(predictions: Sequence[NDArray[np.uint8]]) -> tuple[CaseDice, ...]:
        triples = zip(names, predictions, labels, strict=True)
        return tuple(CaseDice(n, dice_by_class(p, g, classes)) for n, p, g in triples)

    cleaned = [scores([keep_largest(p, kept) for p in each]) for each in found]
    means = [mean_by_class(each) if each else (None,) * classes for each in cleaned]
    return Outcome(
        values=values,
        cases=scores(found[0]),
        dice=means[0],
        mirrored=means[1] if len(means) > 1 else (),
        largest_component_of=kept,
        training_cases=training_cases,
        limitations=(_LIMITATION if held_out else _NOTHING_HELD_OUT,),
    )


def mirrored_copies(axes: int) -> tuple[tuple[int, ...], ...]:
    """Every combination of the axes of space, as axes of ``[1, C, ...]``; none first."""
    space = range(2, 2 + axes)
    return tuple(chain.from_iterable(combinations(space, n) for n in range(axes + 1)))
