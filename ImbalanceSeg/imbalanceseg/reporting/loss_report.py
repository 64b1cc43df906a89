"""What the loss study found: tables, what the papers claim, and a picture with a dot a seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from imbalanceseg.io import atomic_path, write_json, write_text

if TYPE_CHECKING:
    from imbalanceseg.training.loss_study import StudyResult

FIGURES = {
    "dice": "voxel Dice",
    "recall": "voxel recall",
    "precision": "voxel precision",
    "instance_f1": "instance F1",
    "instance_f1_small": "F1 small",
    "instance_f1_medium": "F1 medium",
    "instance_f1_large": "F1 large",
    "length_detected": "tree length",
    "branch_detected": "branches",
    "tree_precision": "tree precision",
}
"""Headings of the figures, in the order of the columns; all lie in [0, 1], more is better."""

_NOTE = (
    "Mean of the seeds ± their standard deviation. * is the best mean of a column; = is not told "
    "apart from it: they differ by no more than the sum of both standard deviations, or there is "
    "but one seed."
)


@dataclass(frozen=True)
class Cell:
    """One figure of one loss on one set.

    Attributes:
        values: by seed, in their order; None where nothing could be counted.
        mean: over the seeds that have a value; None without one.
        spread: their standard deviation; None with fewer than two.
        best: no other loss has a higher mean.
        tied: not told apart from the best.
    """

    values: tuple[float | None, ...]
    mean: float | None
    spread: float | None
    best: bool = False
    tied: bool = False

    def __str__(self) -> str:
        if self.mean is None:
            return "-"
        spread = "" if self.spread is None else f" ± {self.spread:.3f}"
        return f"{self.mean:.3f}{spread}{' *' if self.best else ' =' if self.tied else ''}"


@dataclass(frozen=True)
class Claim:
    """What a paper says of its loss, in the figures of the study.

    Attributes:
        loss: of the paper.
        baseline: that it is said to beat.
        figure: in which.
        source: the paper.
    """

    loss: str
    baseline: str
    figure: str
    source: str


CLAIMS = (
    Claim("dice", "ce", "dice", "Milletari et al., 3DV 2016"),
    Claim("dice_ce", "dice", "dice", "Isensee et al., Nature Methods 18, 2021"),
    Claim("focal", "ce", "dice", "Lin et al., ICCV 2017, there for detection"),
    Claim("tversky", "dice", "recall", "Salehi et al., MLMI 2017"),
    Claim("hardness_weighted_dice", "dice", "dice", "Wang et al., MICCAI 2019"),
    Claim("general_union", "dice", "length_detected", "Zheng et al., IEEE TMI 40(9), 2021"),
    Claim("blob", "dice", "instance_f1", "Kofler et al., IPMI 2023"),
    Claim("blob", "dice", "instance_f1_small", "Kofler et al., IPMI 2023"),
)
"""Read off the papers' abstracts and put in our figures; their data are others than ours."""

Cells = dict[str, dict[str, Cell]]


def cells_of(results: Sequence[StudyResult]) -> Cells:
    """Every figure of every loss on one set, by loss and figure, in the order they came.

    Args:
        results: of one set.
    """
    of_loss: dict[str, list[StudyResult]] = {}
    for result in results:
        of_loss.setdefault(result.loss, []).append(result)
    known = {figure for result in results for figure in result.figures}
    columns: dict[str, dict[str, Cell]] = {}
    for figure in (name for name in FIGURES if name in known):
        column = {}
        for loss, runs in of_loss.items():
            ordered = sorted(runs, key=lambda run: run.seed)
            column[loss] = _cell(tuple(run.figures.get(figure) for run in ordered))
        columns[figure] = _marked(column)
    return {loss: {figure: columns[figure][loss] for figure in columns} for loss in of_loss}


def told_apart(one: Cell, other: Cell) -> bool:
    """Whether two means differ by more than the sum of both standard deviations."""
    if one.mean is None or other.mean is None or one.spread is None or other.spread is None:
        return False
    return abs(one.mean - other.mean) > one.spread + other.spread


def table_rows(cells: Cells) -> list[tuple[str, ...]]:
    """Header and a row a loss, as text."""
    figures = next(iter(cells.values()))
    header = ("loss", *(FIGURES[figure] for figure in figures))
    return [header, *((loss, *map(str, row.values())) for loss, row in cells.items())]


def claim_rows(name: str, cells: Cells) -> list[tuple[str, ...]]:
    """What the papers claim, and whether it is seen on a set; claims that need more are left out.

    Args:
        name: of the set.
        cells: of that set.
    """
    rows: list[tuple[str, ...]] = []
    for claim in CLAIMS:
        pair = [cells.get(loss, {}).get(claim.figure) for loss in (claim.loss, claim.baseline)]
        one, other = pair
        if one is None or other is None or one.mean is None or other.mean is None:
            continue
        difference = one.mean - other.mean
        if not told_apart(one, other):
            seen = "not seen: within the spread"
        else:
            seen = "seen" if difference > 0 else "not seen: the opposite"
        words = f"{claim.loss} over {claim.baseline} in {FIGURES[claim.figure]}"
        rows.append((name, words, f"{difference:+.3f}", seen, claim.source))
    return rows


def write_loss_report(
    folder: Path, results: Sequence[StudyResult], about: Mapping[str, str]
) -> dict[str, Cells]:
    """Write ``losses.md``, ``losses.json`` and ``losses.png``.

    Args:
        folder: of the study.
        results: of at least one run.
        about: a sentence about every set, by name, in the order of the tables.

    Returns:
        The cells of every set that has results.
    """
    of_set = {name: [run for run in results if run.study_set == name] for name in about}
    of_set = {name: runs for name, runs in of_set.items() if runs}
    cells = {name: cells_of(runs) for name, runs in of_set.items()}
    write_text(folder / "losses.md", _page(of_set, cells, about))
    write_json(folder / "losses.json", _facts(of_set, cells, about))
    with atomic_path(folder / "losses.png") as path:
        _draw(cells, path)
    return cells


