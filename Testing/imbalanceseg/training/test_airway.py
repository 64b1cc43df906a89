from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import yaml
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from imbalanceseg.networks.wingsnet import WingsNet
from imbalanceseg.training import airway
from imbalanceseg.training.airway import AirwayRecipe, read_recipe, train_airway

SHIPPED = Path(airway.__file__).parent / "recipes" / "synthetic" / "airway.yaml"


def rows_of(run: Path) -> list[dict[str, float]]:
    with open(run / "log.csv", newline="") as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def same_weights(a: WingsNet, b: WingsNet) -> bool:
    first, second = a.state_dict(), b.state_dict()
    return all(torch.equal(first[name], second[name]) for name in first)


class InterruptionError(Exception):
    """Stands for whatever ends a process in the middle."""


@contextmanager
def interrupted_after(steps: int):
    """Training inside this block saves after every step and ends before step ``steps``."""
    original = airway._step
    taken = 0

    def step(*arguments):
        nonlocal taken
        if taken == steps:
            raise InterruptionError
        taken += 1
        return original(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(airway, "_CHECKPOINT_SECONDS", -1.0)
        patch.setattr(airway, "_step", step)
        with pytest.raises(InterruptionError):
            yield


def test_the_shipped_recipe_is_valid():
    recipe = AirwayRecipe.model_validate(yaml.safe_load(SHIPPED.read_text()))
    assert recipe.iterations == sum(phase.iterations for phase in recipe.phases) > 0
    assert 0 < recipe.warmup_iterations < recipe.iterations
    assert 4 not in recipe.patients, "patient 4 is kept for validation"
    assert not set(recipe.grown_seeds) & set(recipe.validation_seeds)
    assert all(phase.side % 8 == 0 for phase in recipe.phases)


@pytest.mark.parametrize("where", ["recipe", "phase"])
def test_an_unknown_key_is_refused(where):
    values = yaml.safe_load(SHIPPED.read_text())
    (values if where == "recipe" else values["phases"][0])["lerning_rate"] = 0.1
    with pytest.raises(ValidationError, match="lerning_rate"):
        AirwayRecipe.model_validate(values)


def test_a_missing_key_is_refused():
    values = yaml.safe_load(SHIPPED.read_text())
    del values["phases"][0]["alpha"]
    with pytest.raises(ValidationError, match="alpha"):
        AirwayRecipe.model_validate(values)


def test_the_learning_rate_warms_up_and_falls_within_each_phase():
    recipe = AirwayRecipe.model_validate(yaml.safe_load(SHIPPED.read_text()))
    warm, first = recipe.warmup_iterations, 0
    assert recipe.rate(0) == pytest.approx(recipe.phases[0].learning_rate[0] / warm, rel=1e-3)
    for phase in recipe.phases:
        high, low = phase.learning_rate
        rates = [recipe.rate(n) for n in range(max(first, warm), first + phase.iterations)]
        assert all(a > b for a, b in pairwise(rates))
        assert recipe.rate(first + phase.iterations // 2) == pytest.approx(
            (high + low) / 2, rel=0.02
        )
        assert rates[-1] == pytest.approx(low, abs=0.01 * high)
        first += phase.iterations


@pytest.mark.parametrize("side", [16, 20])
def test_a_patch_that_breaks_bfloat16_or_the_poolings_is_refused(side):
    values = yaml.safe_load(SHIPPED.read_text())
    values["phases"][0]["side"] = side
    with pytest.raises(ValidationError, match="side"):
        AirwayRecipe.model_validate(values)


@pytest.mark.parametrize("start", [0, 2, 3, 4, 5])
def test_steps_go_on_where_they_stopped(tiny_recipe, start):
    steps = list(tiny_recipe.steps(start))
    assert [iteration for iteration, _ in steps] == list(range(start, 5))
    assert [phase.side for _, phase in steps] == [24, 24, 24, 32, 32][start:]


@pytest.fixture
def finished(tiny_recipe, anatomies, tmp_path):
    return train_airway(tiny_recipe, None, tmp_path / "one", anatomies)


def test_the_same_recipe_trains_the_same_network(finished, tiny_recipe, anatomies, tmp_path):
    again = train_airway(tiny_recipe, None, tmp_path / "two", anatomies)
    assert same_weights(finished, again)
    first, second = (rows_of(tmp_path / name) for name in ("one", "two"))
    for row in (*first, *second):
        del row["seconds"]
    assert first == second


def test_another_seed_trains_another_network(finished, tiny_recipe, anatomies, tmp_path):
    other = tiny_recipe.model_copy(update={"seed": 6})
    assert not same_weights(finished, train_airway(other, None, tmp_path / "two", anatomies))


def test_a_second_stage_starts_from_the_weights_of_the_first(
    finished, tiny_recipe, anatomies, tmp_path
):
    weights = tmp_path / "first.safetensors"
    save_file({k: v.half() for k, v in finished.state_dict().items()}, weights)
    state = airway._start(tiny_recipe, tmp_path / "two", "cpu", weights, None)
    for network in (state.network, state.average):
        for name, value in network.state_dict().items():
            assert torch.equal(value, finished.state_dict()[name].half().float())
    second = train_airway(tiny_recipe, None, tmp_path / "two", anatomies, weights=weights)
    assert not same_weights(finished, second)
    weights.unlink()
    resumed = train_airway(tiny_recipe, None, tmp_path / "two", anatomies, weights=weights)
    assert same_weights(second, resumed)


def test_a_third_stage_takes_statistics_from_the_weights_it_starts_from(
    finished, tiny_recipe, anatomies, tmp_path, monkeypatch
):
    monkeypatch.setattr(airway, "_CALIBRATION", 1)
    weights = tmp_path / "second.safetensors"
    save_file(finished.state_dict(), weights)
    recipe = tiny_recipe.model_copy(update={"tile_invariant": True})
    third = train_airway(recipe, None, tmp_path / "three", anatomies, weights=weights)
    variances = third.encoder[3].norm.running_var
    assert not torch.equal(variances, torch.ones_like(variances))
    again = tmp_path / "third.safetensors"
    save_file(third.state_dict(), again)
    fourth = airway._start(recipe, tmp_path / "four", "cpu", again, None)
    assert same_weights(third, fourth.network)


def test_the_second_stage_learns_from_the_chests_of_the_first_and_is_judged_on_the_same_others():
    first, second = (read_recipe(SHIPPED.with_name(f"airway{n}.yaml")) for n in ("", "-stage2"))
    for name in ("patients", "grown_seeds", "validation_seeds", "spacing_mm", "clip_hu"):
        assert getattr(first, name) == getattr(second, name)
    assert not {*second.grown_seeds} & {*second.validation_seeds}
    assert second.seed != first.seed, "else the second stage would see the first's patches again"


def test_a_run_leaves_a_log_and_a_checkpoint(finished, tiny_recipe, tmp_path):
    (row,) = rows_of(tmp_path / "one")
    assert row["iteration"] == tiny_recipe.iterations
    assert 0 < row["loss"] < 10
    assert all(0 <= row[name] <= 1 for name in ("dice", "recall", "precision"))
    kept = load_file(tmp_path / "one" / "checkpoint.safetensors")
    assert int(kept["iteration"]) == tiny_recipe.iterations
    for name, value in finished.state_dict().items():
        assert torch.equal(kept[f"average.{name}"], value)
    assert not finished.training
    torch.manual_seed(tiny_recipe.seed)
    assert not same_weights(finished, WingsNet())


def test_a_finished_run_is_not_run_again(finished, tiny_recipe, anatomies, tmp_path):
    run = tmp_path / "one"
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    assert same_weights(finished, train_airway(tiny_recipe, None, run, anatomies))
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_a_checkpoint_brings_everything_back(tiny_recipe, anatomies, tmp_path):
    with interrupted_after(3):
        train_airway(tiny_recipe, None, tmp_path, anatomies)
    state = airway._start(tiny_recipe, tmp_path, "cpu", None, None)
    kept = load_file(tmp_path / "checkpoint.safetensors")
    assert state.iteration == int(kept["iteration"]) == 3
    assert state.seconds == pytest.approx(float(kept["seconds"]))
    for name, value in state.network.state_dict().items():
        assert torch.equal(value, kept[f"network.{name}"])
    moments = state.optimizer.state_dict()["state"]
    assert len(moments) == len(list(state.network.parameters()))
    for number, parts in moments.items():
        for name, value in parts.items():
            assert torch.equal(value, kept[f"optimizer.{number}.{name}"])
    assert {float(parts["step"]) for parts in moments.values()} == {3.0}


@pytest.mark.parametrize("steps", [1, 3, 4])
def test_an_interrupted_run_finishes(tiny_recipe, anatomies, tmp_path, steps):
    with interrupted_after(steps):
        train_airway(tiny_recipe, None, tmp_path, anatomies)
    assert not (tmp_path / "log.csv").exists()
    network = train_airway(tiny_recipe, None, tmp_path, anatomies)
    kept = load_file(tmp_path / "checkpoint.safetensors")
    assert int(kept["iteration"]) == tiny_recipe.iterations
    assert [row["iteration"] for row in rows_of(tmp_path)] == [tiny_recipe.iterations]
    assert all(bool(torch.isfinite(value).all()) for value in network.state_dict().values())
    assert {path.name for path in tmp_path.iterdir()} == {
        "anatomies",
        "checkpoint.safetensors",
        "log.csv",
    }


@pytest.mark.parametrize(("saved", "kept"), [(0, []), (3, [1, 3])])
def test_what_was_logged_after_the_checkpoint_is_not_logged_twice(
    tiny_recipe, anatomies, tmp_path, saved, kept
):
    with interrupted_after(saved):
        train_airway(tiny_recipe, None, tmp_path, anatomies)
    for iteration in (1, 3, 4):
        airway._log(tmp_path, [iteration, 0.0, 0.0, 0.0, 0.0, 0.0])
    train_airway(tiny_recipe, None, tmp_path, anatomies)
    assert [row["iteration"] for row in rows_of(tmp_path)] == [*kept, tiny_recipe.iterations]


def test_before_the_first_checkpoint_a_run_starts_over(tiny_recipe, anatomies, tmp_path):
    with interrupted_after(0):
        train_airway(tiny_recipe, None, tmp_path, anatomies)
    assert not (tmp_path / "checkpoint.safetensors").exists()
    cut = train_airway(tiny_recipe, None, tmp_path, anatomies)
    assert same_weights(cut, train_airway(tiny_recipe, None, tmp_path / "whole", anatomies))


_ENDLESS = """
import json, sys
from pathlib import Path
from imbalanceseg.training import airway
airway._CHECKPOINT_SECONDS = -1.0
airway.validation_set = lambda *arguments: []
recipe = airway.AirwayRecipe.model_validate(json.loads(sys.argv[1]))
airway.train_airway(recipe, None, Path(sys.argv[2]), Path(sys.argv[3]))
"""


@pytest.mark.slow
def test_a_killed_process_leaves_a_checkpoint_to_go_on_from(tiny_recipe, anatomies, tmp_path):
    run = tmp_path / "run"
    endless = json.loads(tiny_recipe.model_dump_json())
    endless["phases"] = [endless["phases"][0] | {"iterations": 100_000, "patches": 1}]
    command = [sys.executable, "-c", _ENDLESS, json.dumps(endless), str(run), str(anatomies)]
    environment = os.environ | {"PYTHONPATH": str(Path(airway.__file__).parents[2])}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 240
        while not (run / "checkpoint.safetensors").is_file():
            assert process.poll() is None, "the training ended by itself"
            assert time.monotonic() < deadline, "no checkpoint was written"
            time.sleep(0.05)
        time.sleep(0.3)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = int(load_file(run / "checkpoint.safetensors")["iteration"])
    assert done >= 1
    endless["phases"][0]["iterations"] = done + 2
    train_airway(AirwayRecipe.model_validate(endless), None, run, anatomies)
    assert int(load_file(run / "checkpoint.safetensors")["iteration"]) == done + 2
    assert rows_of(run)[-1]["iteration"] == done + 2
