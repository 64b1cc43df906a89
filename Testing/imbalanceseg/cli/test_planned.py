"""Models of several channels, several classes or two dimensions, from the command line."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from imbalanceseg.io import write_image
from imbalanceseg.models.card import NetworkSpec
from imbalanceseg.models.planned import planned_card
from imbalanceseg.models.write import write_bundle
from imbalanceseg.networks import create_network
from imbalanceseg.planning.imbalance import Sampling
from imbalanceseg.planning.plan import Plan
from imbalanceseg.preprocessing.intensity import Normalization

Run = Callable[..., subprocess.CompletedProcess[str]]


def bundle_of(folder: Path, dims: int, channels: int, outputs: int) -> Path:
    kwargs = {
        "in_channels": channels,
        "out_channels": outputs,
        "kernels": ((3,) * dims,) * 2,
        "strides": ((1,) * dims, (2,) * dims),
        "features": (8, 12),
    }
    classes = max(1, outputs - 1)
    plan = Plan(
        dataset="Test",
        preset="v2",
        channel_names=tuple(f"T{n + 1}" for n in range(channels)),
        labels={n: f"class {n}" for n in range(classes + 1)},
        axes=tuple(range(dims)),
        spacing_mm=(2.0, 1.0, 1.0)[-dims:],
        anisotropic=False,
        patch=(16, 32, 32)[-dims:],
        batch=2,
        network="nnunet",
        normalization=(Normalization(scheme="z-score"),) * channels,
        loss="dice_ce",
        loss_weight="none",
        sampling=Sampling(),
        reasons={},
        **{name: kwargs[name] for name in ("kernels", "strides", "features")},
    )
    torch.manual_seed(1)
    spec = NetworkSpec(name="nnunet", kwargs=kwargs)
    card = planned_card(plan, spec, name="test", recipe_name="default", cases=2)
    return write_bundle(folder, create_network("nnunet", **kwargs), card).path


@pytest.fixture(scope="module")
def two_channels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle_of(tmp_path_factory.mktemp("two") / "model", 3, 2, 3)


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle_of(tmp_path_factory.mktemp("flat") / "model", 2, 1, 1)


def test_two_channels_give_two_classes(
    run_cli: Run, scan: sitk.Image, scan_file: Path, two_channels: Path, tmp_path: Path
) -> None:
    write_image(scan * 2 + 30, tmp_path / "second.nrrd")
    out = tmp_path / "out"
    done = run_cli(
        "segment", scan_file, "--channel", tmp_path / "second.nrrd", "-m", two_channels, "-o", out
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((out / "report.json").read_text())
    assert [one["name"] for one in report["segments"]] == ["class 1", "class 2"]
    assert len(report["model"]["sha256_of_all"]) == 1
    labels = sitk.ReadImage(str(out / "labels.nrrd"))
    assert labels.GetSize() == scan.GetSize()
    assert set(np.unique(sitk.GetArrayFromImage(labels))) <= {0, 1, 2}


def test_a_missing_channel_is_told_of(
    run_cli: Run, scan_file: Path, two_channels: Path, tmp_path: Path
) -> None:
    done = run_cli("segment", scan_file, "-m", two_channels, "-o", tmp_path / "out")
    assert done.returncode == 2
    assert "error[channels-missing]" in done.stderr
    assert "--channel" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_2d_model_takes_a_picture(run_cli: Run, flat: Path, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 255, (50, 60, 3)).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(values, isVector=True), str(tmp_path / "a.png"))
    out = tmp_path / "out"
    done = run_cli("segment", tmp_path / "a.png", "-m", flat, "-o", out)
    assert done.returncode == 0, done.stderr
    assert sitk.ReadImage(str(out / "labels.nrrd")).GetSize() == (60, 50, 1)
    assert (out / "overview.png").is_file()


def test_a_2d_model_takes_a_volume(
    run_cli: Run, scan: sitk.Image, scan_file: Path, flat: Path, tmp_path: Path
) -> None:
    done = run_cli("segment", scan_file, "-m", flat, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    labels = sitk.ReadImage(str(tmp_path / "out" / "labels.nrrd"))
    assert labels.GetSize() == scan.GetSize()
