"""Training sets that a recipe asks to be made."""

import json
import shutil
import sys

import pytest

from imbalanceseg.errors import DependencyError, InputError
from imbalanceseg.planning.dataset import open_dataset, read_case
from imbalanceseg.training.made_set import make_set
from imbalanceseg.training.recipe import Synthesis
from imbalanceseg.training.recipe_files import read_recipe
from imbalanceseg.training.train import start_run


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder, empty = tmp_path_factory.mktemp("made"), tmp_path_factory.mktemp("empty")
    return make_set(Synthesis(task="lesion", cases=1, validation_cases=1, seed=5), empty, folder)


def test_it_is_a_dataset_with_a_fold_to_choose_on(made):
    dataset = open_dataset(made)
    assert dataset.name == "lesion"
    assert dataset.labels == {0: "background", 1: "lesion"}
    assert [case.fold for case in dataset.cases] == [None, 0]
    assert {1} <= set(read_case(dataset, dataset.cases[0]).label.ravel())


def test_each_case_says_what_it_is_made_of(made):
    described = json.loads(made.read_text())
    assert [one["about"] for one in described["training"]] == ["phantom"]


def test_what_is_there_is_not_made_again(made, tmp_path):
    before = made.stat().st_mtime_ns
    asked = Synthesis(task="lesion", cases=1, validation_cases=1, seed=5)
    again = make_set(asked, tmp_path, made.parent)
    assert again == made
    assert made.stat().st_mtime_ns == before


def test_what_was_made_before_an_interruption_is_kept(made, tmp_path):
    folder = tmp_path / "made"
    shutil.copytree(made.parent, folder)
    described = json.loads(made.read_text())
    described["validation"] = []
    (folder / "lesion.json").unlink()
    (folder / ".lesion.partial.json").write_text(json.dumps(described))
    first = folder / described["training"][0]["image"]
    before = first.stat().st_mtime_ns
    again = make_set(
        Synthesis(task="lesion", cases=1, validation_cases=1, seed=5), tmp_path, folder
    )
    assert json.loads(again.read_text()) == json.loads(made.read_text())
    assert first.stat().st_mtime_ns == before
    assert not (folder / ".lesion.partial.json").exists()


def test_what_another_recipe_asked_for_is_not_taken(made, tmp_path):
    with pytest.raises(InputError) as caught:
        make_set(Synthesis(task="lesion", cases=2, validation_cases=1), tmp_path, made.parent)
    assert caught.value.code == "made-other"


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"synthesis": {}}'])
def test_a_damaged_list_is_told(tmp_path, text):
    (tmp_path / ".lesion.partial.json").write_text(text)
    with pytest.raises(InputError) as caught:
        make_set(Synthesis(task="lesion", cases=1, validation_cases=1), tmp_path, tmp_path)
    assert caught.value.code == "made-damaged"


def test_a_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(InputError) as caught:
        make_set(
            Synthesis(task="tumor", cases=1, validation_cases=1), tmp_path / "no", tmp_path / "made"
        )
    assert caught.value.code == "dataset-missing"


@pytest.mark.parametrize("task", ["airway", "lesion", "tumor"])
def test_the_shipped_recipe_makes_its_own_cases(task):
    assert read_recipe(task).synthesis.task == task


def test_what_is_not_installed_is_told_before_cases_are_made(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "blosc2", None)
    with pytest.raises(DependencyError) as error:
        start_run(tmp_path, tmp_path, read_recipe("lesion"))
    assert error.value.code == "blosc2-missing"
    assert not list(tmp_path.iterdir())
