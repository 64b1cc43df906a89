"""Time and memory of writing a large DICOM Segmentation, beside dcmqi's itkimage2segimage.

    python Testing/Benchmarks/dicom_seg.py FOLDER [--size 512 512 600] [--rounds 3]

FOLDER receives the series and its labels, about 350 MB, once. Both programs are processes of their
own and take turns; what they write is read by highdicom and compared with the labels. Three
segments: a body that fills most slices, two lungs in it, and scattered lesions.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import SimpleITK as sitk
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from imbalanceseg.dicom.seg import write_dicom_seg
from imbalanceseg.dicom.seg_reading import read_dicom_seg
from imbalanceseg.dicom.segments_file import read_segments_file
from imbalanceseg.dicom.series import write_dicom_series
from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.io import read_image, write_image, write_json

_NAMES = ("Body", "Lung", "Lesion")
_CODE = {"CodeValue": "85756007", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Tissue"}

# A process inherits the peak memory of the one that starts it, so a small one does.
_STARTER = """
import json, os, sys, time
began = time.perf_counter()
_, status, usage = os.wait4(os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ), 0)
print(json.dumps([time.perf_counter() - began, usage.ru_maxrss]))
sys.exit(status != 0)
"""


def phantom(size: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Labels ``[z, y, x]`` of an ellipse all along, two lungs, and 400 small balls in them."""
    nx, ny, nz = size
    z, y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in (nz, ny, nx))
    z, y, x = np.meshgrid(z, y, x, indexing="ij", sparse=True)
    labels = np.where(x**2 + (1.4 * y) ** 2 < 0.8, 1, 0).astype(np.uint8) + (z * 0).astype(np.uint8)
    for side in (-0.4, 0.4):
        labels[((x - side) / 0.3) ** 2 + (y / 0.45) ** 2 + (z / 0.8) ** 2 < 1] = 2
    inside = np.argwhere(labels == 2)
    reach = 3
    for centre in inside[np.random.default_rng(0).integers(len(inside), size=400)]:
        labels[tuple(slice(max(0, c - reach), c + reach + 1) for c in centre)] = 3
    return labels


def prepared(folder: Path, size: tuple[int, int, int]) -> tuple[Path, Path, Path]:
    """Series, labels and description of the segments."""
    series, labels, about = folder / "series", folder / "labels.nrrd", folder / "segments.json"
    if not about.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        axes = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
        grid = Grid(size, (0.7, 0.7, 0.6), (-179.0, -179.0, -180.0), axes)
        image = image_from_array(phantom(size), grid)
        write_dicom_series(sitk.Cast(image, sitk.sitkInt16) * 100, series, seed="benchmark")
        write_image(image, labels)
        attributes = [
            {
                "labelID": number,
                "SegmentDescription": name,
                "SegmentLabel": name,
                "SegmentAlgorithmType": "MANUAL",
                "SegmentedPropertyCategoryCodeSequence": _CODE,
                "SegmentedPropertyTypeCodeSequence": _CODE,
                "recommendedDisplayRGBValue": [200, 50 * number, 0],
            }
            for number, name in enumerate(_NAMES, start=1)
        ]
        described = {
            "ContentCreatorName": "Benchmark",
            "ClinicalTrialSeriesID": "1",
            "ClinicalTrialTimePointID": "1",
            "SeriesDescription": "Benchmark",
            "SeriesNumber": "300",
            "InstanceNumber": "1",
            "segmentAttributes": [attributes],
        }
        write_json(about, described)
    return series, labels, about


def measured(command: list[str]) -> tuple[float, float]:
    """Seconds and peak MiB of a process."""
    done = subprocess.run([sys.executable, "-c", _STARTER, *command], capture_output=True)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed:\n{done.stderr.decode(errors='replace')[-2000:]}")
    seconds, kib = json.loads(done.stdout.splitlines()[-1])
    return seconds, kib / 1024


def main(
    folder: Annotated[Path, typer.Argument(help="Receives series, labels and segmentations.")],
    size: Annotated[tuple[int, int, int], typer.Option(help="Columns, rows, slices.")] = (
        512,
        512,
        600,
    ),
    rounds: Annotated[int, typer.Option(min=1)] = 3,
) -> None:
    """Write with both, compare, and tell the medians and their ratio."""
    series, labels, about = prepared(folder, size)
    dcmqi = Path(sys.executable).with_name("itkimage2segimage")
    written = {"imbalanceseg": folder / "ours.dcm", "dcmqi": folder / "dcmqi.dcm"}
    commands = {
        "imbalanceseg": [
            *(sys.executable, "-m", "imbalanceseg", "dicom-seg", str(labels), str(series)),
            *("-o", str(written["imbalanceseg"]), "--segments", str(about)),
            *("--made-by", "manual"),
        ],
        "dcmqi": [
            *(str(dcmqi), "--inputImageList", str(labels), "--inputDICOMDirectory", str(series)),
            *("--outputDICOM", str(written["dcmqi"]), "--inputMetadata", str(about)),
        ],
    }
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    running: list[float] = []
    for _ in range(rounds):
        for name, command in commands.items():
            figures[name].append(measured(command))
        began = time.perf_counter()
        write_dicom_seg(
            read_image(labels), series, folder / "running.dcm", read_segments_file(about)
        )
        running.append(time.perf_counter() - began)
    truth = sitk.GetArrayFromImage(sitk.ReadImage(str(labels)))
    table = Table("program", "seconds", "peak MiB", "file MiB", "same voxels")
    for name, path in written.items():
        ((found, _),) = read_dicom_seg(path).layers()
        same = bool(np.array_equal(sitk.GetArrayFromImage(found), truth))
        seconds, peak = (median(column) for column in zip(*figures[name], strict=True))
        size_mib = path.stat().st_size / 2**20
        table.add_row(name, f"{seconds:.1f}", f"{peak:.0f}", f"{size_mib:.1f}", str(same))
        write_json(folder / f"{name}.json", [list(row) for row in figures[name]])
    Console(width=100).print(table)
    ours, theirs = (median(row[0] for row in figures[name]) for name in commands)
    ratios = {"command": ours / theirs, "in a process that runs already": median(running) / theirs}
    print("seconds over dcmqi's:", json.dumps({k: round(v, 3) for k, v in ratios.items()}))


if __name__ == "__main__":
    typer.run(main)
