"""Which way of learning from unlabelled images a recipe asks for."""

from __future__ import annotations

from torch import nn

from imbalanceseg.planning.plan import Plan
from imbalanceseg.training.action import ActionLearning
from imbalanceseg.training.build import class_count
from imbalanceseg.training.mean_teacher import MeanTeacherLearning
from imbalanceseg.training.pruned_agreement import PrunedAgreementLearning
from imbalanceseg.training.recipe import MeanTeacher, PrunedAgreement, Recipe
from imbalanceseg.training.unlabelled import UnlabelledLearning


def learning_of(recipe: Recipe, network: nn.Module, plan: Plan) -> UnlabelledLearning | None:
    """Built for a network, on its device; None where the recipe has no unlabelled images.

    Args:
        recipe: see :class:`~imbalanceseg.training.recipe.Recipe`.
        network: the student.
        plan: of the dataset.

    Raises:
        ModelError: the network is not made for it.
    """
    way = recipe.unlabelled
    if way is None:
        return None
    learning: UnlabelledLearning
    if isinstance(way, MeanTeacher):
        learning = MeanTeacherLearning(network, way)
    elif isinstance(way, PrunedAgreement):
        learning = PrunedAgreementLearning(network, way)
    else:
        channels, axes = len(plan.channel_names), len(plan.patch)
        learning = ActionLearning(network, way, channels, class_count(plan), axes)
    return learning.to(next(network.parameters()).device)
