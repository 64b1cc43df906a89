"""Teach a patient's head from the voxels that somebody has labelled."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from imbalanceseg.inference.maps import probability
from imbalanceseg.losses.partial_label import partial_label_loss
from imbalanceseg.networks.adapted import PatientHead
from imbalanceseg.networks.voxel_classifier import VoxelClassifier

_STEPS = 200
_LEARNING_RATE = 1e-2
_WEIGHT_DECAY = 1e-3
_DRAWN_BACKGROUND, _DRAWN_FOREGROUND = 2048, 1024
_MOST_ROWS = 400_000
_SURE = 0.95
_BELIEVED, _BELIEVED_RIGHT = 200, 198
"""Voxels that the network is credited with for each class beforehand: one click is no verdict."""
_DRAWN_KEPT = 2048


@dataclass(frozen=True)
class Rows:
    """What a classifier sees of some voxels.

    Attributes:
        columns: ``[C, N]``.
        start: the network's logits, ``[K, N]``, or None.
        target: classes, int64 ``[N]``.
    """

    columns: Tensor
    start: Tensor | None
    target: Tensor

    def __len__(self) -> int:
        return len(self.target)

    def taken(self, which: Tensor) -> Rows:
        """Some of them."""
        start = None if self.start is None else self.start[:, which]
        return Rows(self.columns[:, which], start, self.target[which])


@dataclass(frozen=True)
class Lesson:
    """What a round of training is told.

    Attributes:
        painted: labelled voxels.
        kept: unlabelled voxels where the network was sure, with what it said; None where there is
            no network.
        trust: how much each class of those counts, ``[classes]``.
        classes: that were looked for, or None for all.
        balanced: all classes weigh the same, however few of their voxels are labelled.
    """

    painted: Rows
    kept: Rows | None = None
    trust: Tensor | None = None
    classes: Sequence[int] | None = None
    balanced: bool = False


def teach(
    classifier: VoxelClassifier,
    lesson: Lesson,
    generator: torch.Generator,
    steps: int = _STEPS,
    deadline: float | None = None,
    told: Callable[[int, float], None] = lambda step, loss: None,
) -> None:
    """Train a classifier; its weights go on from where they are.

    Behind a network, all classes that nobody looked for get the same logit added as background
    does: how probable they are against each other stays as the network has it.

    Args:
        classifier: of the round; its standardisation is set from the rows.
        lesson: see :class:`Lesson`.
        generator: random numbers.
        steps: of AdamW with one cycle of the learning rate.
        deadline: of ``time.monotonic()``, after which it ends.
        told: called with every step and its loss.
    """
    rows = lesson.painted
    seen = [rows.columns] if lesson.kept is None else [rows.columns, lesson.kept.columns]
    every = torch.cat(seen, 1)
    classifier.mean.copy_(every.mean(1))
    classifier.deviation.copy_(every.std(1, correction=0).clamp(min=1e-3))
    draw = _Draw(rows.target, generator, lesson.balanced)
    optimizer = torch.optim.AdamW(
        classifier.parameters(), _LEARNING_RATE, weight_decay=_WEIGHT_DECAY
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=steps)
    tied = _tied(classifier, lesson)
    classifier.train()
    for step in range(steps):
        which, weight = draw()
        loss = _loss(classifier, rows.taken(which), weight, lesson.classes)
        if lesson.kept is not None and len(lesson.kept):
            loss = loss + _keeping(classifier, lesson, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        _tie(classifier, tied)
        told(step, float(loss.detach()))
        if deadline is not None and time.monotonic() > deadline:
            break
    classifier.eval()


def _tied(classifier: VoxelClassifier, lesson: Lesson) -> list[int]:
    """Logits that change alike, or none."""
    if lesson.classes is None or lesson.painted.start is None:
        return []
    count = classifier.out_channels
    others = [value for value in range(1, count) if value not in lesson.classes]
    return [0, *others] if others else []


@torch.no_grad()
def _tie(classifier: VoxelClassifier, tied: list[int]) -> None:
    if tied:
        for parameter in classifier.layers[-1].parameters():
            parameter[tied] = parameter[tied].mean(0)


def _loss(
    classifier: VoxelClassifier, rows: Rows, weight: Tensor, classes: Sequence[int] | None
) -> Tensor:
    logits = logits_of(classifier, rows)[None]
    return partial_label_loss(
        logits, rows.target[None, None], weight=weight[None, None], annotated_classes=classes
    )


def _keeping(classifier: VoxelClassifier, lesson: Lesson, generator: torch.Generator) -> Tensor:
    """Cross entropy with what the network was sure of, as far as it is trusted."""
    assert lesson.kept is not None
    assert lesson.trust is not None
    which = torch.randint(len(lesson.kept), (_DRAWN_KEPT,), generator=generator)
    rows = lesson.kept.taken(which)
    trust = lesson.trust[rows.target]
    logits = logits_of(classifier, rows)[None]
    loss = partial_label_loss(
        logits, rows.target[None, None], weight=trust[None, None].clamp(min=1e-6), dice_weight=0.0
    )
    return loss * trust.mean()


def logits_of(classifier: nn.Module, rows: Rows) -> Tensor:
    """Of the rows, ``[K, N]``."""
    start = None if rows.start is None else rows.start[None]
    return PatientHead.answer(classifier, rows.columns[None], start)[0]


def trust_by_class(
    start: Tensor, target: Tensor, classes: Sequence[int] | None, count: int
) -> Tensor:
    """How far a network is believed where it is sure, ``[count]`` in [0, 1].

    A class is believed as often as it was right on labelled voxels: not at all at 90 %, fully at
    100 %. Of classes that nobody looked for nothing better is known, so they are believed.

    Args:
        start: its logits on labelled voxels, ``[K, N]``.
        target: their labels, ``[N]``.
        classes: that were looked for, or None for all.
        count: of classes, background included.
    """
    said, sure = _said(start)
    trust = torch.ones(count)
    for value in range(count):
        if classes is not None and value and value not in classes:
            continue
        here = sure & (said == value)
        right = float((target[here] == value).sum()) + _BELIEVED_RIGHT
        share = right / (float(here.sum()) + _BELIEVED)
        trust[value] = min(max((share - 0.9) / 0.1, 0.0), 1.0)
    return trust


def sure_voxels(start: Tensor) -> tuple[Tensor, Tensor]:
    """Where a network is sure, bool ``[N]``, and what it says, ``[N]``, of logits ``[K, N]``."""
    said, sure = _said(start)
    return sure, said


def _said(start: Tensor) -> tuple[Tensor, Tensor]:
    found = probability(start[None].float())[0]
    if len(found) == 1:
        return (found[0] > 0.5).long(), (found[0] - 0.5).abs() > _SURE - 0.5
    most, said = found.max(0)
    return said, most > _SURE


class _Draw:
    """Draws labelled voxels, foreground as often as it must be to be learned, and their weights."""

    def __init__(self, target: Tensor, generator: torch.Generator, balanced: bool) -> None:
        self._generator, self._balanced = generator, balanced
        present = [int(v) for v in torch.unique(target)]
        self._places = [torch.nonzero(target == value)[:, 0] for value in present]
        foreground = max(1, sum(value > 0 for value in present))
        self._counts = [
            _DRAWN_FOREGROUND // foreground if value else _DRAWN_BACKGROUND for value in present
        ]

    def __call__(self) -> tuple[Tensor, Tensor]:
        drawn, weights = [], []
        for places, count in zip(self._places, self._counts, strict=True):
            if len(places) <= count:
                which, stands_for = places, 1.0
            else:
                at = torch.randint(len(places), (count,), generator=self._generator)
                which, stands_for = places[at], len(places) / count
            if self._balanced:
                stands_for = 1 / max(1, len(which))
            drawn.append(which)
            weights.append(torch.full((len(which),), stands_for))
        return torch.cat(drawn), torch.cat(weights)


def thinned(target: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Some of the labelled voxels where there are very many, the rare classes all; indices."""
    if len(target) <= _MOST_ROWS:
        return np.arange(len(target))
    counts = np.bincount(target, minlength=1)
    share = np.minimum(1.0, _MOST_ROWS / np.maximum(counts, 1) / max(1, (counts > 0).sum()))
    return np.flatnonzero(rng.random(len(target)) < share[target])
