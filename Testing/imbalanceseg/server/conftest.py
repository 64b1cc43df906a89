"""A small scan, a small model, and engines as processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import SimpleITK as sitk

from imbalanceseg.client import EngineClient
from imbalanceseg.client.http import Connection
from imbalanceseg.geometry import Grid, image_from_array

GRID = Grid((40, 36, 24), (1.0, 1.0, 2.0), (-20.0, 5.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
COMMAND = [sys.executable, "-m", "imbalanceseg"]


def environment() -> dict[str, str]:
    """Of processes that import the tree under test."""
    import imbalanceseg

    folder = str(Path(imbalanceseg.__file__).parents[1])
    return {**os.environ, "PYTHONPATH": folder, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def scan() -> sitk.Image:
    """A bright ball in noise."""
    return make_scan(3)


def make_scan(seed: int, grid: Grid = GRID) -> sitk.Image:
    """A bright ball in noise."""
    rng = np.random.default_rng(seed)
    z, y, x = np.indices(grid.size[::-1])
    array = rng.normal(0, 30, grid.size[::-1])
    array[(2 * (z - 12)) ** 2 + (y - 18) ** 2 + (x - 20) ** 2 < 64] = 400
    return image_from_array(array.astype(np.int16), grid)


@pytest.fixture(scope="session")
def bundle(make_card: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two convolutions that finds what is bright, at once."""
    return write_bundle(make_card, tmp_path_factory.mktemp("models") / "bright", "bright", 32)


@pytest.fixture(scope="session")
def slow_bundle(make_card: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that finds nothing, in many small tiles, so that there is time to do something."""
    folder = tmp_path_factory.mktemp("models") / "slow"
    # its norms look at the whole tile, so that no other tiles can be taken
    return write_bundle(make_card, folder, "slow", 16, "instance", spacing_mm=(0.35, 0.35, 0.5))


def write_bundle(
    make_card: Callable[..., Any],
    folder: Path,
    name: str,
    tile: int,
    norm: str = "none",
    **changes: Any,
) -> Path:
    """A bundle of a small U-Net whose weights pass brightness on."""
    import torch

    from imbalanceseg.models.write import write_bundle as write
    from imbalanceseg.networks import create_network

    arguments = {"features": (1, 1), "norm": norm, "out_channels": 1}
    network = create_network("unet3d", **arguments)
    weights = dict(network.named_parameters())
    with torch.no_grad():
        for weight in weights.values():
            weight.zero_()
        for layer in ("down.0.0", "down.0.3", "merge.0.3"):
            weights[f"{layer}.weight"][0, 0, 1, 1, 1] = 1
        # of what comes from below, and what comes across, only the latter is not zero
        weights["merge.0.0.weight"][0, :, 1, 1, 1] = 1
        weights["head.weight"][0, 0] = 20
        weights["head.bias"][0] = -10
    card = make_card(
        name=name,
        modality="other",
        network={"name": "unet3d", "kwargs": arguments},
        channels=({"normalization": {"scheme": "range", "low": 0, "high": 400}},),
        tile_voxels=(tile, tile, tile),
        hardness={"kind": "entropy"},
        crop="none",
        window=None,
        **{"spacing_mm": (1.0, 1.0, 2.0), "threshold": 0.5} | changes,
    )
    return write(folder, network, card).path


class Engine:
    """``imbalanceseg serve`` in a process that can be killed and started again."""

    def __init__(self, folder: Path, arguments: tuple[str, ...]) -> None:
        self.folder, self._arguments = folder, arguments
        self.process: subprocess.Popen[str] | None = None
        self.url = self.token = ""

    def start(self, port: int = 0) -> Engine:
        self.log = (self.folder.parent / f"{self.folder.name}.log").open("a")
        self.process = subprocess.Popen(
            [
                *(*COMMAND, "serve", "--port", str(port), "--data", str(self.folder)),
                *("--parent-pid", str(os.getpid()), *self._arguments),
            ],
            stdout=subprocess.PIPE,
            stderr=self.log,
            env=environment(),
            text=True,
        )
        assert self.process.stdout is not None
        told = json.loads(self.process.stdout.readline())
        self.url = told["url"]
        self.token = Path(told["token_file"]).read_text().strip()
        return self

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def log_text(self) -> str:
        return Path(self.log.name).read_text()

    def kill(self, number: int = signal.SIGKILL) -> int:
        """End it, and return its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(timeout=20)

    def connection(self) -> Connection:
        return Connection(self.url, self.token)

    def client(self) -> EngineClient:
        return EngineClient.connect(self.url, self.token)

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.token}", **options.pop("headers", {})}
        return requests.request(method, self.url + path, headers=headers, timeout=60, **options)

    def info(self) -> dict[str, Any]:
        return self.request("GET", "/v1/info").json()

    def job(self, number: str) -> dict[str, Any]:
        return self.request("GET", f"/v1/jobs/{number}").json()

    def wait_for(self, what: Callable[[], Any], seconds: float = 60.0) -> Any:
        """The first value of ``what`` that counts as true."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if value := what():
                return value
            time.sleep(0.02)
        raise AssertionError(f"It did not happen within {seconds} s.\n{self.log_text}")

    def wait_until(self, number: str, *states: str, seconds: float = 60.0) -> dict[str, Any]:
        """A job, once it stands so."""

        def stands() -> dict[str, Any] | None:
            job = self.job(number)
            return job if job["state"] in states else None

        return self.wait_for(stands, seconds)


@pytest.fixture
def new_engine(tmp_path: Path, bundle: Path, slow_bundle: Path) -> Iterator[Callable[..., Engine]]:
    """Make engines that are gone at the end of the test."""
    engines: list[Engine] = []

    def make(*arguments: str, folder: str = "engine") -> Engine:
        models = ("--model", str(bundle), "--model", str(slow_bundle))
        engines.append(Engine(tmp_path / folder, (*models, *arguments)))
        return engines[-1].start()

    yield make
    for engine in engines:
        if engine.process is not None and engine.process.poll() is None:
            engine.kill()


@pytest.fixture(scope="module")
def engine(
    tmp_path_factory: pytest.TempPathFactory, bundle: Path, slow_bundle: Path
) -> Iterator[Engine]:
    """One engine for the tests of a module that leave it as it is."""
    folder = tmp_path_factory.mktemp("engine")
    models = ("--model", str(bundle), "--model", str(slow_bundle))
    kept = ("--models-folder", str(folder / "models"))
    engine = Engine(folder / "data", (*models, *kept)).start()
    yield engine
    engine.kill(signal.SIGTERM)


@pytest.fixture
def client(engine: Engine) -> Iterator[EngineClient]:
    """A client of that engine."""
    client = engine.client()
    yield client
    client.close()
