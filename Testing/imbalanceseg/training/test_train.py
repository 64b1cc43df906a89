"""Training from a folder: it learns, survives being killed, and says what went wrong."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from imbalanceseg.cli.main import main
from imbalanceseg.errors import InputError, ModelError
from imbalanceseg.inference.segment import segment
from imbalanceseg.metrics.evaluate import evaluate
from imbalanceseg.models.bundle import load_model
from imbalanceseg.networks import create_network
from imbalanceseg.planning.prepare import PreparedCase
from imbalanceseg.reporting.training_report import read_log
from imbalanceseg.training import trainer
from imbalanceseg.training.hard_looks import look_tile
from imbalanceseg.training.log import LOG
from imbalanceseg.training.recipe_files import read_recipe
from imbalanceseg.training.schedule import Plateau
from imbalanceseg.training.train import read_run, split_cases, start_run, train
from imbalanceseg.training.trainer import BEST, CHECKPOINT, Trainer
from imbalanceseg.training.validation import CaseDice

from .balls import SIDE, write_balls
from .processes import ENGINE, command, finished_here, require_same_training


def begun(dataset, folder, recipe, **arguments):
    folder.mkdir(exist_ok=True)
    start_run(dataset, folder, read_recipe(recipe), **arguments)
    return folder


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


def standing(folder):
    with safe_open(folder / "fold_0" / CHECKPOINT, "pt") as file:
        return json.loads(file.metadata()["standing"])


@pytest.fixture(scope="module")
def trained(balls, small_recipe, tmp_path_factory):
    folder = begun(balls, tmp_path_factory.mktemp("runs") / "dense", small_recipe, iterations=60)
    return train(folder), folder


class TestAWholeTraining:
    def test_learns_what_a_ball_is(self, trained):
        result, _ = trained
        assert result.outcome.dice[0] > 0.8

    def test_the_model_segments_a_scan_where_it_lies(self, trained, balls, tmp_path):
        image = sitk.ReadImage(balls / "imagesTr" / "ball0_0000.nii.gz")
        label = sitk.ReadImage(balls / "labelsTr" / "ball0.nii.gz")
        for each in (image, label):
            each.SetOrigin((10, -20, 30))
            each.SetDirection((0, 1, 0, -1, 0, 0, 0, 0, 1))
        result = segment(image, load_model(trained[1] / "model"), maps=())
        assert result.labels.GetDirection() == label.GetDirection()
        assert evaluate(result.labels, label, ["dice"])["dice"] > 0.8

    def test_leaves_an_account(self, trained):
        _, folder = trained
        log = read_log(folder / "fold_0" / LOG)
        assert log["iteration"] == [5.0 * n for n in range(1, 13)]
        assert log["loss"][-1] < log["loss"][0]
        page = (folder / "report.html").read_text()
        assert "Not for clinical use" in page
        assert "flatters them a little" in page
        assert "The recipe asks for it." in page
        assert (folder / "curve.png").stat().st_size > 5000
        assert list((folder / "fold_0" / "tensorboard").iterdir())

    def test_the_card_says_what_was_measured(self, trained):
        card = load_model(trained[1] / "model").card
        (figures,) = card.metrics.values()
        assert figures["ball_dice"] == pytest.approx(trained[0].outcome.dice[0], abs=1e-4)
        told = " ".join(card.limitations)
        assert "5 cases" in told
        assert "chosen on the held-out cases" in told

    def test_weights_of_the_model_are_the_best(self, trained):
        best = load_file(trained[1] / "fold_0" / BEST)
        stored = load_file(trained[1] / "model" / "models" / "model.safetensors")
        assert all(torch.equal(best[name].half(), stored[name]) for name in best)

    def test_nothing_is_left_to_do_a_second_time(self, trained):
        before = load_file(trained[1] / "fold_0" / CHECKPOINT)
        train(trained[1])
        after = load_file(trained[1] / "fold_0" / CHECKPOINT)
        assert all(torch.equal(before[name], after[name]) for name in before)


HARD = "hard_samples: {sparsities: [0.5], after: 0.2, every: 0.2, use: both}"


def test_weights_follow_from_how_hard_cases_are(balls, small_recipe, tmp_path):
    recipe = read_recipe(written(tmp_path, small_recipe.read_text() + HARD))
    folder = tmp_path / "run"
    folder.mkdir()
    start_run(balls, folder, recipe, iterations=15)
    train(folder, "cpu")
    stood = standing(folder)
    weights = list(stood["case_weights"].values())
    assert len(weights) == 5
    assert np.mean(weights) == pytest.approx(1)
    assert max(weights) / min(weights) == pytest.approx(2)
    assert stood["looks"] == 4


@pytest.mark.parametrize(("word", "there"), [("on", True), ("off", False)])
def test_hard_samples_are_switched_with_a_word(tmp_path, word, there):
    recipe = read_recipe(written(tmp_path, f"hard_samples: {word}\n"))
    assert (recipe.attended is not None) == there


@pytest.mark.slow
@pytest.mark.parametrize("more", ["", HARD])
def test_goes_on_after_sigkill_as_if_nothing_had_been(balls, small_recipe, tmp_path, more):
    recipe = written(tmp_path, small_recipe.read_text() + more)
    arguments = (balls, "--recipe", recipe, "--iterations", 25, "--seed", 1)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finished_here("train", *arguments, "-o", whole)
    process = command(*arguments, "-o", killed)
    begin = time.monotonic()
    while not (killed / "fold_0" / CHECKPOINT).exists():
        assert process.poll() is None
        assert time.monotonic() - begin < 120
        time.sleep(0.02)
    time.sleep(random.uniform(0, 0.5))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    finished_here("train", balls, "-o", killed, "--resume")
    require_same_training(whole, killed)


@pytest.mark.slow
def test_two_processes_train_one_network(balls, small_recipe, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ENGINE), "OMP_NUM_THREADS": "1"}
    folder = begun(balls, tmp_path / "run", small_recipe, iterations=20)
    subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
            *("-m", "imbalanceseg", "train", str(balls), "-o", str(folder), "--resume"),
        ],
        env=environment,
        check=True,
        timeout=240,
    )
    log = read_log(folder / "fold_0" / LOG)
    assert log["iteration"] == [5.0, 10.0, 15.0, 20.0]
    assert log["loss"][-1] < log["loss"][0]
    # Of both together, so that the next to resume it may be one process or four.
    assert standing(folder)["batch"] == 2
    load_model(folder / "model").verify()


@pytest.mark.parametrize(
    ("scores", "kept"),
    [([0.0, 0.0, 0.0], 15), ([None, None, None], 15), ([0.0, 0.4, 0.3], 10), ([0.4, 0.4, 0.0], 5)],
)
def test_the_latest_weights_are_kept_while_none_has_found_anything(
    balls, small_recipe, tmp_path, monkeypatch, scores, kept
):
    """The last network is judged once more, by another function."""
    told = iter(scores)
    monkeypatch.setattr(trainer, "validate", lambda *_: [CaseDice("ball", (next(told),))])
    folder = begun(balls, tmp_path / "run", small_recipe, iterations=15)
    train(folder)
    assert standing(folder)["best_iteration"] == kept


def test_the_plateau_hears_all_steps_since_the_last_validation(
    balls, small_recipe, tmp_path, monkeypatch
):
    recipe = tmp_path / "seldom.yaml"
    recipe.write_text(small_recipe.read_text().replace("every: 5", "every: 13"))
    step, losses, heard = Trainer._step, [], []

    def noted(self, batch, pair):
        figures = step(self, batch, pair)
        losses.append(float(figures[0]))
        return figures

    monkeypatch.setattr(Trainer, "_step", noted)
    monkeypatch.setattr(Plateau, "heard", lambda self, loss, schedule: heard.append(loss))
    train(begun(balls, tmp_path / "run", recipe, iterations=26))
    assert heard == pytest.approx([np.mean(losses[:13]), np.mean(losses[13:])], rel=1e-5)


FOUR_STAGES = (
    "kernels: [[3, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3]], features: [8, 8, 8, 8], "
    "strides: [[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 2]]"
)


@pytest.mark.parametrize(("patch", "fast"), [([16, 16, 16], False), ([48, 48, 48], True)])
def test_bfloat16_is_not_used_for_maps_of_two_voxels(balls, tmp_path, monkeypatch, patch, fast):
    recipe = tmp_path / "tiny.yaml"
    # Four stages: the coarsest maps are an eighth of the patch.
    recipe.write_text(
        f"patch: {patch}\nbatch: 1\nnetwork: {{name: nnunet, settings: {{{FOUR_STAGES}}}}}\n"
    )
    entered = []

    def fast_precision(device):
        entered.append(device)
        return nullcontext()

    monkeypatch.setattr(trainer, "fast_precision", fast_precision)
    train(begun(balls, tmp_path / "run", recipe, iterations=1))
    assert bool(entered) == fast


class TestTrouble:
    def test_a_loss_that_is_not_finite_ends_it_with_the_last_good_checkpoint(
        self, balls, small_recipe, tmp_path, monkeypatch
    ):
        folder = begun(balls, tmp_path / "run", small_recipe, iterations=20)
        step = Trainer._step

        def breaks_at_twelve(self, batch, pair):
            figures = step(self, batch, pair)
            return figures * float("nan") if self.standing.iteration == 12 else figures

        monkeypatch.setattr(Trainer, "_step", breaks_at_twelve)
        with pytest.raises(ModelError, match="not finite at iteration 12") as caught:
            train(folder)
        assert caught.value.code == "training-diverged"
        kept = load_file(folder / "fold_0" / CHECKPOINT)
        assert all(bool(torch.isfinite(tensor).all()) for tensor in kept.values())
        monkeypatch.undo()
        assert train(folder).outcome.dice[0] is not None

    def test_too_little_memory_halves_the_batch_and_says_so(
        self, balls, small_recipe, tmp_path, monkeypatch
    ):
        folder = begun(balls, tmp_path / "run", small_recipe, iterations=5)
        step, sizes = Trainer._step, []

        def small_machine(self, batch, pair):
            sizes.append(len(batch.image))
            if len(batch.image) > 1:
                raise torch.OutOfMemoryError("out of memory")
            return step(self, batch, pair)

        monkeypatch.setattr(Trainer, "_step", small_machine)
        train(folder)
        assert sizes == [2, 1, 1, 1, 1, 1]
        assert "halved to 1" in (folder / "report.html").read_text()

    def test_too_little_memory_for_one_patch_is_an_error(
        self, balls, small_recipe, tmp_path, monkeypatch
    ):
        folder = begun(balls, tmp_path / "run", small_recipe, iterations=5)

        def tiny_machine(self, batch, pair):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: 8 bytes")

        monkeypatch.setattr(Trainer, "_step", tiny_machine)
        with pytest.raises(ModelError) as caught:
            train(folder)
        assert caught.value.code == "out-of-memory"

    def test_a_damaged_checkpoint_is_named(self, balls, small_recipe, tmp_path):
        folder = begun(balls, tmp_path / "run", small_recipe, iterations=5)
        (folder / "fold_0").mkdir()
        (folder / "fold_0" / CHECKPOINT).write_bytes(b"not tensors")
        with pytest.raises(InputError) as caught:
            train(folder)
        assert caught.value.code == "checkpoint-damaged"

    def test_a_checkpoint_of_another_version_is_not_misread(self, balls, small_recipe, tmp_path):
        folder = begun(balls, tmp_path / "run", small_recipe, iterations=5)
        train(folder)
        path = folder / "fold_0" / CHECKPOINT
        with safe_open(path, "pt") as file:
            metadata = file.metadata() | {"format": "0"}
        save_file(load_file(path), path, metadata=metadata)
        with pytest.raises(InputError, match="format 0") as caught:
            train(folder)
        assert caught.value.code == "checkpoint-damaged"

    @pytest.mark.parametrize(
        ("arguments", "code"),
        [
            (["--resume"], "run-missing"),
            (["--folds", "9"], "too-many-folds"),
            (["--recipe", "no-such"], "recipe-unknown"),
            (["--recipe", "ternausnet"], "recipe-axes"),
        ],
    )
    def test_wrong_requests_are_refused(self, balls, tmp_path, capsys, arguments, code):
        assert main(["train", str(balls), "-o", str(tmp_path / "run"), *arguments]) == 2
        assert f"error[{code}]" in capsys.readouterr().err

    def test_a_folder_with_a_training_is_not_overwritten(self, trained, balls, capsys):
        assert main(["train", str(balls), "-o", str(trained[1])]) == 2
        assert "--resume" in capsys.readouterr().err

    def test_another_dataset_is_not_resumed_on(self, trained, tmp_path, capsys):
        other = write_balls(tmp_path / "other", cases=2)
        assert main(["train", str(other), "-o", str(trained[1]), "--resume"]) == 2
        assert "error[other-dataset]" in capsys.readouterr().err

    @pytest.mark.parametrize(
        "arguments",
        [
            ["--recipe", "nnunet"],
            ["--minutes", "3"],
            ["--iterations", "7"],
            ["--folds", "2"],
            ["--seed", "1"],
            ["--instances"],
            ["--memory-gb", "4"],
        ],
    )
    def test_what_goes_on_takes_no_other_options(self, trained, balls, capsys, arguments):
        log = (trained[1] / "fold_0" / LOG).read_bytes()
        assert main(["train", str(balls), "-o", str(trained[1]), "--resume", *arguments]) == 2
        told = capsys.readouterr().err
        assert "error[resume-differs]" in told
        assert arguments[0] in told
        assert (trained[1] / "fold_0" / LOG).read_bytes() == log

    def test_the_options_of_the_start_may_be_said_again(self, trained, balls, small_recipe):
        arguments = ["--iterations", "60", "--seed", "0", "--folds", "1"]
        run = ["train", str(balls), "-o", str(trained[1]), "--resume", "--progress", "none"]
        assert main([*run, "--recipe", str(small_recipe), *arguments]) == 0


class TestFolds:
    def test_every_case_is_held_out_once(self):
        cases = [PreparedCase(str(n), Path(), ()) for n in range(11)]
        splits = split_cases(cases, 4, seed=3)
        held_out = [case for split in splits for case in split.validation]
        assert sorted(map(id, held_out)) == sorted(map(id, cases))
        for split in splits:
            assert not {*split.training} & {*split.validation}
            assert len(split.training) + len(split.validation) == 11

    def test_folds_that_the_dataset_names_are_kept_to(self):
        cases = [PreparedCase(str(n), Path(), (), [0, 2, None][n % 3]) for n in range(12)]
        first, second = split_cases(cases, 2, seed=3)
        assert {case.fold for case in first.validation} == {0}
        assert {case.fold for case in second.validation} == {2}
        assert len(first.training) == len(second.training) == 8
        (only,) = split_cases(cases, 1, seed=3)
        assert only == first
        with pytest.raises(InputError) as caught:
            split_cases([case for case in cases if case.fold == 0], 1, seed=3)
        assert caught.value.code == "nothing-to-train-on"

    def test_what_a_datalist_holds_out_is_not_trained_on(self, balls, small_recipe, tmp_path):
        names = [f"ball{n}" for n in range(5)]
        entries = [
            {"image": str(balls / f"imagesTr/{n}_0000.nii.gz"),
             "label": str(balls / f"labelsTr/{n}.nii.gz")} for n in names
        ]  # fmt: skip
        path = tmp_path / "list.json"
        path.write_text(json.dumps({"training": entries[:3], "validation": entries[3:]}))
        outcome = train(begun(path, tmp_path / "run", small_recipe, iterations=2)).outcome
        assert {score.case for score in outcome.cases} == set(names[3:])
        assert outcome.training_cases == 3
        assert main(["train", str(path), "-o", str(tmp_path / "two"), "--folds", "2"]) == 2

    def test_one_case_is_trained_on_and_nothing_is_claimed(self, tmp_path, small_recipe):
        data = write_balls(tmp_path / "one", cases=1)
        folder = begun(data, tmp_path / "run", small_recipe, iterations=2)
        outcome = train(folder).outcome
        assert outcome.cases == ()
        assert "not known" in outcome.limitations[0]

    def test_folds_make_an_ensemble(self, tmp_path, small_recipe):
        data = write_balls(tmp_path / "data", cases=4)
        folder = begun(data, tmp_path / "run", small_recipe, iterations=3, folds=2)
        assert train(folder, only_fold=1) is None
        assert not (folder / "model").exists()
        result = train(folder)
        assert len(result.outcome.cases) == 4
        assert len(result.model.card.weights) == 2

    def test_time_ends_a_training(self, balls, small_recipe, tmp_path):
        folder = begun(balls, tmp_path / "run", small_recipe, minutes=0.1)
        begin = time.monotonic()
        result = train(folder)
        assert time.monotonic() - begin < 60
        assert result.outcome.dice[0] is not None
        assert read_run(folder).iterations is None


def test_sparse_slices_teach_the_whole_volume(tmp_path, small_recipe):
    data = write_balls(tmp_path / "data", sparse=True)
    folder = begun(data, tmp_path / "run", small_recipe, iterations=80)
    result = train(folder)
    assert read_run(folder).plan.loss == "partial_label"
    dense = write_balls(tmp_path / "dense")
    image = sitk.ReadImage(dense / "imagesTr" / "ball1_0000.nii.gz")
    truth = sitk.ReadImage(dense / "labelsTr" / "ball1.nii.gz")
    found = segment(image, result.model, maps=())
    assert evaluate(found.labels, truth, ["dice"])["dice"] > 0.7


RECIPES_IN_3D = {
    "unet3d-sparse": {"features": [4, 8, 8]},
    "unet2d5-vs": {"layout": "paper", "features": 4},
    "two-pathway": {"features": [4, 4, 8, 8]},
    "wingsnet": {},
    "blob-lesion": {},
    "nnunet": {},
    "nnunet-early": {},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES_IN_3D)
def test_recipes_in_3d_train(balls, tmp_path, name):
    recipe = read_recipe(name)
    settings = recipe.network.settings | RECIPES_IN_3D[name]
    recipe = recipe.model_copy(
        update={
            "patch": (16, 32, 32),
            "batch": 1,
            "validate_every": 2,
            "hard_skeleton_every": 2,
            "network": recipe.network.model_copy(
                update={"settings": settings}
                | ({"width": 0.25} if recipe.network.name == "plan" else {})
            ),
        }
    )
    folder = tmp_path / "run"
    folder.mkdir()
    start_run(balls, folder, recipe, name, iterations=3)
    train(folder)
    assert np.isfinite(read_log(folder / "fold_0" / LOG)["loss"]).all()
    image = sitk.ReadImage(balls / "imagesTr" / "ball0_0000.nii.gz")
    assert segment(image, load_model(folder / "model"), maps=()).labels.GetSize() == (SIDE,) * 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unet", "ternausnet"])
def test_recipes_in_2d_train(tmp_path, name):
    data = write_balls(tmp_path / "flat", flat=True, cases=3)
    recipe = read_recipe(name).model_copy(
        update={"patch": (32, 32), "batch": 1, "validate_every": 1}
    )
    folder = tmp_path / "run"
    folder.mkdir()
    start_run(data, folder, recipe, name, iterations=1)
    train(folder)
    assert np.isfinite(read_log(folder / "fold_0" / LOG)["loss"]).all()


@pytest.mark.slow
def test_ctrl_c_keeps_the_checkpoint_and_says_how_to_go_on(balls, small_recipe, tmp_path):
    folder = tmp_path / "run"
    process = command(balls, "-o", folder, "--recipe", small_recipe, "--iterations", 5000)
    begin = time.monotonic()
    while not (folder / "fold_0" / CHECKPOINT).exists():
        assert process.poll() is None
        assert time.monotonic() - begin < 120
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--resume" in errors
    assert "Traceback" not in errors
    assert not (folder / "model").exists()


@pytest.mark.parametrize(
    ("invariant", "shape", "tile"),
    [
        (True, (144, 144, 140), (144, 144, 144)),
        (True, (96, 36, 96), (96, 40, 96)),
        (True, (300, 300, 300), (96, 96, 96)),
        (False, (144, 144, 144), (96, 96, 96)),
    ],
)
def test_small_cases_are_looked_at_whole_where_tiles_make_no_difference(
    invariant: bool, shape: tuple[int, ...], tile: tuple[int, ...]
) -> None:
    network = create_network("wingsnet", tile_invariant=invariant, width=0.25)
    assert look_tile(network, shape, (96, 96, 96)) == tile
