"""Commands on data: compare labels, write a DICOM-SEG."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from imbalanceseg import __version__
from imbalanceseg.cli.console import ProgressStyle, print_json, print_table, show_progress
from imbalanceseg.cli.models import JsonOption
from imbalanceseg.cli.segment import split_names
from imbalanceseg.errors import InputError
from imbalanceseg.privacy import case_title
from imbalanceseg.progress import ProgressEvent


class Kind(StrEnum):
    """Of a DICOM Segmentation."""

    binary = "binary"
    labelmap = "labelmap"
    fractional = "fractional"


class MadeBy(StrEnum):
    """How much of a segmentation a person did."""

    automatic = "automatic"
    semiautomatic = "semiautomatic"
    manual = "manual"


def evaluate(
    prediction: Annotated[
        Path, typer.Argument(metavar="PRED", help="Labels to judge: an image, or a folder.")
    ],
    reference: Annotated[
        Path, typer.Argument(metavar="REF", help="Labels taken as true: an image, or a folder.")
    ],
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES",
            help="dice, hd95_mm, surface_dice, instances, airway, ...; repeat it or separate by "
            "commas.",
        ),
    ] = None,
    probability: Annotated[
        Path | None,
        typer.Option(metavar="MAP", help="Probability map, or folder of them: its calibration."),
    ] = None,
    hardness: Annotated[
        Path | None,
        typer.Option(metavar="MAP", help="Hardness map, or folder: how well it ranks errors."),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0, metavar="MM", help="Deviation that surface_dice forgives.")
    ] = 1.0,
    smallest: Annotated[
        float, typer.Option(min=0, metavar="MM3", help="Smaller components are no instances.")
    ] = 0.0,
    resample: Annotated[
        bool, typer.Option("--resample", help="Bring other grids onto the reference's.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare labels with a reference: two images, or two folders with equal names."""
    from imbalanceseg.metrics.cases import pair_cases, score_case, summary
    from imbalanceseg.metrics.evaluate import DEFAULT_METRICS

    names = split_names(metrics or DEFAULT_METRICS)
    cases = pair_cases(prediction, reference, probability, hardness)
    figures: dict[str, dict[str, float]] = {}
    style = ProgressStyle.BAR if len(cases) > 1 else ProgressStyle.NONE
    with show_progress(style) as tell:
        for done, case in enumerate(cases):
            title = case_title(case.name) if case.name else ""
            tell(ProgressEvent("evaluate", done, len(cases), title))
            figures[title] = score_case(case, names, tolerance, resample, smallest)
        tell(ProgressEvent("evaluate", len(cases), len(cases)))
    if not reference.is_dir():
        _print_figures(figures[""], as_json)
    elif as_json:
        print_json({"cases": figures} | summary(figures.values()))
    else:
        print_table(_case_table(figures | summary(figures.values())))


def _print_figures(figures: dict[str, float], as_json: bool) -> None:
    if as_json:
        print_json(figures)
    else:
        print_table([(name, _figure(value)) for name, value in figures.items()])


def _case_table(rows: dict[str, dict[str, float]]) -> list[list[str]]:
    """A row a case; figures of single labels are left to the JSON."""
    columns = [name for name in rows["mean"] if "[" not in name]
    table = [["case", *columns]]
    for case, figures in rows.items():
        table.append([case, *(_figure(figures.get(name, float("nan"))) for name in columns)])
    return table


def dicom_seg(
    labels: Annotated[
        list[Path],
        typer.Argument(
            metavar="LABELS... SERIES",
            help="Images of label values, several where segments overlap; last the folder of the "
            "DICOM series.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="DICOM file to write.")
    ],
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="M", help="Model that made the labels.")
    ] = None,
    segments: Annotated[
        Path | None,
        typer.Option(metavar="JSON", help="What the values mean, as dcmqi's programs take it."),
    ] = None,
    kind: Annotated[
        Kind,
        typer.Option(
            help="What all readers know; smaller and newer; or of probability maps, one a segment."
        ),
    ] = Kind.binary,
    made_by: Annotated[
        MadeBy, typer.Option("--made-by", help="How much a person did.")
    ] = MadeBy.automatic,
    predecessor: Annotated[
        Path | None, typer.Option(metavar="SEG", help="Segmentation that this one was edited from.")
    ] = None,
    uid: Annotated[
        str | None, typer.Option("--series", metavar="UID", help="Which series of the folder.")
    ] = None,
) -> None:
    """Write labels as a DICOM Segmentation that refers to a series."""
    from imbalanceseg.dicom.seg import write_dicom_seg
    from imbalanceseg.dicom.segments_file import read_segments_file
    from imbalanceseg.io import read_image
    from imbalanceseg.models.bundle import load_model

    *images, series = labels
    if not images or (model is None and segments is None):
        raise InputError(
            "request-incomplete",
            "It is not said which labels, of which series, or what their values mean.",
            "Give LABELS, then SERIES, and --model or --segments.",
        )
    loaded = None if model is None else load_model(model)
    told = () if loaded is None else loaded.segments
    name, version = "ImbalanceSeg", __version__
    if loaded is not None:
        name, version = f"ImbalanceSeg {loaded.name}", loaded.version
    write_dicom_seg(
        [read_image(path) for path in images],
        series,
        output,
        told if segments is None else read_segments_file(segments),
        kind=kind.value,
        algorithm_name=name,
        algorithm_version=version,
        series_uid=uid,
        made_by=made_by.value,
        predecessor=predecessor,
    )
    print(output)


