"""Training that begins with a model's weights: its network, resolution and intensities go along."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from imbalanceseg.errors import InputError
from imbalanceseg.networks import network_class
from imbalanceseg.planning.plan import Plan, with_normalization
from imbalanceseg.training.build import class_count
from imbalanceseg.training.recipe import NetworkChoice, Recipe, Supervision

if TYPE_CHECKING:
    from torch import nn

    from imbalanceseg.models.bundle import Model
    from imbalanceseg.models.card import ModelCard, NetworkSpec

_DECIDED_ELSEWHERE = {"in_channels", "out_channels", "deep_supervision"}
_PLAIN = Supervision()


def recipe_of_model(recipe: Recipe, model: Model) -> Recipe:
    """A recipe with the network and the resolution of a model.

    What a recipe supervises beside the output is left out where the network has no such outputs.
    """
    card = model.card
    settings = {k: v for k, v in card.network.kwargs.items() if k not in _DECIDED_ELSEWHERE}
    spacing = None
    if card.spacing_mm is not None:
        spacing = tuple(card.spacing_mm[::-1][axis] for axis in card.axes)
    fits = _has_outputs_for(card.network, recipe.supervision)
    return recipe.model_copy(
        update={
            "network": NetworkChoice(name=card.network.name, settings=settings),
            "spacing_mm": spacing,
            "intensity_range": None,
            "supervision": recipe.supervision if fits else _PLAIN,
        }
    )


def plan_for_model(plan: Plan, model: Model) -> Plan:
    """A plan with the intensities of a model.

    Raises:
        InputError: ``start-differs``: the model takes other channels, has other classes, or another
            number of axes.
    """
    card = model.card
    pairs = {
        "channels": (len(card.channels), len(plan.channel_names)),
        "classes": (len(card.segments), class_count(plan)),
        "axes": (len(card.tile_voxels), len(plan.patch)),
    }
    for what, (of_model, of_dataset) in pairs.items():
        if of_model != of_dataset:
            raise InputError(
                "start-differs",
                f"The model {card.name} and the dataset differ in the number of {what}: "
                f"{of_model} and {of_dataset}.",
                "Start from a model of the same kind, or leave out --start-from.",
            )
    scaled = tuple(channel.normalization for channel in card.channels)
    return with_normalization(plan, scaled, f"As the model {card.name} has them.")


def begin_with(network: nn.Module, model: Model) -> None:
    """Give a network the weights of a model; what only training needs keeps its random ones.

    Args:
        network: of a recipe as :func:`recipe_of_model` makes it.
        model: with one network, or several, of which the first is taken.

    Raises:
        ModelError: the weights are damaged.
    """
    network.load_state_dict(network.state_dict() | model.networks[0].state_dict())


def card_with_origin(card: ModelCard, model: Model) -> ModelCard:
    """A trained model's card that tells what its training began with, and what that had seen."""
    origin = model.card
    begun = f" Training began with the weights of {origin.name} {origin.version}."
    return card.model_copy(
        update={
            "description": card.description + begun,
            "training_data": (*card.training_data, *origin.training_data),
        }
    )


def _has_outputs_for(spec: NetworkSpec, supervision: Supervision) -> bool:
    if supervision.kind == "deep":
        return "deep_supervision" in inspect.signature(network_class(spec.name)).parameters
    if supervision.kind == "group":
        return spec.name == "wingsnet"
    if supervision.kind == "attention":
        return spec.name == "unet2d5" and bool(spec.kwargs.get("attention", True))
    return True
