"""Learn from unlabelled images where a weakened copy of the teacher agrees with it.

Source: after Jaiswal et al., "Attend Who is Weak", WACV 2023, semi-supervised setting; the rule is
ours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from imbalanceseg.inference.pruning import pruned_copy
from imbalanceseg.training.recipe import PrunedAgreement
from imbalanceseg.training.unlabelled import (
    Step,
    UnlabelledLearning,
    class_logits,
    class_probabilities,
    finest,
)


class PrunedAgreementLearning(UnlabelledLearning):
    """Pseudo-labels of what teacher and weakened teacher both are sure of.

    Images count the more the harder their case was found, where the recipe attends to hard samples.

    Args:
        network: the student.
        settings: see :class:`~imbalanceseg.training.recipe.PrunedAgreement`.
    """

    looks: Tensor

    def __init__(self, network: nn.Module, settings: PrunedAgreement) -> None:
        super().__init__(network, settings.decay)
        self.settings = settings
        self.weakened: nn.Module = pruned_copy(self.teacher, settings.sparsity)
        self.weakened.requires_grad_(False)
        self.register_buffer("looks", torch.zeros((), dtype=torch.int64))

    def loss(self, network: nn.Module, step: Step) -> Tensor:
        """Supervised loss, and cross entropy on the voxels that both are sure of."""
        settings = self.settings
        self._refresh(step.share)
        with step.precision():
            labelled = network(step.batch.image)
        total = step.supervised(labelled, step.batch)
        if step.share < settings.after:
            return total
        with step.precision():
            student = finest(network(step.pair.strong))
            with torch.no_grad():
                both = [finest(one(step.pair.weak)) for one in (self.teacher, self.weakened)]
        (sure, says), (sure_too, says_too) = (class_probabilities(x).max(1) for x in both)
        trusted = (says == says_too) & (torch.minimum(sure, sure_too) > settings.sure)
        each = cross_entropy(class_logits(student), says, reduction="none") * trusted
        of_image = each.flatten(1).sum(1) / trusted.flatten(1).sum(1).clamp(min=1)
        if step.pair.importance is not None:
            of_image = of_image * step.pair.importance
        return total + settings.weight * of_image.mean()

    def _refresh(self, share: float) -> None:
        if share >= int(self.looks) * self.settings.every:
            pruned = pruned_copy(self.teacher, self.settings.sparsity)
            self.weakened.load_state_dict(pruned.state_dict())
            self.looks.fill_(int(share / self.settings.every) + 1)

    def train(self, mode: bool = True) -> PrunedAgreementLearning:
        """Teacher and copy stay in evaluation mode."""
        super().train(mode)
        self.weakened.eval()
        return self
