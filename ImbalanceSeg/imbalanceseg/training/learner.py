"""The labelled voxels of a patient, as each round of a head sees them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from imbalanceseg.inference.maps import probability
from imbalanceseg.inference.tiling import Tile
from imbalanceseg.labels import UNLABELLED
from imbalanceseg.networks.adapted import PatientHead
from imbalanceseg.training.painted_rows import (
    Lesson,
    Rows,
    logits_of,
    sure_voxels,
    thinned,
    trust_by_class,
)
from imbalanceseg.training.patient import Patient

_KEPT_ROWS = 20_000
_CACHE_SHARE = 0.4
_PAINTED, _KEPT, _HELD_OUT = 1, 2, 3


@dataclass
class _Sight:
    """A tile, and what the first classifier sees of it where that is kept."""

    tile: Tile
    columns: Tensor | None = None


@dataclass
class _Thought:
    """What a head thinks of a tile: the logits of the latest round and of the best one."""

    latest: Tensor | None = None
    best: Tensor | None = None


class Learner:
    """Takes a head through its rounds.

    Args:
        patient: the scan.
        head: that is taught.
        labels: uint8 ``[...]`` on the working grid, 255 unlabelled.
        held_out: the same of a slice that is not learned from but measured on, or None.
        classes: foreground classes that were looked for, or None for all.
        seed: of everything random.
        beside: another learner of the same scan, labels and kind of head, which shares what the
            first classifier sees.
    """

    def __init__(
        self,
        patient: Patient,
        head: PatientHead,
        labels: Tensor,
        held_out: Tensor | None,
        classes: Sequence[int] | None,
        seed: int,
        beside: Learner | None = None,
    ) -> None:
        self._patient, self._head, self._classes = patient, head, classes
        rng = np.random.default_rng(seed)
        spared = (
            torch.zeros(labels.shape, dtype=torch.bool)
            if held_out is None
            else held_out != UNLABELLED
        )
        known = np.flatnonzero(((labels != UNLABELLED) & ~spared).numpy().ravel())
        known = known[thinned(labels.numpy().ravel()[known], rng)]
        wanted = np.zeros(labels.shape, np.uint8)
        wanted.ravel()[self._sure(labels, rng)] = _KEPT
        wanted.ravel()[known] = _PAINTED
        wanted[spared.numpy()] = _HELD_OUT
        shape, self._inside = patient.padded_shape(head)
        self._wanted = torch.zeros(shape, dtype=torch.uint8)
        self._wanted[self._inside] = torch.from_numpy(wanted)
        self._labels = torch.full(shape, UNLABELLED, dtype=torch.uint8)
        self._labels[self._inside] = labels
        if beside is None:
            tiles = patient.tiles(head, self._wanted.numpy() > 0)
            self._sights = [_Sight(tile) for tile in tiles]
        else:
            self._sights = beside._sights
        self._thoughts = [_Thought() for _ in self._sights]
        size = sum(prod(one.tile.sides) for one in self._sights)
        self._share_seen = size / prod(shape)
        self._caching = 4 * head.own_channels * size < _CACHE_SHARE * patient.budget
        self._held: Rows | None = None
        self._look_seconds = self._lesson_seconds = self._advance_seconds = 0.0
        self._lesson_number = 0

    @torch.inference_mode()
    def look(self) -> None:
        """Make what the first classifier sees, where memory allows to keep it."""
        if not self._caching:
            return
        begun = time.monotonic()
        for one in self._sights:
            self._columns(one)
        self._look_seconds = time.monotonic() - begun

    @torch.inference_mode()
    def lesson(self, number: int) -> Lesson:
        """What the classifiers of a round are to learn, with the rounds before it as they are."""
        begun = time.monotonic()
        groups: dict[int, list[Rows]] = {_PAINTED: [], _KEPT: [], _HELD_OUT: []}
        wanted = self._wanted.clone()
        for one, thought in zip(self._sights, self._thoughts, strict=True):
            columns, start = self._columns(one)
            latest = thought.latest
            if number and not self._caching:
                latest = self._head.logits(columns, start, number)
            rows = self._head.with_context(columns, latest)
            mine = torch.zeros(one.tile.sides, dtype=torch.bool)
            mine[_within(one.tile)] = True
            labels = self._labels[one.tile.seen].flatten()
            for kind, found in groups.items():
                here = (wanted[one.tile.seen] == kind) & mine
                at = torch.nonzero(here.flatten())[:, 0]
                first = None if start is None else start[0].flatten(1)[:, at].clone()
                found.append(Rows(rows[0].flatten(1)[:, at].clone(), first, labels[at].long()))
            # A voxel that two tiles keep is taken once.
            wanted[one.tile.kept] = 0
        self._lesson_seconds, self._lesson_number = time.monotonic() - begun, number
        painted, kept, held = (_joined(groups[kind]) for kind in (_PAINTED, _KEPT, _HELD_OUT))
        self._held = held if len(held) else None
        if painted.start is None:
            return Lesson(painted, classes=self._classes)
        assert kept.start is not None
        kept = Rows(kept.columns, kept.start, sure_voxels(kept.start)[1])
        count = max(2, self._head.out_channels)
        trust = trust_by_class(painted.start, painted.target, self._classes, count)
        return Lesson(painted, kept if len(kept) else None, trust, self._classes)

    @torch.inference_mode()
    def advance(self, number: int) -> None:
        """Let a round, now that it is taught, say what it thinks of every tile."""
        if not self._caching:
            return
        begun = time.monotonic()
        for one, thought in zip(self._sights, self._thoughts, strict=True):
            columns, start = self._columns(one)
            thought.latest = self._head.answered(number, columns, thought.latest, start)
        self._advance_seconds = time.monotonic() - begun

    def keep(self) -> None:
        """The latest round is the best so far."""
        for thought in self._thoughts:
            thought.best = thought.latest

    @torch.inference_mode()
    def held_out_dice(self, number: int) -> float | None:
        """Mean Dice of a round on the slice that was held out, None where there is none."""
        rows = self._held
        if rows is None or not bool((rows.target > 0).any()):
            return None
        members = self._head.rounds[number]
        assert isinstance(members, nn.ModuleList)
        logits = torch.stack([logits_of(one, rows) for one in members]).mean(0)
        found = probability(logits[None])[0]
        said = (found[0] > 0.5).long() if len(found) == 1 else found.argmax(0)
        scores = []
        for value in torch.unique(rows.target[rows.target > 0]).tolist():
            p, g = said == value, rows.target == value
            scores.append(2 * float((p & g).sum()) / float(p.sum() + g.sum()))
        return float(np.mean(scores))

    @torch.inference_mode()
    def probabilities(self, rounds: int) -> Tensor:
        """What the first rounds say of the scan, ``[K, ...]``; of those that were kept at once."""
        known = self._thoughts[0].best if self._at_once else None
        if known is None:
            return self._patient.probabilities(self._head.until(rounds))
        return probability(known)[0][(slice(None), *self._inside)].clone()

    def probabilities_seconds(self, rounds: int) -> float:
        """What :meth:`probabilities` will take, by what it took for some of the tiles."""
        if self._at_once:
            return 0.0
        if self._caching:
            seconds = self._look_seconds + rounds * self._advance_seconds
        else:
            seconds = (1 + rounds) * self.longer_seconds
        return seconds / self._share_seen

    @property
    def longer_seconds(self) -> float:
        """By how much each lesson takes longer than the one before.

        Where memory does not allow to keep anything, a lesson looks anew and thinks all earlier
        rounds again; a look takes about as long as a round.
        """
        return 0.0 if self._caching else self._lesson_seconds / (1 + self._lesson_number)

    @property
    def _at_once(self) -> bool:
        """Whether all of the scan is thought of already."""
        whole = tuple(self._wanted.shape)
        return self._caching and len(self._sights) == 1 and self._sights[0].tile.sides == whole

    def _columns(self, one: _Sight) -> tuple[Tensor, Tensor | None]:
        """What the first classifier sees of a tile, and the network's logits there."""
        if one.columns is not None and not self._head.features:
            return one.columns, None
        image, behind = self._patient.patch(self._head, one.tile)
        columns = self._head.columns(image, behind) if one.columns is None else one.columns
        if self._caching:
            one.columns = columns
        return columns, self._head.start(behind)

    def _sure(self, labels: Tensor, rng: np.random.Generator) -> NDArray[np.int64]:
        """Some of the voxels where the network is sure and nobody has said anything."""
        if self._patient.seen is None:
            return np.zeros(0, np.int64)
        sure, said = sure_voxels(self._patient.start_logits())
        free = sure & (labels.flatten() == UNLABELLED)
        count = max(2, self._head.out_channels)
        chosen = []
        for value in range(count):
            places = torch.nonzero(free & (said == value))[:, 0].numpy()
            chosen.append(rng.choice(places, min(len(places), _KEPT_ROWS // count), replace=False))
        return np.concatenate(chosen)


def _within(tile: Tile) -> tuple[slice, ...]:
    """What a tile keeps, in its own voxels."""
    return tuple(
        slice(k.start - s.start, k.stop - s.start)
        for k, s in zip(tile.kept, tile.seen, strict=True)
    )


def _joined(parts: Sequence[Rows]) -> Rows:
    starts = [part.start for part in parts if part.start is not None]
    return Rows(
        torch.cat([part.columns for part in parts], 1),
        torch.cat(starts, 1) if starts else None,
        torch.cat([part.target for part in parts]),
    )
