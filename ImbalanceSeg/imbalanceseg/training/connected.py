"""What is connected to the painted voxels: evidence that a classifier of voxels does not have.

A head judges every voxel by its surroundings. Region growing asks instead from which painted voxels
intensity changes least on the way there (GrowCut: Vezhnevets and Konouchine, GraphiCon 2005; Zhu et
al., 2014). Here both count, as independent evidence, as in GeoS (Criminisi, Sharp and Blake, ECCV
2008). It is evidence about this scan with these slices, so the child does not learn it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from imbalanceseg.annotation.annotation import Annotation
from imbalanceseg.labels import UNLABELLED
from imbalanceseg.training.finetune_clock import TimeBudget
from imbalanceseg.training.geodesic import PASSES, geodesic_distances
from imbalanceseg.training.patient import Patient

_PER_MM = 0.003
"""In standard deviations of the intensity, as all that follows: only where nothing changes does
the way itself count."""
_NOISE = 0.05
"""Distances below say nothing."""
_MOST_LOGIT, _WEIGHT = 3.0, 4.0
"""On seven development scans any cap from 2 to 5 with a weight from 1 to 8 was better than the head
alone. With these, a piece that no slice shows stays where the head is sure of it: its edge has to
be crossed once from background and twice from painted foreground, and ``4 log 2 < 3``."""
_MOST_RATIO = 4.0
_LEAST_SLICES = 2
_MOST_SHARE = 0.25
_PROBE = 40


class Connection:
    """Counts what is connected: of a start from nothing, where enough is painted and time is left.

    Enough are two confirmed slices in which all classes were looked for.

    Args:
        patient: the scan.
        labels: uint8 on the working grid, 255 unlabelled.
        annotation: that they come from.
        budget: of time, which learns what it is going to cost.
    """

    def __init__(
        self, patient: Patient, labels: Tensor, annotation: Annotation, budget: TimeBudget
    ) -> None:
        self._patient, self._labels, self._budget = patient, labels, budget
        few = len(annotation.confirmed) < _LEAST_SLICES
        # A network knows what a scan of its kind holds far from all slices. Whether that or the
        # connection is to be believed there, nothing has been measured that says so.
        self._wanted = not few and annotation.classes is None and patient.seen is None
        if self._wanted:
            seconds = connection_seconds(patient.volume[0], labels, patient.spacing_mm)
            # Rounds that would have to be left out for it are worth more.
            self._wanted = seconds <= _MOST_SHARE * budget.left
            budget.note("connect", seconds if self._wanted else 0.0)

    def counted(self, found: Tensor) -> Tensor:
        """What a head says, and what is connected; the former alone where time does not allow.

        Args:
            found: ``[K, ...]`` on the working grid.
        """
        if not self._wanted or not self._budget.allows(self._budget.restoring):
            return found
        patient = self._patient
        with self._budget.timed("connect"):
            return with_connection(found, patient.volume[0], self._labels, patient.spacing_mm)


@torch.inference_mode()
def with_connection(
    found: Tensor, values: Tensor, labels: Tensor, spacing_mm: Sequence[float]
) -> Tensor:
    """Probabilities in which it counts, too, how near every class was painted.

    To the log odds of a class against background, at most 3, four times the log ratio of the
    geodesic distances is added. Classes that were not painted keep their odds.

    Args:
        found: what a head says, ``[K, Z, Y, X]`` in [0, 1]; a single channel is foreground.
        values: the scan, ``[C, Z, Y, X]``.
        labels: uint8 ``[Z, Y, X]``, 255 unlabelled.
        spacing_mm: along Z, Y and X.

    Returns:
        ``[K, Z, Y, X]`` as ``found``; the same tensor where background or foreground is not
        painted at all.
    """
    classes = max(2, len(found))
    painted = [n for n in range(1, classes) if bool((labels == n).any())]
    if not painted or not bool((labels == 0).any()):
        return found
    odds = torch.logit(found, eps=1e-6) if len(found) == 1 else _log_odds(found)
    odds.clamp_(-_MOST_LOGIT, _MOST_LOGIT)
    seeds = torch.stack([labels == n for n in (0, *painted)])
    ways = geodesic_distances(_standardised(values), seeds, spacing_mm, _PER_MM)
    ways.add_(_NOISE).log_()
    for of_class, way in zip(painted, ways[1:], strict=True):
        ratio = (ways[0] - way).clamp_(-_MOST_RATIO, _MOST_RATIO)
        odds[of_class - 1] += _WEIGHT * ratio
    if len(found) == 1:
        return torch.sigmoid(odds)
    return torch.softmax(torch.cat([torch.zeros_like(odds[:1]), odds]), 0)


def connection_seconds(values: Tensor, labels: Tensor, spacing_mm: Sequence[float]) -> float:
    """What :func:`with_connection` will take, by what a small cube takes."""
    cube = tuple(slice(0, _PROBE) for _ in labels.shape)
    part = values[(slice(None), *cube)]
    maps = 1 + len(torch.unique(labels[(labels != UNLABELLED) & (labels > 0)]))
    seeds = torch.zeros((maps, *part.shape[1:]), dtype=torch.bool)
    begun = time.monotonic()
    geodesic_distances(part, seeds, spacing_mm, _PER_MM, passes=1)
    took = time.monotonic() - begun
    return PASSES * took * labels.numel() / part[0].numel()


def _log_odds(found: Tensor) -> Tensor:
    """Of every class but background against it, ``[K - 1, ...]``."""
    logs = found.float().clamp(min=1e-6).log()
    return logs[1:] - logs[:1]


def _standardised(values: Tensor) -> Tensor:
    """Each channel over its standard deviation; one that is the same everywhere says nothing."""
    deviation = values.float().flatten(1).std(1, correction=0).clamp(min=1e-6)
    return values / deviation[:, None, None, None] / len(values)
