"""A small scan, a small real model, and the command line as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from imbalanceseg.dicom.series import write_dicom_series
from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.io import write_image

GRID = Grid((48, 44, 24), (1.0, 1.0, 2.0), (-24.0, -22.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
Run = Callable[..., subprocess.CompletedProcess[str]]


def command() -> list[str]:
    """The program and its leading arguments."""
    return [sys.executable, "-m", "imbalanceseg"]


def environment() -> dict[str, str]:
    """The environment of a process that imports the tree under test."""
    import imbalanceseg

    folder = str(Path(imbalanceseg.__file__).parents[1])
    return {**os.environ, "PYTHONPATH": folder, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def run_cli() -> Run:
    """Run ``imbalanceseg`` in a process of its own, without a terminal."""

    def run(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command(), *map(str, arguments)],
            capture_output=True,
            text=True,
            env=environment(),
            cwd=cwd,
            timeout=240,
        )

    return run


@pytest.fixture(scope="session")
def process_environment() -> dict[str, str]:
    """The environment for tests that start the program themselves."""
    return environment()


@pytest.fixture
def signalled(process_environment: dict[str, str]) -> Callable[..., tuple[int, str]]:
    """Start the program, signal it in the middle of its tiles: return code and standard error."""

    def run(number: int, *arguments: object) -> tuple[int, str]:
        child = subprocess.Popen(
            [*command(), *map(str, arguments), "--progress", "json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=process_environment,
        )
        assert child.stdout is not None
        for line in child.stdout:
            event = json.loads(line)
            if event["stage"] == "tiles" and event["done"] >= 1:
                assert event["done"] < event["total"] - 1, "too late to stop it"
                break
        child.send_signal(number)
        _, errors = child.communicate(timeout=60)
        return child.returncode, errors

    return run


@pytest.fixture(scope="session")
def scan() -> sitk.Image:
    """Noise around -800 HU with a bright ball, 48 x 44 x 24 voxels."""
    rng = np.random.default_rng(11)
    z, y, x = np.indices(GRID.size[::-1])
    array = rng.normal(-800, 60, GRID.size[::-1])
    array[(2 * (z - 12)) ** 2 + (y - 22) ** 2 + (x - 24) ** 2 < 81] = 40
    return image_from_array(array.astype(np.int16), GRID)


@pytest.fixture(scope="session")
def scan_file(scan: sitk.Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scan") / "scan.nii.gz"
    write_image(scan, path)
    return path


@pytest.fixture(scope="session")
def series(scan: sitk.Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dicom") / "series"
    write_dicom_series(scan, folder)
    return folder


@pytest.fixture(scope="session")
def write_random_bundle(
    make_card: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int], Path]:
    """Write a bundle with random weights whose threshold lets something through."""

    def write(tile: int) -> Path:
        import torch

        from imbalanceseg.models.write import write_bundle
        from imbalanceseg.networks import create_network

        torch.manual_seed(3)
        card = make_card(spacing_mm=(1.5, 1.5, 1.5), tile_voxels=(tile, tile, tile), threshold=0.01)
        folder = tmp_path_factory.mktemp("models") / "test-airway"
        return write_bundle(folder, create_network("wingsnet"), card).path

    return write


@pytest.fixture(scope="session")
def bundle(write_random_bundle: Callable[[int], Path]) -> Path:
    """A model that takes the whole way."""
    return write_random_bundle(48)


@pytest.fixture(scope="session")
def slow_bundle(write_random_bundle: Callable[[int], Path]) -> Path:
    """The same model with tiny tiles, so that there is time to stop it."""
    return write_random_bundle(16)
