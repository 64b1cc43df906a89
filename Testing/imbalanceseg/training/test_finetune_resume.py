"""An adaptation that is stopped or killed goes on where it was, and only where it was."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from safetensors.torch import load_file, save_file

from imbalanceseg.annotation.annotation import Annotation
from imbalanceseg.annotation.files import save_annotation
from imbalanceseg.errors import InputError
from imbalanceseg.models.bundle import Model, load_model
from imbalanceseg.models.write import write_bundle
from imbalanceseg.progress import ProgressEvent
from imbalanceseg.training import finetune_checkpoint, finetune_rounds, finetune_run
from imbalanceseg.training.finetune import FineTuned, finetune

from . import painted as phantoms
from .processes import ENGINE, finished_here

QUICK = {"seconds": 3600.0, "iterations": 6, "device": "cpu", "memory_gb": 2.0}
SLICES = (4, 8, 12, 16, 20, 24)


class PlugPulledError(Exception):
    """Somebody pulled the plug."""


def corner(image: sitk.Image) -> sitk.Image:
    """What is enough of a phantom when nothing is said of quality."""
    return image[:24, :24, :]


@pytest.fixture(scope="module")
def scan() -> sitk.Image:
    return corner(phantoms.phantom()[0])


@pytest.fixture(scope="module")
def annotation() -> Annotation:
    return phantoms.painted(corner(phantoms.phantom()[1]), SLICES)


@pytest.fixture(scope="module")
def parent(tmp_path_factory, make_card) -> Model:
    card = make_card(name="dark-things", **phantoms.CARD)
    folder = tmp_path_factory.mktemp("parent") / "model"
    return write_bundle(folder, phantoms.dark_network(), card)


@pytest.fixture
def often(monkeypatch) -> None:
    """A checkpoint and an event after every step, and a slice that judges."""
    monkeypatch.setattr(finetune_run, "_SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr(finetune_checkpoint, "_LEAST_SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr(finetune_checkpoint, "_MOST_SHARE_OF_TIME", float("inf"))
    monkeypatch.setattr(finetune_rounds, "FOREGROUND_TO_JUDGE_BY", 20)


def weights(tuned: FineTuned) -> dict[str, torch.Tensor]:
    return tuned.model.network.state_dict()


def require_same(one: FineTuned, other: FineTuned) -> None:
    assert weights(one).keys() == weights(other).keys()
    assert all(torch.equal(value, weights(other)[name]) for name, value in weights(one).items())
    for name in ("labels", "probability", "hardness"):
        arrays = [sitk.GetArrayFromImage(getattr(x.segmentation, name)) for x in (one, other)]
        assert np.array_equal(*arrays)
    without_time = [[(s.stage, s.loss, s.held_out_dice) for s in x.history] for x in (one, other)]
    assert without_time[0] == without_time[1]
    assert one.model.card.adaptation.held_out_dice == other.model.card.adaptation.held_out_dice


@pytest.mark.slow
@pytest.mark.parametrize("with_parent", [False, True])
@pytest.mark.parametrize("depth", ["head", "all"])
def test_what_was_stopped_ends_as_if_it_had_not_been(
    depth, with_parent, scan, annotation, parent, often, tmp_path
) -> None:
    model = parent if with_parent else None
    path = tmp_path / "checkpoint.safetensors"
    events: list[str] = []
    arguments = (scan, annotation, model, depth)
    whole = finetune(*arguments, progress=lambda e: events.append(e.stage), **QUICK)
    assert whole.model.card.adaptation.held_out_dice is not None
    # While the network or the first round is taught, and in the middle of another round.
    for moment in (4, events.count("finetune") // 2):
        path.unlink(missing_ok=True)
        left = [moment]

        def stop(event: ProgressEvent, left: list[int] = left) -> None:
            left[0] -= event.stage == "finetune"
            if left[0] <= 0:
                raise PlugPulledError

        with pytest.raises(PlugPulledError):
            finetune(*arguments, checkpoint=path, progress=stop, **QUICK)
        require_same(finetune(*arguments, checkpoint=path, resume=True, **QUICK), whole)
    assert path.exists()
    require_same(finetune(*arguments, checkpoint=path, resume=True, **QUICK), whole)


class TestRefused:
    @pytest.fixture
    def path(self, scan, annotation, tmp_path) -> Path:
        """A checkpoint of an adaptation that has ended."""
        path = tmp_path / "checkpoint.safetensors"
        finetune(scan, annotation, depth="head", checkpoint=path, **QUICK | {"iterations": 1})
        return path

    def refused(self, code: str, path: Path, scan, annotation, model=None, **changes) -> str:
        settings = QUICK | {"iterations": 1, "depth": "head", "resume": True} | changes
        before = path.read_bytes() if path.exists() else None
        with pytest.raises(InputError) as caught:
            finetune(scan, annotation, model, checkpoint=path, **settings)
        assert caught.value.code == code
        assert caught.value.hint
        assert before == (path.read_bytes() if path.exists() else None)
        return str(caught.value)

    def test_a_checkpoint_is_not_overwritten(self, path, scan, annotation) -> None:
        self.refused("checkpoint-exists", path, scan, annotation, resume=False)

    def test_none_is_there(self, tmp_path, scan, annotation) -> None:
        self.refused("checkpoint-missing", tmp_path / "none.safetensors", scan, annotation)

    @pytest.mark.parametrize(
        ("changes", "what"),
        [
            ({"seed": 1}, "seed"),
            ({"seconds": 30.0}, "number of seconds"),
            ({"iterations": 2}, "number of iterations"),
            ({"depth": "all"}, "depth"),
            ({"names": {1: "Other"}}, "set of names"),
        ],
    )
    def test_other_arguments(self, path, scan, annotation, changes, what) -> None:
        assert f"another {what}" in self.refused(
            "checkpoint-other", path, scan, annotation, **changes
        )

    def test_another_annotation_scan_or_model(self, path, scan, annotation, parent) -> None:
        other = annotation.copy()
        other.labels[0, 0, 0] = 1
        assert "annotation" in self.refused("checkpoint-other", path, scan, other)
        assert "scan" in self.refused("checkpoint-other", path, scan + 1.0, annotation)
        assert "model" in self.refused("checkpoint-other", path, scan, annotation, parent)

    @pytest.mark.parametrize("half", [True, False])
    def test_a_damaged_file(self, path, scan, annotation, half) -> None:
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2] if half else b"")
        self.refused("checkpoint-damaged", path, scan, annotation)

    def test_weights_of_another_kind(self, path, scan, annotation) -> None:
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        tensors = {k: v[..., :-1].contiguous() for k, v in load_file(path).items()}
        save_file(tensors, path, metadata=metadata)
        self.refused("checkpoint-damaged", path, scan, annotation)


def test_the_seconds_of_all_runs_count(scan, annotation, tmp_path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    settings = QUICK | {"iterations": 1, "depth": "head", "checkpoint": path}
    first = finetune(scan, annotation, seconds_used=100.0, **settings)
    again = finetune(scan, annotation, resume=True, seconds_used=7.0, **settings)
    assert again.model.card.adaptation.seconds > 107
    assert first.model.card.adaptation.seconds > 100


def digest(folder: Path) -> dict[str, str]:
    files = [folder] if folder.is_file() else sorted(f for f in folder.rglob("*") if f.is_file())
    return {str(f): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def finetune_of(folder: Path) -> tuple[object, ...]:
    return (
        "finetune", folder / "scan.nrrd", folder / "painted.nrrd", "--device", "cpu",
        "--seconds", 3600, "--iterations", 8,
    )  # fmt: skip


def command(folder: Path, *arguments: object) -> subprocess.Popen[str]:
    """``imbalanceseg finetune`` on one core: sums of several threads may be in another order."""
    environment = os.environ | {"PYTHONPATH": str(ENGINE), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "imbalanceseg", *map(str, (*finetune_of(folder), *arguments))],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("depth", ["head", "all"])
def test_sigkill_at_any_moment_leaves_everything_whole(depth, parent, tmp_path) -> None:
    # Large enough that there are checkpoints on the way, which are seconds apart.
    scan, truth = phantoms.phantom()
    sitk.WriteImage(scan, tmp_path / "scan.nrrd")
    save_annotation(phantoms.painted(truth, SLICES), tmp_path / "painted.nrrd")
    model = "none" if depth == "head" else parent.path
    arguments = ("--model", model, "--depth", depth, "--memory-gb", 2)
    given = [tmp_path / "scan.nrrd", tmp_path / "painted.nrrd", parent.path]
    before = [digest(one) for one in given]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    begun = time.monotonic()
    finished_here(*finetune_of(tmp_path), "-o", whole, *arguments)
    most = time.monotonic() - begun
    checkpoint = killed / "checkpoint.safetensors"
    resume: tuple[str, ...] = ()
    for _ in range(2):
        process = command(tmp_path, "-o", killed, *arguments, *resume)
        while not checkpoint.exists() and process.poll() is None:
            time.sleep(0.02)
        time.sleep(random.uniform(0, 0.5 * most))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert [digest(one) for one in given] == before
        if checkpoint.exists():
            load_file(checkpoint)
            resume = ("--resume",)
        else:
            # It was over before the moment came.
            resume = ()
    finished_here(*finetune_of(tmp_path), "-o", killed, *arguments, *resume)
    assert not checkpoint.exists()
    ends = [load_file(x / "model" / "models" / "model.safetensors") for x in (whole, killed)]
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())
    labels = [sitk.GetArrayFromImage(sitk.ReadImage(x / "labels.nrrd")) for x in (whole, killed)]
    assert np.array_equal(*labels)
    load_model(killed / "model").verify()