def _cell(values: tuple[float | None, ...]) -> Cell:
    known = [value for value in values if value is not None]
    return Cell(values, mean(known) if known else None, stdev(known) if len(known) > 1 else None)


def _marked(column: Mapping[str, Cell]) -> dict[str, Cell]:
    highest = max((cell.mean for cell in column.values() if cell.mean is not None), default=None)
    first = next((cell for cell in column.values() if cell.mean == highest), None)
    if highest is None or first is None:
        return dict(column)
    return {
        loss: Cell(
            cell.values,
            cell.mean,
            cell.spread,
            best=cell.mean == highest,
            tied=cell.mean is not None and cell.mean < highest and not told_apart(cell, first),
        )
        for loss, cell in column.items()
    }


def _page(
    of_set: Mapping[str, Sequence[StudyResult]],
    cells: Mapping[str, Cells],
    about: Mapping[str, str],
) -> str:
    parts = ["# Losses compared", _NOTE]
    for name, runs in of_set.items():
        parts += [f"## {name}", about[name] + " " + _how(runs)]
        parts.append(_markdown(table_rows(cells[name])))
        parts.append("\n".join(_sentences(cells[name])))
    claims = [row for name, each in cells.items() for row in claim_rows(name, each)]
    if claims:
        header = ("set", "claim", "difference", "here", "after")
        parts += ["## What the papers claim", _markdown([header, *claims])]
    return "\n\n".join(parts) + "\n"


def _how(runs: Sequence[StudyResult]) -> str:
    seeds = len({run.seed for run in runs})
    text = f"{runs[0].iterations} steps, {seeds} seed{'s' if seeds > 1 else ''}."
    if "instance_f1" in runs[0].figures:
        low, high = runs[0].size_edges
        unit = "px" if runs[0].flat else "mm3"
        text += (
            f" Small instances are below {low:.4g} {unit}, large ones from {high:.4g} {unit}: "
            "thirds of those trained on."
        )
    return text


def _sentences(cells: Cells) -> list[str]:
    """For every figure, the best and what is not told apart from it."""
    lines = []
    for figure in next(iter(cells.values())):
        best = [loss for loss, row in cells.items() if row[figure].best]
        tied = [loss for loss, row in cells.items() if row[figure].tied]
        if not best:
            continue
        others = f"within the spread of it: {', '.join(tied)}" if tied else "all others told apart"
        lines.append(f"- {FIGURES[figure]}: {', '.join(best)} is highest; {others}.")
    return lines


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str]) -> str:
        # A star begins emphasis.
        return "| " + " | ".join(cell.replace("*", "\\*") for cell in cells) + " |"

    return "\n".join([line(rows[0]), "|" + "---|" * len(rows[0]), *map(line, rows[1:])])


def _facts(
    of_set: Mapping[str, Sequence[StudyResult]],
    cells: Mapping[str, Cells],
    about: Mapping[str, str],
) -> dict[str, Any]:
    sets = {
        name: {
            "about": about[name],
            "iterations": runs[0].iterations,
            "size_edges": list(runs[0].size_edges),
            "seconds_a_run": round(mean(run.seconds for run in runs), 1),
            "losses": {
                loss: {
                    figure: {
                        "mean": cell.mean,
                        "spread": cell.spread,
                        "seeds": list(cell.values),
                        "best": cell.best,
                        "within_spread_of_best": cell.tied,
                    }
                    for figure, cell in row.items()
                }
                for loss, row in cells[name].items()
            },
        }
        for name, runs in of_set.items()
    }
    keys = ("set", "claim", "difference", "here", "source")
    claims = [
        dict(zip(keys, row, strict=True))
        for name, each in cells.items()
        for row in claim_rows(name, each)
    ]
    return {"sets": sets, "claims": claims}


def _draw(cells: Mapping[str, Cells], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    widest = max(len(next(iter(each.values()))) for each in cells.values())
    losses = list(dict.fromkeys(loss for each in cells.values() for loss in each))
    size = (1.6 + 1.7 * widest, len(cells) * (0.7 + 0.24 * len(losses)))
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(cells), widest, squeeze=False)
    for row, (name, each) in zip(axes, cells.items(), strict=True):
        figures = list(next(iter(each.values())))
        for axis, column in zip(row, figures, strict=False):
            _draw_column(axis, losses, {loss: each[loss][column] for loss in each})
            axis.set_title(FIGURES[column], fontsize=8)
        row[0].set_yticks(range(len(losses)), losses, fontsize=7)
        row[0].set_ylabel(name, fontsize=9)
        for axis in row[len(figures) :]:
            axis.set_axis_off()
    figure.savefig(path, format="png")


def _draw_column(axis: Any, losses: Sequence[str], column: Mapping[str, Cell]) -> None:
    for number, loss in enumerate(losses):
        cell = column.get(loss)
        if cell is None or cell.mean is None:
            continue
        known = [value for value in cell.values if value is not None]
        axis.plot(known, [number] * len(known), "o", color=f"C{number % 10}", ms=4, alpha=0.7)
        axis.plot([cell.mean] * 2, [number - 0.3, number + 0.3], color="0.2", linewidth=1)
    axis.set_ylim(len(losses) - 0.5, -0.5)
    axis.set_yticks(range(len(losses)), [""] * len(losses))
    axis.tick_params(labelsize=7)
    axis.grid(alpha=0.2)
