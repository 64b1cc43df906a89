"""``imbalanceseg suggest``: which slices of a segmented scan are best painted next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imbalanceseg.cli.console import print_json, print_table
from imbalanceseg.cli.models import JsonOption
from imbalanceseg.errors import InputError

if TYPE_CHECKING:
    import SimpleITK as sitk

    from imbalanceseg.annotation.suggest import SliceSuggestion
    from imbalanceseg.inference.segmentation import Segmentation

_PLANES = ("sagittal", "coronal", "axial")


def suggest(
    scan: Annotated[
        Path, typer.Argument(metavar="IMAGE", help="The scan: an image file or a DICOM folder.")
    ],
    segmentation: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Folder that `imbalanceseg segment` wrote for the scan."),
    ],
    number: Annotated[
        int, typer.Option("--number", "-n", metavar="N", help="How many slices at most.")
    ] = 5,
    annotation: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What is painted already.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Suggest the slices of a scan that are best painted next, the best first."""
    from imbalanceseg.annotation.files import load_annotation
    from imbalanceseg.annotation.suggest import suggest_slices
    from imbalanceseg.io import read_image

    image = read_image(scan)
    result = _read_result(segmentation, image)
    painted = load_annotation(annotation, image) if annotation else None
    suggestions = suggest_slices(result, painted, number)
    planes = [_plane(image, one.axis) for one in suggestions]
    if as_json:
        rows = [asdict(one) | {"plane": p} for one, p in zip(suggestions, planes, strict=True)]
        print_json({"worth_painting": bool(rows), "suggestions": rows})
    else:
        _print(suggestions, planes)


def _print(suggestions: Sequence[SliceSuggestion], planes: Sequence[str]) -> None:
    if not suggestions:
        print("No further slice is worth painting: none would resolve much of what is hard.")
        return
    rows = [("plane", "axis", "index", "score", "reason")]
    for one, plane in zip(suggestions, planes, strict=True):
        rows.append((plane, "ijk"[one.axis], str(one.index), f"{one.score:.2f}", one.reason))
    print_table(rows)


def _read_result(folder: Path, image: sitk.Image) -> Segmentation:
    from imbalanceseg.geometry import require_same_grid
    from imbalanceseg.inference.segmentation import Segmentation
    from imbalanceseg.io import read_image

    file = folder / "labels.nrrd"
    if not file.is_file():
        raise InputError(
            "segmentation-missing",
            f"There is no segmentation {file}.",
            "Name the folder that `imbalanceseg segment` wrote.",
        )
    labels = read_image(file)
    require_same_grid(image, labels, ("scan", "segmentation"))
    hardness = folder / "hardness.nrrd"
    return Segmentation(
        labels=labels,
        segments=(),
        model_name="",
        model_version="",
        hardness=read_image(hardness) if hardness.is_file() else None,
    )


def _plane(image: sitk.Image, axis: int) -> str:
    """The anatomical plane that slices normal to an index axis are nearest to."""
    from imbalanceseg.annotation.patient_order import PatientOrder
    from imbalanceseg.geometry import Grid

    return _PLANES[PatientOrder.of(Grid.of(image)).patient_axis(axis)]
