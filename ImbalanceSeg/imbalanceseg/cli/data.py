"""Commands on data: compare labels, write a DICOM-SEG, make phantoms."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imbalanceseg.cli.console import print_json, print_table
from imbalanceseg.cli.models import JsonOption
from imbalanceseg.cli.segment import OutputOption, split_names

phantom_app = typer.Typer(
    help="Make a scan whose exact labels are known.", no_args_is_help=True, rich_markup_mode=None
)


def evaluate(
    prediction: Annotated[Path, typer.Argument(metavar="PRED", help="Labels to judge.")],
    reference: Annotated[Path, typer.Argument(metavar="REF", help="Labels taken as true.")],
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES",
            help="dice, iou, hd95_mm, airway, ...; repeat it or separate by commas.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare labels with a reference on the same grid."""
    from imbalanceseg.io import read_image
    from imbalanceseg.metrics.evaluate import DEFAULT_METRICS
    from imbalanceseg.metrics.evaluate import evaluate as evaluate_labels

    names = split_names(metrics or DEFAULT_METRICS)
    figures = evaluate_labels(read_image(prediction), read_image(reference), metrics=names)
    if as_json:
        print_json(figures)
    else:
        print_table([(name, _figure(value)) for name, value in figures.items()])


def dicom_seg(
    labels: Annotated[Path, typer.Argument(metavar="LABELS", help="Image of label values.")],
    series: Annotated[Path, typer.Argument(metavar="SERIES", help="Folder of the DICOM series.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="DICOM file to write.")
    ],
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="M", help="Model that made the labels.")
    ],
    uid: Annotated[
        str | None, typer.Option("--series", metavar="UID", help="Which series of the folder.")
    ] = None,
) -> None:
    """Write labels as a DICOM Segmentation that refers to a series."""
    from imbalanceseg.dicom.seg import write_dicom_seg
    from imbalanceseg.io import read_image
    from imbalanceseg.models.bundle import load_model

    loaded = load_model(model)
    write_dicom_seg(
        read_image(labels),
        series,
        output,
        loaded.segments,
        algorithm_name=f"ImbalanceSeg {loaded.name}",
        algorithm_version=loaded.version,
        series_uid=uid,
    )
    print(output)


@phantom_app.command()
def airway(
    output: OutputOption,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same phantom.")] = 0,
    spacing: Annotated[
        float, typer.Option(min=0.4, max=4.0, metavar="MM", help="Distance of voxels.")
    ] = 0.8,
    dicom: Annotated[bool, typer.Option("--dicom", help="Also write a DICOM series.")] = False,
) -> None:
    """Make a chest CT with a bronchial tree: image.nrrd and labels.nrrd."""
    from imbalanceseg.dicom.series import write_dicom_series
    from imbalanceseg.io import write_image
    from imbalanceseg.labels import AIRWAY_TREE
    from imbalanceseg.reporting.slicer_labels import slicer_labels
    from imbalanceseg.session import output_folder
    from imbalanceseg.synthesis.airway import chest_phantom

    with output_folder(output):
        image, labels = chest_phantom(seed, spacing_mm=spacing)
        write_image(image, output / "image.nrrd")
        described = slicer_labels(labels, (AIRWAY_TREE,), f"ImbalanceSeg phantom {seed}")
        write_image(described, output / "labels.nrrd")
        written = ["image.nrrd", "labels.nrrd"]
        if dicom:
            description = f"ImbalanceSeg airway phantom {seed}"
            write_dicom_series(image, output / "series", description=description)
            written.append("series")
    for name in written:
        print(output / name)


@phantom_app.callback()
def _phantoms() -> None:
    """Keep ``airway`` a command of its own while it is the only phantom."""


def _figure(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
