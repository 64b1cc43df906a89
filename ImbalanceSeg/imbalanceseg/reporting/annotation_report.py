"""Curves of an annotation study: figures against painted slices, and against seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from imbalanceseg.atomic import atomic_path

Row = Mapping[str, Any]


def study_table(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """One line for each case, scheme and number of slices, means over the seeds."""
    figures = _figures(rows)
    table = [("case", "scheme", "slices", "runs", *figures, "seconds")]
    for (case, scheme, slices), of_cell in sorted(_cells(rows).items()):
        means = [_mean(of_cell, name) for name in figures]
        seconds = fmean(row["seconds"] for row in of_cell)
        table.append((case, scheme, str(slices), str(len(of_cell)), *means, f"{seconds:.0f}"))
    return table


def draw_study(rows: Sequence[Row], path: Path) -> None:
    """A column of panels for each figure, against slices above and against seconds below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figures = _figures(rows)
    picture = Figure(figsize=(4.6 * len(figures), 7.2), layout="constrained")
    FigureCanvasAgg(picture)
    panels = picture.subplots(2, len(figures), squeeze=False)
    lines = sorted({(row["case"], row["scheme"]) for row in rows})
    for column, name in enumerate(figures):
        for number, (case, scheme) in enumerate(lines):
            cells = sorted(
                (slices, of_cell)
                for (of, by, slices), of_cell in _cells(rows).items()
                if (of, by) == (case, scheme)
            )
            values = [_value(of_cell, name) for _, of_cell in cells]
            seconds = [fmean(row["seconds"] for row in of_cell) for _, of_cell in cells]
            style = {"color": f"C{number % 10}", "marker": "o", "label": f"{case}, {scheme}"}
            panels[0, column].plot([slices for slices, _ in cells], values, **style)
            panels[1, column].plot(seconds, values, **style)
        for panel, label in zip(panels[:, column], ("painted slices", "seconds"), strict=True):
            panel.set_xlabel(label)
            panel.set_ylabel(name.replace("_", " "))
            panel.set_ylim(0, 1)
            panel.grid(alpha=0.3)
    panels[0, -1].legend(loc="lower right", fontsize=8)
    with atomic_path(path) as temporary:
        picture.savefig(temporary, dpi=110, format="png")


def _figures(rows: Sequence[Row]) -> list[str]:
    """Names of the figures that are not of single labels, in the order they occur."""
    names = (name for row in rows for name in row["figures"] if "[" not in name)
    return list(dict.fromkeys(names))


def _cells(rows: Sequence[Row]) -> dict[tuple[str, str, int], list[Row]]:
    cells: dict[tuple[str, str, int], list[Row]] = {}
    for row in rows:
        cells.setdefault((row["case"], row["scheme"], row["slices"]), []).append(row)
    return cells


def _value(rows: Sequence[Row], name: str) -> float:
    values = [row["figures"][name] for row in rows if name in row["figures"]]
    return fmean(values) if values else float("nan")


def _mean(rows: Sequence[Row], name: str) -> str:
    values = [row["figures"][name] for row in rows if name in row["figures"]]
    if not values:
        return ""
    spread = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
    return f"{fmean(values):.3f}{spread}"
