"""``imbalanceseg hard``: which cases of a dataset a model finds hard, to be reviewed first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imbalanceseg.cli.console import ProgressStyle, print_json, print_table, show_progress
from imbalanceseg.cli.plan import DatasetArgument
from imbalanceseg.cli.segment import ProgressOption
from imbalanceseg.errors import InputError

if TYPE_CHECKING:
    from imbalanceseg.training.hard_review import FailedCase, ReviewedCase

_PRINTED = 10


def hard(
    dataset: DatasetArgument,
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="M", help="Name of a model, or its folder.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Receives tables and gallery.")
    ],
    metadata: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="What is known of the cases; a column is named case."),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(metavar="C,C", help="Columns of it to group by. Default: all."),
    ] = None,
    share: Annotated[
        float, typer.Option(min=0.01, max=1, help="Of the cases that count as the hardest.")
    ] = 0.2,
    sparsity: Annotated[
        list[float] | None,
        typer.Option(metavar="S", help="Share of the weights a copy lacks. Default: .5 .7 .9"),
    ] = None,
    instances: Annotated[
        bool, typer.Option("--instances", help="Label values number instances of one class.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:<n>.")] = "auto",
    progress: ProgressOption = ProgressStyle.BAR,
) -> None:
    """Rank the cases of a dataset by how hard a model finds them. Not for clinical use.

    Hard is where copies of the network that lack its smallest weights say something else. DIR
    receives cases.csv, samples.csv with slices, patches and instances, groups.csv, a gallery of
    what to review first, and report.html. Labels are not needed.
    """
    from imbalanceseg.models.bundle import load_model
    from imbalanceseg.planning.case_table import read_case_table
    from imbalanceseg.planning.dataset import open_images
    from imbalanceseg.reporting.hard_report import REPORT_FILE, write_hard_report
    from imbalanceseg.session import output_folder
    from imbalanceseg.training.hard_review import (
        REFERENCE_SIZE,
        FailedCase,
        ReviewedCase,
        groups_of,
        review,
    )
    from imbalanceseg.training.hard_samples import SPARSITIES

    known = read_case_table(metadata) if metadata else {}
    columns = _columns(by, sorted({name for row in known.values() for name in row}), metadata)
    loaded = load_model(model)
    opened = open_images(dataset, instances, len(loaded.card.channels))
    with output_folder(output), show_progress(progress) as tell:
        found = list(review(opened, loaded, sparsity or SPARSITIES, device, tell))
        cases = [one for one in found if isinstance(one, ReviewedCase)]
        failed = [one for one in found if isinstance(one, FailedCase)]
        if any(case.size is not None for case in cases):
            columns = [*columns, REFERENCE_SIZE]
        groups = groups_of(cases, known, columns, share)
        write_hard_report(output, cases, failed, groups, loaded.name, share)
    if progress is ProgressStyle.JSON:
        print_json(_summary(cases, failed, output / REPORT_FILE))
    else:
        _print(cases, failed, output / REPORT_FILE)
    if failed:
        raise typer.Exit(1)


def _columns(by: str | None, known: list[str], metadata: Path | None) -> list[str]:
    if by is None:
        return known
    wanted = [name.strip() for name in by.split(",") if name.strip()]
    missing = [name for name in wanted if name not in known]
    if missing:
        raise InputError(
            "column-unknown",
            f"{metadata or 'No table of metadata'} has no column {missing[0]!r}.",
            f"Columns are {', '.join(known)}." if known else "Give one with --metadata.",
        )
    return wanted


def _summary(
    cases: list[ReviewedCase], failed: list[FailedCase], report: Path
) -> dict[str, object]:
    ranked = sorted(cases, key=lambda case: -case.disagreement)
    rows = [{"case": c.name, "disagreement": c.disagreement, "dice": c.dice} for c in ranked]
    wrong = [{"case": f.name, "code": f.error.code, "message": f.error.message} for f in failed]
    return {"stage": "finished", "cases": rows, "failed": wrong, "report": str(report)}


def _print(cases: list[ReviewedCase], failed: list[FailedCase], report: Path) -> None:
    from imbalanceseg.reporting.report import NOT_FOR_CLINICAL_USE

    ranked = sorted(cases, key=lambda case: -case.disagreement)
    rows = [("review first", "disagreement", "Dice", "slice")]
    for case in ranked[:_PRINTED]:
        dice = "" if case.dice is None else f"{case.dice:.3f}"
        rows.append((case.name, f"{case.disagreement:.3f}", dice, str(case.shown.index)))
    print_table(rows)
    for one in failed:
        print(f"Not looked at: {one.name}: {one.error.message}")
    print(f"\n{len(cases)} cases. All of them, their slices, patches and instances:\n  {report}")
    print(f"\n{NOT_FOR_CLINICAL_USE}")
