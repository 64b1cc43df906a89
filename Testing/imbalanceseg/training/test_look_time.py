"""A network that is too slow for the time that is given looks coarser."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from imbalanceseg.inference.segment import segment
from imbalanceseg.models.bundle import load_model
from imbalanceseg.models.write import write_bundle
from imbalanceseg.training import look_time
from imbalanceseg.training.finetune import finetune
from imbalanceseg.training.look_time import look_factor

from . import painted as phantoms


def patient(*spacing_mm):
    return SimpleNamespace(spacing_mm=spacing_mm)


class TestFactor:
    def test_a_fast_network_sees_every_voxel(self):
        assert look_factor(patient(1, 1, 1), 10, 120) == (1, 1, 1)

    def test_the_finest_axes_are_pooled_first(self):
        assert look_factor(patient(5, 0.8, 0.8), 100, 120) == (1, 2, 2)

    def test_no_more_than_four(self):
        assert look_factor(patient(1, 1, 1), 1e9, 1) == (4, 4, 4)

    @given(st.floats(0, 1e6), st.floats(1, 1e4), st.floats(0.2, 8), st.floats(0.2, 8))
    def test_more_time_never_means_coarser(self, seconds, budget, thick, fine):
        one, more = (
            np.prod(look_factor(patient(thick, fine, fine), seconds, b))
            for b in (budget, 2 * budget)
        )
        assert more <= one


@pytest.fixture(scope="module")
def coarse(tmp_path_factory, make_card):
    """An adaptation whose network is said to need an hour."""
    scan, truth = phantoms.phantom()
    card = make_card(name="dark-things", **phantoms.CARD)
    folder = tmp_path_factory.mktemp("parent") / "model"
    parent = write_bundle(folder, phantoms.dark_network(), card)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(look_time, "seconds_to_look", lambda *_: 300.0)
        said = []
        tuned = finetune(
            scan, phantoms.painted(truth), parent, depth="head", seconds=600.0, iterations=60,
            device="cpu", memory_gb=2.0, progress=said.append,
        )  # fmt: skip
    return scan, truth, tuned, said


class TestAdaptation:
    def test_it_says_so_while_it_runs_and_in_the_card(self, coarse):
        *_, tuned, said = coarse
        assert any("2 x 2 x 2 voxels as one" in event.message for event in said)
        assert any("2 x 2 x 2 voxels as one" in text for text in tuned.model.card.limitations)

    def test_it_learns_all_the_same(self, coarse):
        scan, truth, tuned, _ = coarse
        found = tuned.segmentation.labels
        assert phantoms.dice_elsewhere(found, truth, phantoms.painted(truth)) > 0.8
        assert found.GetOrigin() == scan.GetOrigin()

    def test_the_child_is_a_bundle_that_says_the_same(self, coarse, tmp_path, rounding):
        scan, _, tuned, _ = coarse
        tuned.save(tmp_path / "child")
        again = segment(scan, load_model(tmp_path / "child"), device="cpu", maps=()).labels
        same = sitk.GetArrayFromImage(again) == sitk.GetArrayFromImage(tuned.segmentation.labels)
        assert same.mean() > 1 - max(0.005, rounding / 3)
