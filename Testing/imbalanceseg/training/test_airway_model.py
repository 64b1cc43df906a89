from __future__ import annotations

import pytest
import torch

from imbalanceseg.labels import AIRWAY_TREE
from imbalanceseg.models.card import ModelCard
from imbalanceseg.models.write import write_bundle
from imbalanceseg.networks.wingsnet import WingsNet
from imbalanceseg.synthesis.airway import ct_over
from imbalanceseg.training import airway_model
from imbalanceseg.training.airway_model import (
    ThresholdScore,
    airway_card,
    best_sparsity,
    shipped_card,
)


@pytest.fixture
def network() -> WingsNet:
    torch.manual_seed(3)
    return WingsNet().eval()


@pytest.fixture
def trained(make_card) -> ModelCard:
    """The card that a training of one CT channel writes."""
    return make_card(name="made", spacing_mm=(1.0, 1.0, 1.0))


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


def test_how_it_is_fed_stays_and_its_words_are_its_own(trained):
    cases = {"pieces of grown chests": 2, "pieces of real anatomy": 1}
    card = shipped_card(trained, "Trained for 5 steps.", cases)
    assert ModelCard.model_validate(card.model_dump()) == card
    assert (card.name, card.modality, card.segments) == ("airway", "CT", (AIRWAY_TREE,))
    assert card.spacing_mm == trained.spacing_mm
    assert card.channels[0].normalization == trained.channels[0].normalization
    assert (card.channels[0].name, card.channels[0].unit) == ("CT", "HU")
    assert card.limitations[0] == (
        "Trained for 5 steps. Cases learned from: 2 pieces of grown chests, "
        "1 pieces of real anatomy."
    )
    assert card.not_for_clinical_use


@pytest.mark.slow
def test_settings_are_chosen_on_validation(trained, network, small_chest, tmp_path, monkeypatch):
    monkeypatch.setattr(airway_model, "_THRESHOLDS", (0.01, 0.999))
    monkeypatch.setattr(airway_model, "_SPARSITIES", (0.5,))

    card = airway_card(
        write_bundle(tmp_path / "model", network, trained),
        "Trained for 5 steps.",
        {},
        [ct_over(small_chest, 1)],
        [small_chest],
    )
    assert card.threshold in (0.01, 0.999)
    assert card.hardness.sparsity == 0.5
    measured = card.metrics["validation chests (synthetic)"]
    assert set(measured) == {"tree_length_detected", "branches_detected", "precision", "dice"}
    pieces = card.metrics["validation pieces (synthetic)"]
    assert 0 <= pieces["pruning_hardness_auroc"] <= 1
