"""The loss study: what is counted, what a table says, and that no run is done twice."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from imbalanceseg.cli.main import main
from imbalanceseg.errors import Cancelled, InputError
from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.reporting.loss_report import (
    cells_of,
    claim_rows,
    table_rows,
    told_apart,
    write_loss_report,
)
from imbalanceseg.training import loss_study
from imbalanceseg.training.loss_study import (
    LOSSES,
    RESULT_FILE,
    StudyResult,
    require_losses,
    run_study,
    study_recipe,
)
from imbalanceseg.training.recipe import LossChoice
from imbalanceseg.training.study_figures import instance_figures
from imbalanceseg.training.study_sets import (
    SET_NAMES,
    StudySet,
    phantom_folders,
    prepared_set,
    study_sets,
)

SIDE = 24
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def two_balls(seed):
    """A large and a small bright ball in noise."""
    draw = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(*(np.arange(SIDE),) * 3, indexing="ij"), -1)
    label = np.zeros((SIDE,) * 3, np.uint8)
    for centre, radius in (((6, 6, 6), 4), ((17, 17, 17), 2)):
        label[((places - centre) ** 2).sum(-1) <= radius**2] = 1
    image = (draw.normal(size=label.shape) * 0.2 + 2 * label + 5).astype(np.float32)
    grid = Grid((SIDE,) * 3, (1.0,) * 3, (0.0,) * 3, IDENTITY)
    return image_from_array(image, grid), image_from_array(label, grid)


TOY = StudySet(
    name="toy",
    about="Two balls.",
    patch=(16, 16, 16),
    batch=1,
    judged="instances",
    numbered=False,
    folders=partial(phantom_folders, two_balls, "MR", (0, 1), (5,)),
)


def canned(loss, seed, **figures):
    return StudyResult(
        study_set="lesion",
        loss=loss,
        seed=seed,
        iterations=10,
        seconds=1.0,
        flat=False,
        size_edges=(10.0, 30.0),
        figures=figures,
    )


@pytest.fixture
def three_losses():
    dice = {"dice": (0.50, 0.52, 0.54), "blob": (0.53, 0.55, 0.57), "ce": (0.10, 0.11, 0.12)}
    return [
        canned(loss, seed, dice=value, instance_f1_small=None if loss == "ce" else value / 2)
        for loss, values in dice.items()
        for seed, value in enumerate(values)
    ]


class TestTables:
    def test_mean_and_standard_deviation_over_seeds(self, three_losses):
        cell = cells_of(three_losses)["dice"]["dice"]
        assert cell.mean == pytest.approx(0.52)
        assert cell.spread == pytest.approx(0.02)
        assert cell.values == (0.50, 0.52, 0.54)

    def test_the_best_is_marked_and_what_is_not_told_apart_from_it(self, three_losses):
        cells = cells_of(three_losses)
        assert {loss: (row["dice"].best, row["dice"].tied) for loss, row in cells.items()} == {
            "dice": (False, True),
            "blob": (True, False),
            "ce": (False, False),
        }
        assert str(cells["blob"]["dice"]) == "0.550 ± 0.020 *"
        assert str(cells["dice"]["dice"]) == "0.520 ± 0.020 ="
        assert str(cells["ce"]["dice"]) == "0.110 ± 0.010"

    def test_two_equal_means_are_both_best(self):
        cells = cells_of([canned("ce", 0, dice=0.5), canned("dice", 0, dice=0.5)])
        assert cells["ce"]["dice"].best
        assert cells["dice"]["dice"].best

    def test_one_seed_tells_nothing_apart(self):
        cells = cells_of([canned("ce", 0, dice=0.1), canned("dice", 0, dice=0.9)])
        assert cells["ce"]["dice"].tied
        assert not told_apart(cells["ce"]["dice"], cells["dice"]["dice"])

    def test_what_cannot_be_counted_is_a_dash_and_no_zero(self, three_losses):
        rows = {row[0]: row for row in table_rows(cells_of(three_losses))}
        assert rows["loss"] == ("loss", "voxel Dice", "F1 small")
        assert rows["ce"][2] == "-"

    def test_a_claim_that_is_not_seen_is_told(self, three_losses):
        seen = {row[1]: row[3] for row in claim_rows("lesion", cells_of(three_losses))}
        assert seen == {
            "dice over ce in voxel Dice": "seen",
            "blob over dice in F1 small": "not seen: within the spread",
        }
        worse = [replace_figures(run, dice=0.01) for run in three_losses if run.loss == "dice"]
        others = [run for run in three_losses if run.loss == "ce"]
        (row,) = claim_rows("lesion", cells_of([*worse, *others]))
        assert row[3] == "not seen: the opposite"

    def test_files(self, three_losses, tmp_path):
        write_loss_report(tmp_path, three_losses, {"nuclei": "Not run.", "lesion": "Phantoms."})
        page = (tmp_path / "losses.md").read_text()
        assert "Phantoms. 10 steps, 3 seeds." in page
        assert "voxel Dice: blob is highest; within the spread of it: dice." in page
        assert "Not run." not in page
        facts = json.loads((tmp_path / "losses.json").read_text())
        cell = facts["sets"]["lesion"]["losses"]["dice"]["dice"]
        assert cell["seeds"] == [0.50, 0.52, 0.54]
        assert cell["within_spread_of_best"]
        assert (tmp_path / "losses.png").stat().st_size > 3000


def replace_figures(run, **figures):
    return run.model_copy(update={"figures": figures})


class TestInstances:
    def test_f1_by_size_counts_what_is_missed_and_what_is_false(self):
        reference = np.zeros((1, 30), np.int32)
        reference[0, 0] = 1
        reference[0, 4:8] = 2
        reference[0, 10:20] = 3
        prediction = (reference > 1).astype(np.uint8)
        prediction[0, 25:28] = 1
        figures = instance_figures([prediction], [reference], (1.0, 1.0), (2, 8))
        assert figures == {
            "instance_f1": pytest.approx(2 * 2 / (2 * 2 + 1 + 1)),
            "instance_f1_small": 0.0,
            "instance_f1_medium": pytest.approx(2 / 3),
            "instance_f1_large": 1.0,
        }

    def test_a_size_that_nobody_has_is_not_judged(self):
        reference = np.zeros((1, 30), np.int32)
        reference[0, 4:8] = 1
        figures = instance_figures([reference > 0], [reference], (1.0, 1.0), (2, 8))
        assert figures["instance_f1_small"] is None
        assert figures["instance_f1_medium"] == 1.0

    def test_two_touching_instances_under_one_prediction_are_one_found(self):
        reference = np.zeros((1, 10), np.int32)
        reference[0, 2:4], reference[0, 4:6] = 1, 2
        figures = instance_figures([reference > 0], [reference], (1.0, 1.0), (1, 9))
        assert figures["instance_f1"] == pytest.approx(2 / 3)


class TestChoices:
    def test_unknown_loss(self):
        with pytest.raises(InputError) as caught:
            require_losses(["dice", "jaccard"])
        assert caught.value.code == "study-loss-unknown"
        assert all(name in caught.value.hint for name in LOSSES)

    def test_unknown_set(self):
        with pytest.raises(InputError) as caught:
            study_sets(["liver"], None)
        assert caught.value.code == "study-set-unknown"
        assert all(name in caught.value.hint for name in SET_NAMES)

    @pytest.mark.parametrize("folder", [None, "nowhere"])
    def test_nuclei_need_a_folder(self, folder, tmp_path):
        with pytest.raises(InputError) as caught:
            study_sets(["nuclei"], folder and tmp_path / folder)
        assert caught.value.code == "study-nuclei-missing"

    def test_only_the_loss_differs(self):
        recipes = [study_recipe(TOY, loss).model_dump(exclude={"loss"}) for loss in LOSSES]
        assert all(recipe == recipes[0] for recipe in recipes)

    def test_no_phantom_is_both_learned_from_and_judged_on(self, tmp_path):
        for one in study_sets(["lesion", "airway"], None):
            _, _, training, judging = one.folders.args
            assert not set(training) & set(judging)

    def test_the_command_tells_of_an_unknown_set(self, tmp_path, capsys):
        arguments = ["benchmark", "losses", "-o", str(tmp_path / "out"), "--sets", "liver"]
        assert main(arguments) == 2
        assert "nuclei, lesion, airway" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    events = []
    results = run_study(folder, [TOY], ["dice", "blob"], 1, 4, "cpu", events.append)
    return folder, results, events


class TestRuns:
    def test_a_result_a_run_with_all_figures(self, done):
        folder, results, events = done
        assert [(run.loss, run.seed) for run in results] == [("dice", 0), ("blob", 0)]
        for run in results:
            assert set(run.figures) >= {"dice", "recall", "instance_f1", "instance_f1_large"}
            assert 0 <= run.figures["dice"] <= 1
            assert (folder / "toy" / "runs" / f"{run.loss}-0" / RESULT_FILE).is_file()
        assert (events[-1].stage, events[-1].done, events[-1].total) == ("benchmark", 2, 2)

    def test_a_finished_run_is_not_repeated(self, done, monkeypatch):
        folder, results, _ = done
        monkeypatch.setattr(loss_study, "_run", None)
        assert run_study(folder, [TOY], ["dice", "blob"], 1, 4, "cpu") == results

    def test_a_damaged_result_is_made_again_and_no_other(self, done, monkeypatch):
        folder, results, _ = done
        path = folder / "toy" / "runs" / "blob-0" / RESULT_FILE
        path.write_text(path.read_text()[:40])
        made = []
        real = loss_study._run

        def noted(*arguments):
            made.append(arguments[3])
            return real(*arguments)

        monkeypatch.setattr(loss_study, "_run", noted)
        again = run_study(folder, [TOY], ["dice", "blob"], 1, 4, "cpu")
        assert made == ["blob"]
        assert [run.figures for run in again] == [run.figures for run in results]

    def test_a_study_that_was_stopped_goes_on(self, done, tmp_path):
        _, results, _ = done

        def stop(event):
            if event.stage == "benchmark" and event.done == 1:
                raise Cancelled

        with pytest.raises(Cancelled):
            run_study(tmp_path, [TOY], ["dice", "blob"], 1, 4, "cpu", stop)
        first = (tmp_path / "toy" / "runs" / "dice-0" / RESULT_FILE).stat().st_mtime_ns
        again = run_study(tmp_path, [TOY], ["dice", "blob"], 1, 4, "cpu")
        assert [run.figures for run in again] == [run.figures for run in results]
        assert (tmp_path / "toy" / "runs" / "dice-0" / RESULT_FILE).stat().st_mtime_ns == first

    @pytest.mark.parametrize(
        ("one", "iterations"), [(TOY, 5), (replace(TOY, about="Other balls."), 4)]
    )
    def test_runs_of_another_protocol_are_not_mixed_in(self, done, one, iterations):
        with pytest.raises(InputError) as caught:
            run_study(done[0], [one], ["dice"], 1, iterations, "cpu")
        assert caught.value.code == "other-study"

    def test_runs_with_other_constants_of_a_loss_are_not_mixed_in(self, done, monkeypatch):
        changed = LossChoice(name="blob", settings={"base": "dice_ce"})
        monkeypatch.setitem(loss_study.LOSSES, "blob", changed)
        with pytest.raises(InputError, match="losses of this study"):
            run_study(done[0], [TOY], ["dice"], 1, 4, "cpu")

    def test_thirds_of_the_training_instances(self, done):
        folder, _, _ = done
        low, high = prepared_set(TOY, folder / "toy", lambda event: None).size_edges
        assert low < high

    def test_the_command_prints_and_writes_tables(self, tmp_path, monkeypatch, capsys):
        toy = replace(TOY, name="lesion")
        monkeypatch.setattr(
            "imbalanceseg.training.study_sets.study_sets", lambda names, nuclei: [toy]
        )
        arguments = ["benchmark", "losses", "-o", tmp_path, "--losses", "ce", "--seeds", 1]
        arguments += ["--iterations", 2, "--device", "cpu", "--progress", "none"]
        assert main([str(argument) for argument in arguments]) == 0
        printed = capsys.readouterr().out
        assert "lesion: Two balls." in printed
        assert "voxel Dice" in printed
        for name in ("losses.md", "losses.json", "losses.png"):
            assert (tmp_path / name).is_file()
            assert name in printed
