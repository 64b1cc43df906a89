"""``imbalanceseg segment``: from a scan to labels, maps, a picture and a report."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imbalanceseg.cli.console import ProgressStyle, print_json, print_table, show_progress
from imbalanceseg.cli.segment_folder import segment_folder
from imbalanceseg.privacy import case_title
from imbalanceseg.progress import ProgressCallback, ProgressEvent

if TYPE_CHECKING:
    from imbalanceseg.session import Session

KNOWN_MAPS = ("hardness", "attention", "attention-levels")


class Hardness(StrEnum):
    """Ways to make a hardness map."""

    PRUNING = "pruning"
    ENTROPY = "entropy"
    TTA = "tta"
    ENSEMBLE = "ensemble"


InputArgument = Annotated[
    Path,
    typer.Argument(
        metavar="INPUT", help="Image file, folder with a DICOM series, or folder of such cases."
    ),
]
ModelOption = Annotated[
    str, typer.Option("--model", "-m", metavar="M", help="Name or folder of a model.")
]
MapsOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAMES",
        help="hardness, attention, attention-levels or none; repeat it or separate by commas.",
    ),
]
OutputOption = Annotated[
    Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the results.")
]
ProgressOption = Annotated[
    ProgressStyle, typer.Option(help="bar on standard error, json lines on standard output, none.")
]


def split_names(values: Sequence[str]) -> tuple[str, ...]:
    """Names given one by one or with commas, each once, in their order."""
    names = (name.strip() for value in values for name in value.split(","))
    return tuple(dict.fromkeys(name for name in names if name))


def parse_maps(values: Sequence[str]) -> tuple[str, ...]:
    """Names of maps, given one by one or with commas; ``none`` stands for no map."""
    wanted = tuple(name for name in split_names(values) if name != "none")
    for name in wanted:
        if name not in KNOWN_MAPS:
            known = ", ".join((*KNOWN_MAPS, "none"))
            raise typer.BadParameter(f"there is no map {name!r}, choose from {known}")
    return wanted


def _parse_device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
        raise typer.BadParameter(f"{value!r} is none of auto, cpu, cuda, cuda:0, cuda:1, ...")
    return value


DeviceOption = Annotated[
    str,
    typer.Option(callback=_parse_device, metavar="auto|cpu|cuda[:N]", help="What to compute on."),
]

SeriesOption = Annotated[
    str | None,
    typer.Option(
        metavar="UID|WORDS",
        help="Which series of the DICOM folder: its UID, modality, or words of its description.",
    ),
]
ChannelOption = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="IMAGE", help="Further images, in order, for a model of several; repeat it."
    ),
]
MemoryOption = Annotated[
    float | None,
    typer.Option(metavar="GB", help="Memory to take beside the scan; most of what is free."),
]


def segment(
    scan: InputArgument,
    output: OutputOption,
    model: ModelOption,
    maps: MapsOption = None,
    device: DeviceOption = "auto",
    dicom_seg: Annotated[
        bool, typer.Option("--dicom-seg", help="Also write a DICOM Segmentation.")
    ] = False,
    series: SeriesOption = None,
    channel: ChannelOption = None,
    hardness: Annotated[
        Hardness | None,
        typer.Option(help="How the hardness map is made; the model's own way if not given."),
    ] = None,
    tta: Annotated[
        bool, typer.Option("--tta", help="Average over mirrored copies: better, and slower.")
    ] = False,
    exact: Annotated[
        bool, typer.Option("--exact", help="Look closely everywhere, not only where it pays.")
    ] = False,
    without: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STEPS",
            help="Post-processing to leave out: hysteresis, fill_holes, cut_leaks, largest, small.",
        ),
    ] = None,
    memory_gb: MemoryOption = None,
    progress: ProgressOption = ProgressStyle.BAR,
) -> None:
    """Segment a scan, or all cases of a folder.

    Writes labels.nrrd (opens in 3D Slicer as a segmentation), the maps, overview.png,
    report.json and, when asked, segmentation.dcm. Of a folder of cases, each gets a folder, and
    cases.csv tells what became of it; the same command again does what is missing.
    """
    from imbalanceseg.cohort_cases import image_files, is_folder_of_cases

    settings: dict[str, Any] = {
        "maps": parse_maps(maps if maps is not None else ["hardness"]),
        "hardness": hardness.value if hardness else None,
        "tta": tta,
        "exact": exact,
        "without": split_names(without or ()),
        "memory_gb": memory_gb,
    }
    if series is None and not channel and is_folder_of_cases(scan):
        if not segment_folder(
            scan, model, output, settings, device=device, dicom_seg=dicom_seg, style=progress
        ):
            raise typer.Exit(1)
        return
    start = time.perf_counter()
    with show_progress(progress) as tell:
        session, files = run_segment(
            scan,
            model,
            output,
            settings,
            device=device,
            dicom_seg=dicom_seg,
            series=series,
            channels=channel or (),
            tell=tell,
        )
    print_result(session, files, time.perf_counter() - start, progress, dicom_seg)
    if scan.is_dir() and progress is not ProgressStyle.JSON:
        _tell_of_others(image_files(scan))


def _tell_of_others(images: Sequence[Path]) -> None:
    """Say so where image files lie beside the slices of a series: they may be cases, too."""
    from imbalanceseg.session import RESULT_FILES

    names = [path.name for path in images if path.name not in RESULT_FILES]
    if names:
        print(f"note: the DICOM series was segmented, not the image files beside it ({names[0]}).")


def run_segment(
    scan: Path,
    model_name: str,
    output: Path,
    settings: Mapping[str, Any],
    *,
    device: str,
    dicom_seg: bool,
    series: str | None,
    channels: Sequence[Path] = (),
    tell: ProgressCallback,
) -> tuple[Session, list[Path]]:
    """The main job: everything that can be refused is refused before the long work begins."""
    from imbalanceseg.models.bundle import load_model
    from imbalanceseg.session import Session, output_folder

    model = load_model(model_name)
    model.verify()
    tell(ProgressEvent("read", 0, 1, case_title(scan.name)))
    session = Session.open(scan, series, channels, model)
    tell(ProgressEvent("read", 1, 1, session.name))
    if dicom_seg:
        session.require_dicom()
    with output_folder(output):
        session.segment(model, device=device, progress=tell, **settings)
        files = session.write(output, dicom_seg=dicom_seg, progress=tell)
    return session, files


def print_result(
    session: Session, files: Sequence[Path], seconds: float, style: ProgressStyle, dicom_seg: bool
) -> None:
    """The summary for people, or one last JSON line for programs."""
    from imbalanceseg.reporting.report import NOT_FOR_CLINICAL_USE
    from imbalanceseg.reporting.statistics import segment_statistics

    result = session.result
    assert result is not None
    statistics = segment_statistics(result.labels, result.segments, result.hardness)
    if style is ProgressStyle.JSON:
        print_json(_summary(files, statistics, result.notes, seconds))
        return
    rows = [("segment", "voxels", "volume", "pieces")]
    for one in statistics:
        rows.append((one.name, f"{one.voxels:,}", f"{one.volume_ml:.2f} ml", f"{one.components}"))
    print_table(rows)
    for note in result.notes:
        print(f"note: {note}")
    if dicom_seg and not any(file.name == "segmentation.dcm" for file in files):
        print("note: segmentation.dcm was not written, there is nothing to put into it.")
    print(f"\nDone in {seconds:.1f} s on {result.device} with {result.backend}. The results:")
    for file in files:
        print(f"  {file}")
    print(f"\n{NOT_FOR_CLINICAL_USE}")


def _summary(
    files: Sequence[Path], statistics: Sequence[Any], notes: Sequence[str], seconds: float
) -> dict[str, Any]:
    return {
        "stage": "finished",
        "done": 1,
        "total": 1,
        "files": [str(file) for file in files],
        "segments": [
            {
                "name": one.name,
                "voxels": one.voxels,
                "volume_ml": one.volume_ml,
                "components": one.components,
            }
            for one in statistics
        ],
        "notes": list(notes),
        "seconds": seconds,
    }
