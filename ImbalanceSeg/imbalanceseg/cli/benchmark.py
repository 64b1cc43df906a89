"""``imbalanceseg benchmark``: compare by training, with everything else alike."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imbalanceseg.cli.console import ProgressStyle, print_table, show_progress
from imbalanceseg.cli.segment import OutputOption, ProgressOption, split_names

app = typer.Typer(
    help="Compare by training, everything else alike.", no_args_is_help=True, rich_markup_mode=None
)


@app.callback()
def _group() -> None:
    pass


@app.command()
def losses(
    output: OutputOption,
    nuclei: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Nuclei: train and val, with images and labels."),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES", help="nuclei, lesion, airway; repeat it or separate by commas."
        ),
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Option("--losses", metavar="NAMES", help="Only these. Default: all eight."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, max=100, metavar="N", help="Runs of each.")] = 3,
    iterations: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Steps of each run. Default: 400.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:<n>.")] = "auto",
    progress: ProgressOption = ProgressStyle.BAR,
) -> None:
    """Train one small network with eight losses, on nuclei, lesion and airway phantoms.

    Stop it whenever you like: the same command goes on. DIR receives losses.md, losses.json,
    losses.png, and a folder for every run. Docs/loss_study.md says what is equal and what differs.
    """
    from imbalanceseg.reporting.loss_report import claim_rows, table_rows, write_loss_report
    from imbalanceseg.session import output_folder
    from imbalanceseg.training.loss_study import (
        DEFAULT_ITERATIONS,
        LOSSES,
        require_losses,
        run_study,
    )
    from imbalanceseg.training.study_sets import SET_NAMES, study_sets

    chosen = study_sets(split_names(sets) if sets else SET_NAMES, nuclei)
    wanted = require_losses(split_names(names) if names else tuple(LOSSES))
    steps = iterations or DEFAULT_ITERATIONS
    with output_folder(output):
        with show_progress(progress) as tell:
            results = run_study(output, chosen, wanted, seeds, steps, device, tell)
        cells = write_loss_report(output, results, {one.name: one.about for one in chosen})
    for one in chosen:
        print(f"{one.name}: {one.about}")
        print_table(table_rows(cells[one.name]), indent="  ")
        print()
    print("* best mean; = within the spread of the best (sum of both standard deviations)")
    claims = [row[:4] for name, each in cells.items() for row in claim_rows(name, each)]
    if claims:
        print()
        print_table([("set", "what a paper claims", "difference", "here"), *claims])
        print()
    for name in ("losses.md", "losses.json", "losses.png"):
        print(output / name)


@app.command()
def annotation(
    output: OutputOption,
    images: Annotated[
        list[Path],
        typer.Option("--case", metavar="IMAGE", help="A scan; repeat it for more."),
    ],
    references: Annotated[
        list[Path],
        typer.Option("--reference", metavar="LABELS", help="Labels of each scan, in order."),
    ],
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="M", help="What is adapted; none for nothing.")
    ] = "none",
    slices: Annotated[
        list[str] | None,
        typer.Option(metavar="NUMBERS", help="Painted slices to judge at. Default: 1,3,5,10."),
    ] = None,
    schemes: Annotated[
        list[str] | None,
        typer.Option(metavar="NAMES", help="even, random, suggested. Default: all."),
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(metavar="NAMES", help="As of evaluate. Default: dice."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, max=100, metavar="N", help="Runs of each.")] = 3,
    seconds: Annotated[float, typer.Option(metavar="N", help="Wall time of an adaptation.")] = 60.0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:<n>.")] = "auto",
    progress: ProgressOption = ProgressStyle.BAR,
) -> None:
    """Paint slices of a known segmentation, adapt, and judge the rest of the scan.

    Stop it whenever you like: the same command goes on. DIR receives annotation.json, and
    annotation.png with the figures against painted slices and against seconds.
    """
    from dataclasses import asdict

    from imbalanceseg.errors import InputError
    from imbalanceseg.geometry import require_same_grid
    from imbalanceseg.io import read_image
    from imbalanceseg.models.bundle import load_model
    from imbalanceseg.reporting.annotation_report import draw_study, study_table
    from imbalanceseg.session import case_name, output_folder
    from imbalanceseg.training.annotation_study import StudyCase, run_annotation_study

    if len(images) != len(references):
        raise InputError(
            "reference-missing",
            f"{len(images)} scans and {len(references)} references are no pairs.",
            "Give one --reference for each --case.",
        )
    chosen = tuple(split_names(metrics)) if metrics else ("dice",)
    cases = []
    for image, reference in zip(images, references, strict=True):
        scan, labels = read_image(image), read_image(reference)
        require_same_grid(scan, labels, ("scan", "reference"))
        cases.append(StudyCase(case_name(image), scan, labels, chosen))
    counts = [_whole(text) for text in split_names(slices or ["1,3,5,10"])]
    parent = None if model == "none" else load_model(model)
    with output_folder(output):
        with show_progress(progress) as tell:
            outcomes = run_annotation_study(
                output,
                cases,
                parent,
                counts,
                split_names(schemes or ["even,random,suggested"]),
                seeds,
                seconds,
                device,
                tell,
            )
        rows = [asdict(one) for one in outcomes]
        draw_study(rows, output / "annotation.png")
    print_table(study_table(rows))


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise typer.BadParameter(f"{text!r} is no number of slices")
    return int(text)