def dicom_report(
    seg: Annotated[Path, typer.Argument(metavar="SEG", help="DICOM Segmentation.")],
    series: Annotated[Path, typer.Argument(metavar="SERIES", help="Folder of the DICOM series.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="DICOM file to write.")
    ],
    uid: Annotated[
        str | None, typer.Option("--series", metavar="UID", help="Which series of the folder.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write volume, diameter and count of segments as a DICOM report (TID 1500)."""
    from dataclasses import asdict

    from imbalanceseg.dicom.measurement_report import write_measurement_report

    found = write_measurement_report(seg, series, output, series_uid=uid)
    if as_json:
        print_json(
            [
                {"segment": name, "pieces": [asdict(piece) for piece in pieces]}
                for name, pieces in found
            ]
        )
        return
    rows = [("segment", "pieces", "volume, ml", "largest, ml", "its diameter, mm")]
    for name, pieces in found:
        total = sum(piece.volume_mm3 for piece in pieces) / 1000
        largest = pieces[0] if pieces else None
        of_largest = ("", "")
        if largest is not None:
            of_largest = f"{largest.volume_mm3 / 1000:.3f}", f"{largest.diameter_mm:.1f}"
        rows.append((name, str(len(pieces)), f"{total:.3f}", *of_largest))
    print_table(rows)


def read_seg(
    seg: Annotated[Path, typer.Argument(metavar="SEG", help="DICOM Segmentation, of any program.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Label image to write.")
    ],
    scan: Annotated[
        Path | None,
        typer.Option("--onto", metavar="SCAN", help="Scan whose grid the labels are to have."),
    ] = None,
    uid: Annotated[
        str | None, typer.Option("--series", metavar="UID", help="Which series of that folder.")
    ] = None,
    sparse: Annotated[
        bool,
        typer.Option("--sparse", help="Slices without any segment are unlabelled (255)."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Read a DICOM Segmentation as a label image, for example to learn from.

    Where segments overlap, those that do not fit into one image go into FILE-2, and so on.
    """
    from imbalanceseg.dicom.seg_reading import on_scan, read_dicom_seg, unlabelled_between
    from imbalanceseg.geometry import Grid
    from imbalanceseg.io import read_image, write_image

    found = read_dicom_seg(seg)
    grid = None if scan is None else Grid.of(read_image(scan, series_uid=uid))
    rows, written = [], []
    for number, (labels, infos) in enumerate(found.layers(), start=1):
        placed = labels if grid is None else on_scan(labels, grid)
        if sparse:
            placed = unlabelled_between(placed, found.grid)
        path = output if number == 1 else numbered_file(output, number)
        write_image(placed, path)
        written.append(path)
        rows += [(info, path) for info in infos]
    if as_json:
        segments = [
            {"label": i.label, "name": i.name, "type": i.type.meaning, "file": str(path)}
            for i, path in rows
        ]
        print_json({"segments": segments, "series": found.series_uid})
        return
    print_table(
        [("label", "segment", "type", "file")]
        + [(str(i.label), i.name, i.type.meaning, str(path)) for i, path in rows]
    )


def pseudonyms(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="Names of cases, or their files.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Tell which pseudonym is whose, on the machine that gave them (--deidentify)."""
    from imbalanceseg.privacy import pseudonym
    from imbalanceseg.session import case_name

    found = {case_name(Path(name)): "" for name in names}
    found = {name: pseudonym(name) for name in found}
    if as_json:
        print_json(found)
    else:
        print_table([("case", "pseudonym"), *found.items()])


def numbered_file(path: Path, number: int) -> Path:
    """``labels.nii.gz`` becomes ``labels-2.nii.gz``."""
    stem, dot, endings = path.name.partition(".")
    return path.with_name(f"{stem}-{number}{dot}{endings}")


def _figure(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
