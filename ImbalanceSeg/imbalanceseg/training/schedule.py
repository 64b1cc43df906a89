"""Learning rate and end of a training."""

from __future__ import annotations

import math
from dataclasses import dataclass

from imbalanceseg.training.recipe import OptimizerChoice, Schedule

_SMOOTHING = 0.93
_ENOUGH = 5e-3


@dataclass(frozen=True)
class Budget:
    """How long a training may take; whichever ends first.

    Attributes:
        iterations: steps; None for as many as fit the time.
        seconds: wall time, validation included; None for no limit.
    """

    iterations: int | None
    seconds: float | None

    def share(self, iteration: int, seconds: float) -> float:
        """What is used up, from 0 to 1."""
        by_iterations = iteration / self.iterations if self.iterations else 0.0
        by_time = seconds / self.seconds if self.seconds else 0.0
        return min(1.0, max(by_iterations, by_time))


@dataclass
class Plateau:
    """Whether the smoothed training loss still falls.

    Attributes:
        average: exponential average of the losses between validations.
        best: lowest average that counted as an improvement.
        waited: validations since then.
        factor: of the learning rate so far.
    """

    average: float = math.nan
    best: float = math.inf
    waited: int = 0
    factor: float = 1.0

    def heard(self, loss: float, schedule: Schedule) -> None:
        """Take in the mean loss since the last validation; lower the factor if it is time.

        Source: nnU-Net's first version, Isensee et al., arXiv 1904.08128.
        """
        if math.isnan(self.average):
            self.average = loss
        self.average = _SMOOTHING * self.average + (1 - _SMOOTHING) * loss
        if self.average < self.best - _ENOUGH:
            self.best, self.waited = self.average, 0
            return
        self.waited += 1
        if self.waited >= schedule.patience:
            self.factor *= schedule.factor
            self.waited = 0


def learning_rate(
    optimizer: OptimizerChoice, schedule: Schedule, iteration: int, share: float, plateau: float
) -> float:
    """Learning rate of a step.

    Args:
        optimizer: holds the first learning rate.
        schedule: how it changes.
        iteration: steps taken.
        share: of the budget that is used up.
        plateau: factor of :class:`Plateau`.
    """
    factor = {
        "poly": (1 - share) ** schedule.power,
        "cosine": 0.5 * (1 + math.cos(math.pi * share)),
        "plateau": plateau,
        "steps": schedule.factor ** sum(share >= milestone for milestone in schedule.milestones),
        "constant": 1.0,
    }[schedule.name]
    rise = min(1.0, (iteration + 1) / schedule.warmup) if schedule.warmup else 1.0
    return optimizer.learning_rate * factor * rise
