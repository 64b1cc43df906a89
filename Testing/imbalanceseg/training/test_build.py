"""A training says what it really does, also where the recipe overrules the plan."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from imbalanceseg.errors import InputError
from imbalanceseg.planning.dataset import open_dataset
from imbalanceseg.planning.fingerprint import fingerprint
from imbalanceseg.planning.plan import Plan, decisions, make_plan, with_patch
from imbalanceseg.training.build import build_network, training_decisions
from imbalanceseg.training.recipe import Recipe

ASKED = "The recipe asks for it."


@pytest.fixture(scope="module")
def plan(balls: Path) -> Plan:
    dataset = open_dataset(balls)
    return make_plan(dataset, fingerprint(dataset))


def test_a_recipe_that_asks_for_nothing_leaves_the_plan(plan: Plan) -> None:
    found = training_decisions(plan, Recipe(), plan.patch)
    assert [row[:2] for row in found] == list(decisions(plan).items())
    assert [row[2] for row in found] == [plan.reasons[row[0]] for row in found]


def test_what_a_recipe_overrules_is_told(plan: Plan) -> None:
    recipe = Recipe.model_validate(
        {
            "network": {"name": "vnet"},
            "loss": {"name": "weighted_ce", "weight": "local_imbalance"},
            "sampling": {"hard_skeleton": 0.25},
            "patch": (32, 32, 32),
            "batch": 7,
        }
    )
    found = {name: (value, why) for name, value, why in training_decisions(plan, recipe, (32,) * 3)}
    assert found["network"] == ("vnet", ASKED)
    assert found["loss"] == ("weighted_ce, local imbalance weight", ASKED)
    assert found["sampling"] == ("25% hard skeleton", ASKED)
    assert found["patch"] == ("32 x 32 x 32 voxels", ASKED)
    assert found["batch"] == ("7", ASKED)
    assert found["spacing"] == (decisions(plan)["spacing"], plan.reasons["spacing"])


def test_a_patch_that_the_network_enlarges_is_not_the_recipes(plan: Plan) -> None:
    larger = tuple(n + 16 for n in plan.patch)
    found = {row[0]: row[2] for row in training_decisions(plan, Recipe(), larger)}
    assert "poolings" in found["patch"]


@pytest.mark.parametrize("name", ["plan", "unet3d", "unet2d5", "vnet"])
def test_a_network_begins_with_the_prior(plan: Plan, name: str) -> None:
    """Without image and with zero weights, all that is left is the bias."""
    recipe = Recipe.model_validate({"network": {"name": name, "prior": 0.01}})
    network = build_network(plan, recipe, 0).eval()
    for parameter in network.parameters():
        if parameter.ndim > 1:
            parameter.data.zero_()
    logits = network(torch.zeros(1, 1, *(2 * m for m in network.multiples())))
    assert torch.allclose(torch.sigmoid(logits), torch.tensor(0.01), atol=1e-5)


def test_a_prior_is_shared_by_several_classes(plan: Plan) -> None:
    recipe = Recipe.model_validate({"network": {"name": "unet3d", "prior": 0.1}})
    two = plan.model_copy(update={"labels": {0: "background", 1: "a", 2: "b"}})
    bias = build_network(two, recipe, 0).head.bias
    assert torch.allclose(torch.softmax(bias, 0), torch.tensor([0.9, 0.05, 0.05]), atol=1e-5)


def test_a_network_without_such_a_bias_says_so(plan: Plan) -> None:
    recipe = Recipe.model_validate({"network": {"name": "wingsnet", "prior": 0.1}})
    with pytest.raises(InputError) as caught:
        build_network(plan, recipe, 0)
    assert caught.value.code == "recipe-prior"


def test_a_narrow_network_is_told_of(plan: Plan) -> None:
    recipe = Recipe.model_validate({"network": {"width": 0.5}})
    found = {row[0]: row[2] for row in training_decisions(plan, recipe, plan.patch)}
    assert found["network"] == f"{plan.reasons['network']} The recipe makes it 0.5 times as wide."


def test_the_reason_of_a_network_follows_its_patch(plan: Plan) -> None:
    small = with_patch(plan, (8, 8, 8))
    assert small.reasons["network"] != plan.reasons["network"]
    assert small.reasons["network"].startswith("Axes are halved 1, 1, 1 times")
