"""Airway segmentation by a model and by region growing, on the same images, in one table.

    python Testing/Benchmarks/airway.py --ricord FOLDER --reference MASK --model airway
    python Testing/Benchmarks/airway.py --synthetic-masks FOLDER --patient 4 --images 5

Each method runs in a process of its own, so that its peak memory is its own. Scores count below
the larynx. A reference made by region growing ends where region growing ends: against it only the
length detected says something about a method that sees more; precision and Dice do not.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import SimpleITK as sitk
from rich.console import Console
from rich.table import Table

from imbalanceseg.atomic import atomic_path
from imbalanceseg.errors import ImbalanceSegError
from imbalanceseg.io import read_image, write_image
from imbalanceseg.metrics.airway import AirwayScore, airway_score
from imbalanceseg.metrics.larynx import below_larynx


@dataclass(frozen=True)
class Row:
    """One method on one image.

    Attributes:
        image: name of the image.
        method: ``"region growing"`` or the model's name.
        seconds: wall time from the image in memory to the labels in memory, model loading included.
        peak_mib: largest resident memory of the process, in MiB.
        gpu_mib: largest memory held by torch on the GPU, in MiB; 0 on a CPU.
        score: the figures below the larynx; None when the method failed.
        failure: why it failed; empty otherwise.
    """

    image: str
    method: str
    seconds: float
    peak_mib: float
    gpu_mib: float
    score: AirwayScore | None
    failure: str = ""


@dataclass(frozen=True)
class Run:
    """What a method's own process hands back."""

    seconds: float
    peak_mib: float
    gpu_mib: float
    failure: str = ""


def run_model(image: Path, labels: Path, model: str, device: str) -> Run:
    """Segment with a model in this process; the labels go to a file."""
    import torch

    from imbalanceseg import load_model, segment

    def method(ct: sitk.Image) -> sitk.Image:
        return segment(ct, load_model(model), device=device, maps=()).labels

    run = _measured(method, image, labels)
    if not torch.cuda.is_available():
        return run
    gpu_mib = torch.cuda.max_memory_allocated() / 2**20
    return Run(run.seconds, run.peak_mib, gpu_mib, run.failure)


def run_region_growing(image: Path, labels: Path) -> Run:
    """Segment by region growing in this process; the labels go to a file."""
    from region_growing import grow_airways

    return _measured(lambda ct: grow_airways(ct).labels, image, labels)


def _measured(method: Callable[[sitk.Image], sitk.Image], image: Path, labels: Path) -> Run:
    from region_growing import NoTracheaError

    ct = read_image(image)
    began = time.perf_counter()
    failure = ""
    try:
        found = method(ct)
    except (ImbalanceSegError, NoTracheaError) as error:
        failure = str(error)
    seconds = time.perf_counter() - began
    if not failure:
        write_image(found, labels)
    return Run(seconds, _peak_mib(), 0.0, failure)


def _peak_mib() -> float:
    """Largest resident memory of this process; NaN where the system does not say.

    Not ``getrusage``: its figure of a new process begins with that of the process it came from.
    """
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii").splitlines() if status.exists() else []
    kib = [float(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return kib[0] / 1024 if kib else float("nan")


def images(arguments: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Path, sitk.Image]]:
    """Name, where the CT lies, and the reference of every image asked for."""
    if arguments.ricord:
        yield arguments.ricord.name, arguments.ricord, read_image(arguments.reference)
    if not arguments.synthetic_masks:
        return
    from imbalanceseg.synthesis.airway import render_case

    for seed in range(arguments.seed, arguments.seed + arguments.images):
        ct, reference = render_case(arguments.synthetic_masks, arguments.patient, seed)
        path = folder / f"patient{arguments.patient}_seed{seed}.nrrd"
        write_image(ct, path)
        yield path.stem, path, reference


def compare(
    name: str, image: Path, reference: sitk.Image, arguments: argparse.Namespace, folder: Path
) -> Iterator[Row]:
    """Run every method on one image and score it."""
    region = below_larynx(reference)
    calls: dict[str, tuple[Any, ...]] = {
        "region growing": (run_region_growing,),
        arguments.model: (run_model, arguments.model, arguments.device),
    }
    for method, (function, *more) in calls.items():
        labels = folder / "labels.nrrd"
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            run = process.submit(function, image, labels, *more).result()
        score = None
        if not run.failure:
            score = airway_score(read_image(labels), reference, region)
        yield Row(name, method, run.seconds, run.peak_mib, run.gpu_mib, score, run.failure)


def table(rows: list[Row]) -> Table:
    """The rows for people."""
    result = Table(title="Airway segmentation, scored below the larynx")
    for heading in ("image", "method"):
        result.add_column(heading)
    for heading in (
        "length\ndetected",
        "branches\ndetected",
        "precision",
        "Dice",
        "leakage\nmm³",
        "time\ns",
        "peak\nMiB",
        "GPU\nMiB",
    ):
        result.add_column(heading, justify="right")
    for row in rows:
        result.add_row(row.image, row.method, *_cells(row))
    return result


def _cells(row: Row) -> list[str]:
    costs = [f"{row.seconds:.1f}", f"{row.peak_mib:.0f}", f"{row.gpu_mib:.0f}"]
    score = row.score
    if score is None:
        return ["failed", "", "", "", "", *costs]
    branches = f"{score.detected_branches}/{score.reference_branches}"
    return [
        f"{score.length_detected:.3f}",
        f"{score.branch_detected:.3f} ({branches})",
        f"{score.precision:.3f}",
        f"{score.dice_largest:.3f}",
        f"{score.leakage_mm3:.0f}",
        *costs,
    ]


def parsed() -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ricord", type=Path, help="CT file, or folder with one DICOM series")
    parser.add_argument("--reference", type=Path, help="airway mask on the grid of that CT")
    parser.add_argument("--synthetic-masks", type=Path, help="folder of label maps to render CT of")
    parser.add_argument("--patient", type=int, default=4, help="whose label maps (default 4)")
    parser.add_argument("--images", type=int, default=3, help="how many CT to render (default 3)")
    parser.add_argument("--seed", type=int, default=1000, help="seed of the first (default 1000)")
    parser.add_argument("--model", default="airway", help="name or folder of a model")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    if bool(arguments.ricord) != bool(arguments.reference):
        parser.error("--ricord and --reference belong together")
    if not (arguments.ricord or arguments.synthetic_masks):
        parser.error("give --ricord with --reference, or --synthetic-masks, or both")
    return arguments


def main() -> None:
    arguments = parsed()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for image, path, reference in images(arguments, folder):
            rows.extend(compare(image, path, reference, arguments, folder))
    Console(width=120).print(table(rows))
    for row in rows:
        if row.failure:
            print(f"{row.image}, {row.method}: {row.failure}")
    text = json.dumps([asdict(row) for row in rows], indent=2)
    print(text)
    if arguments.json:
        with atomic_path(arguments.json) as path:
            path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
