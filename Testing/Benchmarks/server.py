"""The engine as a server: what a click costs beyond the click, how fast a scan arrives, memory.

    python Testing/Benchmarks/server.py clicks MODEL [--side 256] [--clicks 30]
    python Testing/Benchmarks/server.py upload
    python Testing/Benchmarks/server.py memory MODEL [--jobs 200] [--plot FILE]

Each starts an engine of its own in a temporary folder and talks to it through the client, over
loopback. MODEL is the folder of a bundle that is quick.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import psutil
import SimpleITK as sitk
import typer

from imbalanceseg.client import EngineClient
from imbalanceseg.nrrd_stream import case_id, voxel_chunks

app = typer.Typer(pretty_exceptions_enable=False)


@contextmanager
def engine(*arguments: str) -> Iterator[tuple[EngineClient, Path]]:
    """A client with an engine of its own, and the folder the engine works in."""
    with tempfile.TemporaryDirectory(prefix="imbalanceseg-") as folder:
        data = Path(folder) / "data"
        client = EngineClient.start(
            [sys.executable, "-m", "imbalanceseg"], data, dict(os.environ), arguments
        )
        try:
            client.hello().wait(120)
            yield client, data
        finally:
            client.close()


def balls(side: int, seed: int = 0) -> sitk.Image:
    """Bright balls in noise, a cube of int16 with voxels of 1 mm."""
    draw = np.random.default_rng(seed)
    array = draw.normal(0, 20, (side,) * 3).astype(np.int16)
    z, y, x = np.ogrid[:24, :24, :24]
    ball = (z - 12) ** 2 + (y - 12) ** 2 + (x - 12) ** 2 < 100
    for start in draw.integers(0, side - 24, (12, 3)):
        array[tuple(slice(n, n + 24) for n in start)][ball] = 400
    return sitk.GetImageFromArray(array)


def show(figures: dict[str, Any]) -> None:
    """As JSON."""
    print(json.dumps(figures, indent=1))


@app.command()
def clicks(
    model: Path,
    side: Annotated[int, typer.Option(min=48)] = 256,
    number: Annotated[int, typer.Option("--clicks", min=1)] = 30,
) -> None:
    """Round trips of clicks, less what the engine itself takes."""
    scan = balls(side)
    name = json.loads((model / "configs" / "metadata.json").read_text())["imbalanceseg"]["name"]
    draw = np.random.default_rng(1)
    with engine("--model", str(model)) as (client, _):
        case = client.upload(scan).wait(60)
        base = client.segment(case, name, maps=[], device="cpu").wait(600).job
        client.click(case, base, (4.0, 4.0, 4.0), 1, device="cpu").wait(600)
        trips, own, changed = [], [], []
        for _ in range(number):
            point = [float(n) for n in draw.integers(20, side - 20, 3)]
            begun = time.perf_counter()
            result = client.click(case, base, point, 1, device="cpu").wait(60)
            trips.append(time.perf_counter() - begun)
            own.append(result.outcome["seconds"])
            changed.append(result.outcome["changed_voxels"])
            base = result.job
    over = [1000 * (trip - engines) for trip, engines in zip(trips, own, strict=True)]
    show(
        {
            "side": side,
            "clicks": number,
            "round_trip_ms": round(1000 * median(trips), 1),
            "engine_ms": round(1000 * median(own), 1),
            "overhead_ms": round(median(over), 1),
            "worst_overhead_ms": round(max(over), 1),
            "changed_voxels": int(median(changed)),
        }
    )


@app.command()
def upload() -> None:
    """A scan of 512 x 512 x 600 int16, against the disk's own speed."""
    draw = np.random.default_rng(0)
    slices = draw.normal(-600, 200, (8, 512, 512)).astype(np.int16)
    scan = sitk.GetImageFromArray(np.concatenate([slices] * 75))
    size = scan.GetNumberOfPixels() * 2 / 2**20
    with engine() as (client, data):
        begun = time.perf_counter()
        with (data / "plain").open("wb") as stream:
            for chunk in voxel_chunks([scan]):
                stream.write(chunk)
            stream.flush()
            os.fsync(stream.fileno())
        disk = time.perf_counter() - begun
        (data / "plain").unlink()
        begun = time.perf_counter()
        case_id([scan])
        address = time.perf_counter() - begun
        begun = time.perf_counter()
        client.upload(scan).wait(600)
        first = time.perf_counter() - begun
        begun = time.perf_counter()
        client.upload(scan).wait(600)
        second = time.perf_counter() - begun
    show(
        {
            "mib": round(size),
            "disk_seconds": round(disk, 2),
            "address_seconds": round(address, 2),
            "upload_seconds": round(first, 2),
            "again_seconds": round(second, 2),
            "upload_mib_per_second": round(size / first),
        }
    )


@app.command()
def memory(
    model: Path,
    jobs: Annotated[int, typer.Option(min=10)] = 200,
    plot: Annotated[Path | None, typer.Option()] = None,
) -> None:
    """Memory of the server and its workers over many jobs of all kinds."""
    name = json.loads((model / "configs" / "metadata.json").read_text())["imbalanceseg"]["name"]
    scans = [balls(96, seed) for seed in range(3)]
    rows: list[dict[str, float]] = []
    with engine("--model", str(model)) as (client, _):
        base = ""
        for number in range(jobs):
            scan = scans[number // 5 % 3]
            if number % 5 == 0:
                base = client.segment(scan, name, device="cpu").wait(300).job
            elif number % 5 == 4:
                client.suggest(scan, base).wait(300)
            else:
                point = (20.0 + number % 50, 30.0, 40.0)
                base = client.click(scan, base, point, number % 2, device="cpu").wait(300).job
            rows.append(_memory())
    keys = ("server", "long worker", "quick worker")
    half = rows[len(rows) // 2 :]
    growth = {key: round(half[-1].get(key, 0) - half[0].get(key, 0), 1) for key in keys}
    show({"jobs": jobs, "last_mib": rows[-1], "growth_over_second_half_mib": growth})
    if plot is not None:
        _plot(rows, keys, plot)


def _memory() -> dict[str, float]:
    """Resident MiB of each process of the engine."""
    (server,) = [p for p in psutil.Process().children() if "serve" in p.cmdline()]
    workers = [p for p in server.children() if any("spawn_main" in w for w in p.cmdline())]
    workers.sort(key=lambda p: p.create_time())
    found = zip(("server", "long worker", "quick worker"), [server, *workers], strict=False)
    return {name: round(process.memory_info().rss / 2**20, 1) for name, process in found}


def _plot(rows: list[dict[str, float]], keys: tuple[str, ...], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
    for key in keys:
        axes.plot([row.get(key, np.nan) for row in rows], label=key)
    axes.set(xlabel="jobs", ylabel="resident memory, MiB", ylim=(0, None))
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    app()
