"""What of a dataset is hard: tables, a gallery of what to review first, and one page with all."""

from __future__ import annotations

import base64
import csv
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imbalanceseg.io import atomic_path, write_text
from imbalanceseg.reporting.page import page, table
from imbalanceseg.reporting.report import NOT_FOR_CLINICAL_USE
from imbalanceseg.training.hard_samples import hardest, sample_weights

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from imbalanceseg.training.hard_review import FailedCase, Group, HardSlice, ReviewedCase

CASES_FILE, SAMPLES_FILE, GROUPS_FILE = "cases.csv", "samples.csv", "groups.csv"
GALLERY_FILE, REPORT_FILE = "review_first.png", "report.html"

_SHOWN = 12
_COLUMNS = 4
_AROUND, _LEAST_SHOWN = 12, 64
_EXPLAINED = (
    "A case is hard where copies of the network that lack its smallest weights say something else "
    "than the network: disagreement is one minus their Dice, averaged over the copies. Hard cases "
    "are rare, of poor quality, or labelled wrongly; look at them before they are learned from. "
    "No label was needed for the order; where there is one, Dice against it stands beside."
)


def write_hard_report(
    folder: Path,
    cases: Sequence[ReviewedCase],
    failed: Sequence[FailedCase],
    groups: Sequence[Group],
    model_name: str,
    share: float,
) -> None:
    """Write ``cases.csv``, ``samples.csv``, ``groups.csv``, the gallery and ``report.html``.

    Args:
        folder: exists.
        cases: as they were reviewed.
        failed: those that could not be.
        groups: by metadata.
        model_name: for people.
        share: of the cases that count as the hardest.
    """
    ranked = sorted(cases, key=lambda case: -case.disagreement)
    rows = _case_rows(ranked, share)
    write_text(folder / CASES_FILE, _csv(rows))
    write_text(folder / SAMPLES_FILE, _csv(_sample_rows(ranked)))
    write_text(folder / GROUPS_FILE, _csv(_group_rows(groups)))
    picture = ""
    if ranked:
        with atomic_path(folder / GALLERY_FILE) as path:
            _draw(ranked[:_SHOWN], path)
        picture = base64.b64encode((folder / GALLERY_FILE).read_bytes()).decode("ascii")
    told = _page(rows, _group_rows(groups), failed, model_name, picture)
    write_text(folder / REPORT_FILE, told)


def _case_rows(ranked: Sequence[ReviewedCase], share: float) -> list[list[str]]:
    values = [case.disagreement for case in ranked]
    rows = [["rank", "case", "disagreement", "weight", "hardest", "dice", "size", "slice"]]
    marks = zip(ranked, sample_weights(values), hardest(values, share), strict=True)
    for rank, (case, weight, hard) in enumerate(marks, start=1):
        dice = "" if case.dice is None else f"{case.dice:.4f}"
        size = "" if case.size is None else f"{case.size:.6g}"
        row = [str(rank), case.name, f"{case.disagreement:.4f}", f"{weight:.3f}"]
        rows.append([*row, "yes" if hard else "", dice, size, str(case.shown.index)])
    return rows


def _sample_rows(ranked: Sequence[ReviewedCase]) -> list[list[str]]:
    rows = [["kind", "case", "index", "shape", "voxels", "disagreement"]]
    samples = [one for case in ranked for one in case.samples]
    for one in sorted(samples, key=lambda sample: (sample.kind, -sample.disagreement)):
        where = [" ".join(map(str, part)) for part in (one.index, one.shape)]
        rows.append([one.kind, one.case, *where, str(one.voxels), f"{one.disagreement:.4f}"])
    return rows


def _group_rows(groups: Sequence[Group]) -> list[list[str]]:
    rows = [["column", "value", "cases", "hardest", "share of hardest", "disagreement"]]
    for group in groups:
        low, high = group.hard_interval
        share = f"{group.hard / group.cases:.2f} ({low:.2f} to {high:.2f})"
        mean = f"{group.disagreement:.3f}"
        if group.disagreement_interval:
            mean += " ({:.3f} to {:.3f})".format(*group.disagreement_interval)
        rows.append([group.column, group.value, str(group.cases), str(group.hard), share, mean])
    return rows


def _csv(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _draw(cases: Sequence[ReviewedCase], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, len(cases))
    rows = -(-len(cases) // columns)
    figure = Figure(figsize=(3.4 * columns, 3.7 * rows), layout="constrained")
    figure.set_facecolor("black")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, case in zip(panels, cases, strict=False):
        _show(panel, case.shown)
        dice = "" if case.dice is None else f", Dice {case.dice:.2f}"
        title = f"{case.name}\nslice {case.shown.index}: {case.disagreement:.2f}{dice}"
        panel.set_title(title, fontsize=9, color="white")
    for panel in panels:
        panel.axis("off")
    figure.savefig(path, dpi=100, facecolor="black", format="png")


def _show(panel: Axes, shown: HardSlice) -> None:
    """What lies around the outlines of the network, of the weakened copies and of the reference."""
    low, high = np.percentile(shown.image, (1, 99.5))
    aspect = shown.pixel_mm[0] / shown.pixel_mm[1]
    panel.imshow(shown.image, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), aspect=aspect)
    outlines = [(shown.weakened > 0.5, "#ffd24d"), (shown.dense > 0, "#ff5050")]
    if shown.reference is not None:
        known = (shown.reference > 0) & (shown.reference != 255)
        outlines.insert(0, (known, "#4dd24d"))
    for mask, colour in outlines:
        if mask.any() and not mask.all():
            panel.contour(mask, [0.5], colors=colour, linewidths=0.9)
    rows, columns = np.nonzero(np.logical_or.reduce([mask for mask, _ in outlines]))
    if len(rows):
        for found, side, limit in (
            (columns, shown.image.shape[1], panel.set_xlim),
            (rows, shown.image.shape[0], lambda low, high: panel.set_ylim(high, low)),
        ):
            middle = (found.min() + found.max()) / 2
            reach = max(np.ptp(found) / 2 + _AROUND, _LEAST_SHOWN / 2)
            limit(max(-0.5, middle - reach), min(side - 0.5, middle + reach))


def _page(
    cases: Sequence[Sequence[str]],
    groups: Sequence[Sequence[str]],
    failed: Sequence[FailedCase],
    model_name: str,
    picture: str,
) -> str:
    parts = [
        f"<h1>Review first: what {html.escape(model_name)} finds hard</h1>",
        f'<p class="warn">{html.escape(NOT_FOR_CLINICAL_USE)}</p>',
        f"<p>{_EXPLAINED}</p>",
    ]
    if picture:
        parts += [
            "<p>Of each of the hardest cases the slice with the most disputed voxels. Red: the "
            "network; yellow: most of its weakened copies; green: the label, if there is one.</p>",
            f'<img alt="The hardest cases" src="data:image/png;base64,{picture}">',
        ]
    if failed:
        told = [(one.name, one.error.message) for one in failed]
        parts += ["<h2>Not looked at</h2>", table(("case", "why"), told)]
    if len(groups) > 1:
        parts += [
            "<h2>By what is known of the cases</h2>",
            table(groups[0], groups[1:]),
            "<p>In brackets 95 % intervals: Wilson's of a share, the bootstrap's of a mean. They "
            "are wide where there are few cases.</p>",
        ]
    parts += ["<h2>All cases</h2>", table(cases[0], cases[1:])]
    return page("Review first", parts)
