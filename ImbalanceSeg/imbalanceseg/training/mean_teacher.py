"""Mean teacher: the plain way to learn from images without labels, and what others are held to.

Source: Tarvainen and Valpola, NeurIPS 2017, arXiv 1703.01780.
"""

from __future__ import annotations

from math import exp

import torch
from torch import Tensor, nn

from imbalanceseg.training.recipe import MeanTeacher
from imbalanceseg.training.unlabelled import Step, UnlabelledLearning, class_probabilities, finest


class MeanTeacherLearning(UnlabelledLearning):
    """The student says of a changed image what its teacher says of the image as it is.

    Args:
        network: the student.
        settings: see :class:`~imbalanceseg.training.recipe.MeanTeacher`.
    """

    def __init__(self, network: nn.Module, settings: MeanTeacher) -> None:
        super().__init__(network, settings.decay)
        self.settings = settings

    def loss(self, network: nn.Module, step: Step) -> Tensor:
        """Supervised loss, and the mean squared difference of probabilities."""
        with step.precision():
            labelled = network(step.batch.image)
            student = finest(network(step.pair.strong))
            with torch.no_grad():
                teacher = finest(self.teacher(step.pair.weak))
        gap = (class_probabilities(student) - class_probabilities(teacher)).square()
        each = gap.flatten(1).mean(1)
        if step.pair.importance is not None:
            each = each * step.pair.importance
        return step.supervised(labelled, step.batch) + self.weight(step.share) * each.mean()

    def weight(self, share: float) -> float:
        """Of the difference at a share of the training."""
        ramp = self.settings.ramp
        risen = min(1.0, share / ramp) if ramp else 1.0
        return self.settings.weight * exp(-5 * (1 - risen) ** 2)
