"""The labelled voxels of a patient, as each round of a head sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
class _Seen:
    """A tile, what the first classifier sees of it where that is kept, and the latest logits."""

    tile: Tile
    image: Tensor
    behind: Tensor | None
    columns: Tensor | None = None
    logits: Tensor | None = None
    kept: Tensor | None = None


class Learner:
    """Takes a head through its rounds.

    Args:
        patient: the scan.
        head: that is taught.
        labels: uint8 ``[...]`` on the working grid, 255 unlabelled.
        held_out: the same of a slice that is not learned from but measured on, or None.
        classes: foreground classes that were looked for, or None for all.
        seed: of everything random.
    """

    def __init__(
        self,
        patient: Patient,
        head: PatientHead,
        labels: Tensor,
        held_out: Tensor | None,
        classes: Sequence[int] | None,
        seed: int,
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
        volume, _, self._inside = patient.padded(head)
        self._wanted = torch.zeros(volume.shape[2:], dtype=torch.uint8)
        self._wanted[self._inside] = torch.from_numpy(wanted)
        self._labels = torch.full(volume.shape[2:], UNLABELLED, dtype=torch.uint8)
        self._labels[self._inside] = labels
        self._seen = [
            _Seen(tile, image, behind)
            for tile, image, behind in patient.patches(
                head, patient.tiles(head, self._wanted.numpy() > 0)
            )
        ]
        size = sum(one.image[0, 0].numel() for one in self._seen)
        self._caching = 4 * head.own_channels * size < _CACHE_SHARE * patient.budget
        self._held: Rows | None = None

    @torch.inference_mode()
    def lesson(self, number: int) -> Lesson:
        """What the classifiers of a round are to learn, with the rounds before it as they are."""
        groups: dict[int, list[Rows]] = {_PAINTED: [], _KEPT: [], _HELD_OUT: []}
        wanted = self._wanted.clone()
        for one in self._seen:
            rows = self._head.with_context(self._columns(one), self._logits(one, number))
            start = self._head.start(one.behind)
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
        for one in self._seen:
            one.logits = self._head.answered(
                number, self._columns(one), one.logits, self._head.start(one.behind)
            )

    def keep(self) -> None:
        """The latest round is the best so far."""
        for one in self._seen:
            one.kept = one.logits

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
        whole = len(self._seen) == 1 and self._seen[0].tile.sides == tuple(self._wanted.shape)
        known = self._seen[0].kept if whole and self._caching else None
        if known is None:
            return self._patient.probabilities(self._head.until(rounds))
        return probability(known)[0][(slice(None), *self._inside)].clone()

    def _columns(self, one: _Seen) -> Tensor:
        if one.columns is not None:
            return one.columns
        columns = self._head.columns(one.image, one.behind)
        if self._caching:
            one.columns = columns
        return columns

    def _logits(self, one: _Seen, rounds: int) -> Tensor | None:
        if not rounds or self._caching:
            return one.logits
        return self._head.logits(self._columns(one), self._head.start(one.behind), rounds)

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
