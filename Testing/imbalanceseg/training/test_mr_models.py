"""The cards of models that are trained on made cases."""

import pytest

from imbalanceseg.labels import STANDARD_SEGMENTS
from imbalanceseg.models.card import ModelCard
from imbalanceseg.training.mr_models import shipped_card


@pytest.mark.parametrize("task", ["lesion", "tumor"])
def test_how_it_is_fed_stays_and_its_words_are_its_own(make_card, task):
    trained = make_card(name="made", spacing_mm=(1.1, 1.2, 1.3))
    card = shipped_card(task, trained, "Trained for 5 steps.", {"phantoms": 2, "scans": 3})
    assert ModelCard.model_validate(card.model_dump()) == card
    assert (card.name, card.modality) == (task, "MR")
    assert card.spacing_mm == trained.spacing_mm
    assert card.channels == trained.channels
    assert card.segments == (STANDARD_SEGMENTS[task],)
    assert card.limitations[0] == "Trained for 5 steps. Cases learned from: 2 phantoms, 3 scans."
    assert any("Never tested" in text for text in card.limitations)
    assert card.not_for_clinical_use
