"""The cards of models that are trained on made cases."""

import numpy as np
import pytest
import SimpleITK as sitk

from imbalanceseg.labels import STANDARD_SEGMENTS
from imbalanceseg.models.card import ModelCard
from imbalanceseg.training.mr_models import Cut, cut_scores, shipped_card


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


class Found:
    """Where a model that was asked found something."""

    def __init__(self, probability):
        self.probability = probability


def test_specks_and_doubt_are_cut_off_where_that_is_better(make_card, monkeypatch):
    pytest.importorskip("panoptica")
    true, said = np.zeros((12, 12, 12), np.uint8), np.zeros((12, 12, 12), np.float32)
    true[2:5, 2:5, 2:5], said[2:5, 2:5, 2:5] = 1, 0.97
    said[8:10, 8:10, 8], said[2, 2, 8:11] = 0.97, 0.75
    image, reference = sitk.GetImageFromArray(said), sitk.GetImageFromArray(true)
    monkeypatch.setattr(
        "imbalanceseg.training.mr_models.segment", lambda *a, **k: Found(sitk.Cast(image, 8))
    )

    class Model:
        card = make_card()

    scores = cut_scores(Model, [(image, reference)])
    # the doubtful line goes with the threshold, the speck of four voxels with its size
    assert scores[0.5, None, 10.0] == scores[0.9, None, 10.0] == 1.0
    assert scores[0.5, None, 0.0] < scores[0.9, None, 0.0] == scores[0.9, None, 3.0] < 1.0
    # it goes too where no voxel of it is certain
    assert scores[0.5, 0.8, 0.0] == scores[0.9, None, 0.0]
    assert scores[0.98, None, 0.0] == 0.0


def test_a_card_is_cut_as_asked(make_card):
    card = Cut(0.3, 0.9, 10.0).of(make_card())
    assert ModelCard.model_validate(card.model_dump()) == card
    assert (card.threshold, card.high_threshold, card.smallest_mm3) == (0.3, 0.9, 10.0)
    assert card.connectivity == 26
