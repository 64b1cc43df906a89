"""What a plan and a recipe together ask for: network, loss, patch, batch, optimiser."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from imbalanceseg.networks import create_network
from imbalanceseg.planning.plan import Plan
from imbalanceseg.training.recipe import LossChoice, OptimizerChoice, Recipe


def network_arguments(plan: Plan, recipe: Recipe) -> tuple[str, dict[str, Any]]:
    """Name and arguments for ``create_network``.

    One class has one channel of logits, read with a sigmoid; several have one each beside
    background's, unless the recipe's settings say otherwise.
    """
    classes = class_count(plan)
    numbers: dict[str, Any] = {
        "in_channels": len(plan.channel_names),
        "out_channels": 1 if classes == 1 else classes + 1,
    }
    name = recipe.network.name
    shape: dict[str, Any] = {}
    if name == "plan":
        name = plan.network
        features = [max(8, 8 * round(recipe.network.width * n / 8)) for n in plan.features]
        shape = {"kernels": plan.kernels, "strides": plan.strides, "features": features}
    if recipe.supervision.kind == "deep":
        shape = shape | {"deep_supervision": True}
    return name, numbers | shape | recipe.network.settings


def class_count(plan: Plan) -> int:
    """Foreground classes."""
    return len({0, *plan.labels}) - 1


def build_network(plan: Plan, recipe: Recipe, seed: int) -> nn.Module:
    """A network with random weights; the same for the same seed."""
    name, arguments = network_arguments(plan, recipe)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return create_network(name, **arguments)


def chosen_loss(plan: Plan, recipe: Recipe) -> LossChoice:
    """The recipe's loss, or the plan's."""
    if recipe.loss.name != "plan":
        return recipe.loss
    weight = plan.loss_weight if recipe.loss.weight == "none" else recipe.loss.weight
    return LossChoice(name=plan.loss, weight=weight)


def training_patch(plan: Plan, recipe: Recipe, network: nn.Module) -> tuple[int, ...]:
    """Voxels of a patch, enlarged to what the network's poolings divide."""
    # The plan's network is planned for the recipe's patch, where there is one.
    wanted = plan.patch if recipe.network.name == "plan" else recipe.patch or plan.patch
    multiples: tuple[int, ...] = network.multiples()  # type: ignore[operator]
    return tuple(-(-n // m) * m for n, m in zip(wanted, multiples, strict=True))


def build_optimizer(network: nn.Module, choice: OptimizerChoice) -> torch.optim.Optimizer:
    """The optimiser of a recipe."""
    parameters, rate, decay = network.parameters(), choice.learning_rate, choice.weight_decay
    if choice.name == "sgd":
        return torch.optim.SGD(
            parameters,
            rate,
            momentum=choice.momentum,
            weight_decay=decay,
            nesterov=choice.momentum > 0,
        )
    if choice.name == "adam":
        return torch.optim.Adam(parameters, rate, weight_decay=decay)
    return torch.optim.AdamW(parameters, rate, weight_decay=decay)
