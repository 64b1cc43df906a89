"""Patches that are painted for their step: from a seed, scaled as cases are, in the share asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from pydantic import ValidationError

from imbalanceseg.errors import InputError
from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.planning.dataset import open_dataset
from imbalanceseg.planning.fingerprint import fingerprint
from imbalanceseg.planning.imbalance import Sampling
from imbalanceseg.planning.plan import Plan, make_plan, with_range
from imbalanceseg.planning.prepare import PreparedCase, prepare
from imbalanceseg.synthesis import airway_cases
from imbalanceseg.synthesis.airway_cases import AirwayHost
from imbalanceseg.synthesis.anatomy import ChestAnatomy
from imbalanceseg.synthesis.tree_growth import grow_chest
from imbalanceseg.training.fresh_patches import FreshPatches
from imbalanceseg.training.patches import PatchSource
from imbalanceseg.training.recipe import Augmentation, Recipe, Synthesis
from imbalanceseg.training.train import start_run, train
from imbalanceseg.training.weight_maps import weigh_cases

SIDE = 24
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def chest() -> ChestAnatomy:
    return grow_chest(1, spacing_mm=1.0, scale=0.4)


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, list[PreparedCase]]:
    """A plan that scales -1000 to 400 HU, and one case in which nothing is an airway's HU."""
    folder = tmp_path_factory.mktemp("set")
    grid = Grid((30, 30, 30), (1.0,) * 3, (0.0,) * 3, tuple(np.eye(3).ravel()))
    label = np.zeros((30,) * 3, np.uint8)
    label[10:20, 12:16, 12:16] = 1
    for part, values in (("images", np.full((30,) * 3, 400, np.int16)), ("labels", label)):
        (folder / part).mkdir()
        sitk.WriteImage(image_from_array(values, grid), str(folder / part / "a.nii.gz"))
    dataset = open_dataset(folder)
    plan = with_range(make_plan(dataset, fingerprint(dataset), 8.0), -1000, 400)
    cases = prepare(dataset, plan, tmp_path_factory.mktemp("prepared"))
    weigh_cases(cases, "centerline", plan.spacing_mm)
    return plan, cases


def fresh(chest: ChestAnatomy, plan: Plan, share: float) -> FreshPatches:
    return FreshPatches([AirwayHost("a", chest)], share, SIDE, plan, CPU)


def source(cases: list[PreparedCase], painted: FreshPatches) -> PatchSource:
    still = Augmentation(**dict.fromkeys(_CHANCES, 0.0))
    sampling = Sampling(foreground=1)
    return PatchSource(
        cases, (SIDE,) * 3, sampling, still, (1.0,) * 3, False, 0, "centerline", painted
    )


_CHANCES = (
    *("rotation", "zoom", "elastic", "noise", "blur", "brightness", "contrast"),
    *("low_resolution", "gamma", "inverted_gamma", "mirror", "histogram"),
)


def test_they_are_scaled_and_labelled_as_cases_are(chest, planned):
    painted = fresh(chest, planned[0], 1.0)
    drawn = [painted.drawn(np.random.default_rng(n)) for n in range(12)]
    for image, label, components, weight in drawn:
        assert image.shape == weight.shape == (1, SIDE, SIDE, SIDE)
        assert label.shape == components.shape == (SIDE,) * 3
        assert image.dtype == weight.dtype == torch.float32
        assert label.dtype == torch.uint8
        for values in (image, weight):
            assert -1e-5 < float(values.min()) <= float(values.max()) < 1 + 1e-5
        assert bool((weight[0][label == 0] > 0.9).float().mean() > 0.8)
    inside = torch.cat([image[0][label > 0] for image, label, *_ in drawn])
    around = torch.cat([image[0][label == 0] for image, label, *_ in drawn])
    assert len(inside) > 500
    assert float(inside.median()) < 0.25 < float(around.mean())


def test_the_same_number_draws_the_same_and_another_another(chest, planned):
    one = source(planned[1], fresh(chest, planned[0], 1.0))
    other = source(planned[1], fresh(chest, planned[0], 1.0))
    first, again, next_one = one.batch(3, 2), other.batch(3, 2), one.batch(4, 2)
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.label, again.label)
    assert not torch.equal(first.image, next_one.image)
    assert not torch.equal(first.image[0], first.image[1])


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_share_that_was_asked_for_is_painted(chest, planned, share):
    batch = source(planned[1], fresh(chest, planned[0], share)).batch(0, 200)
    # The only case is 1 everywhere.
    of_the_case = (batch.image.flatten(1) == 1).all(1).float().mean()
    assert float(of_the_case) == pytest.approx(1 - share, abs=0.1)
    if share in (0.0, 1.0):
        assert float(of_the_case) == 1 - share


def test_cases_that_count_more_leave_painted_patches_alone(chest, planned):
    one = source(planned[1], fresh(chest, planned[0], 0.5))
    one.importances = {planned[1][0].name: 3.0}
    batch = one.batch(0, 40)
    of_the_case = (batch.image.flatten(1) == 1).all(1)
    assert batch.importance is not None
    assert torch.equal(batch.importance, torch.where(of_the_case, 3.0, 1.0))


def test_a_recipe_that_cannot_be_painted_is_refused():
    with pytest.raises(ValidationError, match="only patches of airways"):
        Synthesis(task="lesion", cases=1, validation_cases=1, fresh=0.5)
    asked = Synthesis(task="airway", cases=1, validation_cases=1, fresh=0.5)
    for patch in (None, (32, 32, 16)):
        with pytest.raises(ValidationError, match="sides of one length"):
            Recipe(synthesis=asked, patch=patch)
    with pytest.raises(ValidationError, match="need the weight centerline"):
        Recipe(synthesis=asked, patch=(32,) * 3)


def test_a_training_paints_and_ends_the_same_twice(small_chests, tmp_path):
    weights = []
    for name in ("one", "two"):
        assert train(begun(tmp_path / name, (1.0,) * 3), "cpu") is not None
        weights.append((tmp_path / name / "fold_0" / "best.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_voxels_of_another_size_are_refused(small_chests, tmp_path):
    with pytest.raises(InputError) as refused:
        train(begun(tmp_path / "run", (1.5,) * 3), "cpu")
    assert refused.value.code == "fresh-spacing"


@pytest.fixture
def small_chests(chest, monkeypatch):
    """Chests of 1 mm that need no minutes to grow."""
    placing = airway_cases.Placing()
    monkeypatch.setattr(airway_cases, "chest_library", lambda *_: [chest])
    monkeypatch.setattr(airway_cases, "_GROWN", (1,))
    monkeypatch.setattr(airway_cases, "_VALIDATION", (1,))
    monkeypatch.setattr(airway_cases, "Placing", lambda side=32: replace(placing, side=side))


def begun(folder: Path, spacing_mm: tuple[float, ...]) -> Path:
    """A training of four steps of which most patches are painted."""
    recipe = Recipe.model_validate(
        {
            "synthesis": {"task": "airway", "cases": 1, "validation_cases": 1, "fresh": 0.8},
            "network": {"name": "wingsnet", "settings": {"width": 0.25}},
            "loss": {"name": "general_union", "weight": "centerline"},
            "supervision": {"kind": "group"},
            "spacing_mm": spacing_mm,
            "intensity_range": (-1000, 400),
            "patch": (32,) * 3,
            "batch": 2,
            "validate_every": 4,
            "judge_mirrored": False,
        }
    )
    scans = folder.parent / "scans"
    scans.mkdir(exist_ok=True)
    folder.mkdir()
    start_run(scans, folder, recipe, iterations=4)
    return folder
