"""What a plan and a recipe together ask for: network, loss, patch, batch, optimiser."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from imbalanceseg.errors import InputError
from imbalanceseg.networks import create_network
from imbalanceseg.planning.plan import (
    Plan,
    decisions,
    shown_loss,
    shown_patch,
    shown_sampling,
)
from imbalanceseg.training.decision_line import output_biases
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
    """A network with random weights; the same for the same seed.

    Raises:
        InputError: ``recipe-prior``: the network has no bias to set it by.
    """
    name, arguments = network_arguments(plan, recipe)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = create_network(name, **arguments)
    if recipe.network.prior != 0.5:
        _expect(network, recipe.network.prior)
    return network


@torch.no_grad()
def _expect(network: nn.Module, prior: float) -> None:
    """Let a network begin with a probability of foreground (Lin et al., ICCV 2017, section 3.3)."""
    biases = output_biases(network)
    if not biases:
        raise InputError(
            "recipe-prior",
            f"{type(network).__name__} cannot begin with a prior.",
            "Leave network.prior out of the recipe, or choose another network.",
        )
    for bias in biases:
        classes = max(1, len(bias) - 1)
        bias.fill_(math.log(prior / classes / (1 - prior)))
        if len(bias) > 1:
            bias[0] = 0


def chosen_loss(plan: Plan, recipe: Recipe) -> LossChoice:
    """The recipe's loss, or the plan's."""
    if recipe.loss.name != "plan":
        return recipe.loss
    weight = plan.loss_weight if recipe.loss.weight == "none" else recipe.loss.weight
    return LossChoice(name=plan.loss, weight=weight)


def training_decisions(
    plan: Plan, recipe: Recipe, patch: Sequence[int]
) -> list[tuple[str, str, str]]:
    """What is trained with, for people: decision, value, and why the plan or the recipe wants it.

    Args:
        plan: of the dataset.
        recipe: overrules it.
        patch: see :func:`training_patch`.
    """
    asked = "The recipe asks for it."
    network, loss = recipe.network, chosen_loss(plan, recipe)
    found = {name: (value, plan.reasons[name]) for name, value in decisions(plan).items()}
    if network.name != "plan":
        found["network"] = network.name, asked
    elif network.width != 1:
        value, why = found["network"]
        found["network"] = value, f"{why} The recipe makes it {network.width:g} times as wide."
    if tuple(patch) != plan.patch:
        enlarged = "Enlarged to what the network's poolings divide."
        found["patch"] = shown_patch(patch), asked if recipe.patch else enlarged
    if recipe.batch:
        found["batch"] = str(recipe.batch), asked
    if (loss.name, loss.weight) != (plan.loss, plan.loss_weight):
        found["loss"] = shown_loss(loss.name, loss.weight), asked
    if recipe.sampling:
        found["sampling"] = shown_sampling(recipe.sampling), asked
    return [(name, *rest) for name, rest in found.items()]


def training_patch(plan: Plan, recipe: Recipe, network: nn.Module) -> tuple[int, ...]:
    """Voxels of a patch, enlarged to what the network's poolings divide."""
    # The plan's network is planned for the recipe's patch, where there is one.
    wanted = plan.patch if recipe.network.name == "plan" else recipe.patch or plan.patch
    multiples: tuple[int, ...] = network.multiples()  # type: ignore[operator]
    return tuple(-(-n // m) * m for n, m in zip(wanted, multiples, strict=True))


def build_optimizer(
    network: nn.Module, choice: OptimizerChoice, beside: nn.Module | None = None
) -> torch.optim.Optimizer:
    """The optimiser of a recipe, for a network and what is trained beside it."""
    modules = [network] if beside is None else [network, beside]
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    rate, decay = choice.learning_rate, choice.weight_decay
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
