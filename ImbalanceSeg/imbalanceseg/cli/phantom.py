"""``imbalanceseg phantom``: one scan whose exact labels are known, or a training set of them."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imbalanceseg.cli.console import ProgressStyle, show_progress
from imbalanceseg.cli.segment import OutputOption
from imbalanceseg.errors import InputError, OutputError
from imbalanceseg.labels import AIRWAY_TREE, LESION, TUMOR, SegmentInfo
from imbalanceseg.progress import ProgressEvent

if TYPE_CHECKING:
    import SimpleITK as sitk

    Maker = Callable[[int], tuple[sitk.Image, sitk.Image]]

app = typer.Typer(
    help="Make scans whose exact labels are known.", no_args_is_help=True, rich_markup_mode=None
)

_CASE_ENDING = ".nii.gz"


class Kind(StrEnum):
    """Tumours that can be made."""

    SCHWANNOMA = "schwannoma"
    GLIOMA = "glioma"
    METASTASIS = "metastasis"


class Weighting(StrEnum):
    """MR contrasts that tumours can be made in."""

    T1C = "T1c"
    T2 = "T2"
    FLAIR = "FLAIR"


SeedOption = Annotated[int, typer.Option(min=0, help="Same seed, same phantom.")]
DifficultyOption = Annotated[
    float,
    typer.Option(min=0, max=1, metavar="D", help="0 is plainly visible, 1 barely visible."),
]
CasesOption = Annotated[
    int,
    typer.Option(
        min=1,
        metavar="N",
        help="More than 1: an nnU-Net v2 folder of this many, with the seeds that follow.",
    ),
]


@app.command()
def airway(
    output: OutputOption,
    seed: SeedOption = 0,
    difficulty: DifficultyOption = 0.5,
    spacing: Annotated[
        float, typer.Option(min=0.4, max=4.0, metavar="MM", help="Distance of voxels.")
    ] = 0.8,
    cases: CasesOption = 1,
    dicom: Annotated[bool, typer.Option("--dicom", help="Also write a DICOM series.")] = False,
) -> None:
    """Make a chest CT with a bronchial tree: image.nrrd and labels.nrrd."""
    from imbalanceseg.synthesis.airway import chest_phantom

    if dicom and cases > 1:
        raise InputError(
            "dicom-of-many-cases",
            "A DICOM series is written for one phantom, and a training set was asked for.",
            "Leave out --dicom or --cases.",
        )

    def make(seed: int) -> tuple[sitk.Image, sitk.Image]:
        return chest_phantom(seed, spacing_mm=spacing, difficulty=difficulty)

    _write(output, make, seed, cases, AIRWAY_TREE, "airway", "CT", dicom)


@app.command()
def tumor(
    output: OutputOption,
    seed: SeedOption = 0,
    kind: Annotated[Kind, typer.Option(help="What grows.")] = Kind.SCHWANNOMA,
    contrast: Annotated[
        Weighting, typer.Option(help="T1 after contrast agent, T2 or FLAIR.")
    ] = Weighting.T1C,
    difficulty: DifficultyOption = 0.5,
    spacing: Annotated[
        float, typer.Option(min=0.4, max=4.0, metavar="MM", help="Pixel size in a slice.")
    ] = 0.8,
    slices: Annotated[
        float, typer.Option(min=0.4, max=10.0, metavar="MM", help="Distance of slices.")
    ] = 3.0,
    cases: CasesOption = 1,
) -> None:
    """Make an MR of a head with a tumour, in thick slices: image.nrrd and labels.nrrd."""
    from imbalanceseg.synthesis.tumor import tumor_phantom

    def make(seed: int) -> tuple[sitk.Image, sitk.Image]:
        voxel = (spacing, spacing, slices)
        return tumor_phantom(seed, kind.value, contrast.value, voxel, difficulty=difficulty)

    _write(output, make, seed, cases, TUMOR, kind.value, contrast.value)


@app.command()
def lesion(
    output: OutputOption,
    seed: SeedOption = 0,
    difficulty: DifficultyOption = 0.5,
    spacing: Annotated[
        float, typer.Option(min=0.6, max=4.0, metavar="MM", help="Distance of voxels.")
    ] = 1.0,
    skull: Annotated[bool, typer.Option("--skull", help="Leave skull and skin on.")] = False,
    cases: CasesOption = 1,
) -> None:
    """Make a FLAIR with many small lesions: image.nrrd and labels.nrrd."""
    from imbalanceseg.synthesis.lesions import lesion_phantom

    def make(seed: int) -> tuple[sitk.Image, sitk.Image]:
        return lesion_phantom(seed, spacing, difficulty=difficulty, brain_only=not skull)

    _write(output, make, seed, cases, LESION, "lesion", "FLAIR")


def _write(
    output: Path,
    make: Maker,
    seed: int,
    cases: int,
    segment: SegmentInfo,
    task: str,
    channel: str,
    dicom: bool = False,
) -> None:
    from imbalanceseg.session import output_folder

    with output_folder(output):
        if cases > 1:
            written = _write_training_set(output, make, seed, cases, task, channel)
        else:
            written = _write_phantom(output, make, seed, segment, task, dicom)
    for path in written:
        print(path)


def _write_phantom(
    output: Path, make: Maker, seed: int, segment: SegmentInfo, task: str, dicom: bool
) -> list[Path]:
    from imbalanceseg.dicom.series import write_dicom_series
    from imbalanceseg.io import write_image
    from imbalanceseg.reporting.slicer_labels import slicer_labels

    image, labels = make(seed)
    written = [output / "image.nrrd", output / "labels.nrrd"]
    write_image(image, written[0])
    write_image(slicer_labels(labels, (segment,), f"ImbalanceSeg phantom {seed}"), written[1])
    if dicom:
        written.append(output / "series")
        write_dicom_series(image, written[-1], description=f"ImbalanceSeg {task} phantom {seed}")
    return written


def _write_training_set(
    output: Path, make: Maker, seed: int, cases: int, task: str, channel: str
) -> list[Path]:
    """An nnU-Net v2 folder; its description comes last, so that a stopped run is not taken for one.

    Raises:
        OutputError: cases of another run lie in the folder, which nnU-Net would take for its own.
    """
    from imbalanceseg.io import write_image, write_json

    images, labels = output / "imagesTr", output / "labelsTr"
    names = {number: f"{task}_{number:04d}" for number in range(seed, seed + cases)}
    _require_no_others(images, {f"{name}_0000{_CASE_ENDING}" for name in names.values()})
    _require_no_others(labels, {f"{name}{_CASE_ENDING}" for name in names.values()})
    images.mkdir(exist_ok=True)
    labels.mkdir(exist_ok=True)
    with show_progress(ProgressStyle.BAR) as tell:
        for done, (number, name) in enumerate(names.items()):
            tell(ProgressEvent("phantom", done, cases, name))
            image, label = make(number)
            write_image(image, images / f"{name}_0000{_CASE_ENDING}")
            write_image(label, labels / f"{name}{_CASE_ENDING}")
        tell(ProgressEvent("phantom", cases, cases))
    described = {
        "channel_names": {"0": channel},
        "labels": {"background": 0, task: 1},
        "numTraining": cases,
        "file_ending": _CASE_ENDING,
    }
    write_json(output / "dataset.json", described)
    return [images, labels, output / "dataset.json"]


def _require_no_others(folder: Path, expected: set[str]) -> None:
    others = {path.name for path in folder.glob("*")} - expected if folder.is_dir() else set()
    if others:
        raise OutputError(
            "output-folder-not-empty",
            f"{folder} already holds {min(others)}, which is not part of this training set.",
            "Choose an empty folder.",
        )
