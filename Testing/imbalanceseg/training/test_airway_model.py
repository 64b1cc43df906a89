from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from imbalanceseg.models.bundle import load_model
from imbalanceseg.networks.wingsnet import WingsNet
from imbalanceseg.training import airway_model
from imbalanceseg.training.airway import read_recipe
from imbalanceseg.training.airway_model import ThresholdScore, airway_card, best_sparsity


@pytest.fixture
def network() -> WingsNet:
    torch.manual_seed(3)
    return WingsNet().eval()


def test_the_balance_of_a_threshold_weighs_finding_and_leaking_alike():
    assert ThresholdScore(0.5, 1.0, 1.0, 0.0, 0.0).balance == pytest.approx(0.5)
    assert ThresholdScore(0.5, 0.0, 0.0, 1.0, 1.0).balance == pytest.approx(0.5)
    assert ThresholdScore(0.5, 0.8, 0.6, 0.9, 0.7).balance == pytest.approx(0.75)


def test_the_chosen_sparsity_ranks_errors_at_least_as_well_as_the_others(network, monkeypatch):
    monkeypatch.setattr(airway_model, "_SPARSITIES", (0.3, 0.9))
    generator = torch.Generator().manual_seed(1)
    image = torch.rand((1, 1, 32, 32, 32), generator=generator)
    label = torch.zeros_like(image)
    label[..., 8:20, 8:20, 8:20] = 1
    dense = airway_model.probabilities(network, [(image, label)])
    threshold = float(dense[0].median())
    chosen, area = best_sparsity(network, [(image, label)], dense, threshold)
    monkeypatch.setattr(airway_model, "_SPARSITIES", (0.3,))
    assert area >= best_sparsity(network, [(image, label)], dense, threshold)[1]
    assert chosen in (0.3, 0.9)
    assert 0 <= area <= 1


def test_the_card_names_every_chest_that_was_trained_on_and_no_other():
    recipe = read_recipe()
    card = airway_card(recipe, 0.4, 0.6, {"somewhere": {"dice": 0.5}}, tile_invariant=False)
    real, grown = card.training_data
    assert real.cases == len(recipe.patients)
    assert grown.note == f"Seeds {', '.join(map(str, recipe.grown_seeds))}."
    assert (card.threshold, card.hardness.sparsity) == (0.4, 0.6)
    assert card.metrics == {"somewhere": {"dice": 0.5}}


@pytest.mark.slow
def test_weights_become_a_bundle_with_settings_chosen_on_validation(
    network, anatomies, tiny_recipe, tmp_path, monkeypatch
):
    monkeypatch.setattr(airway_model, "read_recipe", lambda: tiny_recipe)
    monkeypatch.setattr(airway_model, "_THRESHOLDS", (0.01, 0.999))
    monkeypatch.setattr(airway_model, "_SPARSITIES", (0.5,))
    weights, metrics = tmp_path / "airway.safetensors", tmp_path / "metrics.json"
    save_file({k: v.half().contiguous() for k, v in network.state_dict().items()}, weights)
    metrics.write_text(json.dumps({"a scan": {"dice": 0.25}}))
    airway_model.choose(weights, tmp_path / "bundle", anatomies)
    chosen = load_model(tmp_path / "bundle")
    airway_model.record(tmp_path / "bundle", metrics)
    model = load_model(tmp_path / "bundle")
    model.verify()
    assert model.card.weights == chosen.card.weights
    assert (model.card.threshold, model.card.hardness) == (
        chosen.card.threshold,
        chosen.card.hardness,
    )
    assert model.card.threshold in (0.01, 0.999)
    assert model.card.metrics["a scan"] == {"dice": 0.25}
    measured = model.card.metrics["validation chests (synthetic)"]
    assert set(measured) == {"tree_length_detected", "branches_detected", "precision", "dice"}
    assert 0 <= model.card.metrics["validation patches"]["hardness_auroc"] <= 1
