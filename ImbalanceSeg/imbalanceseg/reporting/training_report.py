"""The account of a training: its curve as a picture, and one page with everything."""

from __future__ import annotations

import base64
import csv
import html
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imbalanceseg.io import atomic_path, write_text
from imbalanceseg.reporting.page import page, table

if TYPE_CHECKING:
    from imbalanceseg.planning.plan import Plan
    from imbalanceseg.training.outcome import Member, Outcome


def write_training_report(
    folder: Path,
    plan: Plan,
    recipe_name: str,
    used: Sequence[tuple[str, str, str]],
    members: Sequence[Member],
    outcome: Outcome,
) -> None:
    """Write ``curve.png`` and ``report.html``, which needs no other file.

    Args:
        folder: of the training.
        plan: of the dataset.
        recipe_name: that was used.
        used: what was trained with: decision, value, why.
        members: the trained networks.
        outcome: what they are worth.
    """
    logs = [read_log(member.folder / "log.csv") for member in members]
    with atomic_path(folder / "curve.png") as path:
        _draw(logs, path)
    picture = base64.b64encode((folder / "curve.png").read_bytes()).decode("ascii")
    write_text(folder / "report.html", _page(plan, recipe_name, used, members, outcome, picture))


def read_log(path: Path) -> dict[str, list[float]]:
    """Columns of a ``log.csv`` by name; NaN where a cell is empty."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name] or "nan") for row in rows] for name in (rows[0] if rows else ())}


def _draw(logs: Sequence[dict[str, list[float]]], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    left = figure.add_subplot(xlabel="iteration", ylabel="training loss (dashed)")
    right = left.twinx()
    right.set(ylabel="Dice on held-out cases", ylim=(0, 1))
    for number, log in enumerate(logs):
        if not log:
            continue
        color = f"C{number % 10}"
        label = f"fold {number}" if len(logs) > 1 else None
        left.plot(log["iteration"], log["loss"], "--", color=color, alpha=0.6, linewidth=1)
        seen = [(i, d) for i, d in zip(log["iteration"], log["dice"], strict=True) if d == d]
        if seen:
            right.plot(*zip(*seen, strict=True), color=color, label=label, marker=".")
    if len(logs) > 1:
        right.legend(loc="lower right", frameon=False)
    left.grid(alpha=0.2)
    figure.savefig(path, format="png")


def _page(
    plan: Plan,
    recipe_name: str,
    used: Sequence[tuple[str, str, str]],
    members: Sequence[Member],
    outcome: Outcome,
    picture: str,
) -> str:
    mirrored = outcome.mirrored or (None,) * len(outcome.dice)
    classes = [
        (plan.labels[value], _figure(plain), _figure(copies))
        for value, plain, copies in zip(outcome.values, outcome.dice, mirrored, strict=True)
    ]
    cases = [
        (score.case, *map(_figure, score.dice))
        for score in sorted(outcome.cases, key=lambda s: min(_known(s.dice), default=1.0))
    ]
    steps = [
        (
            f"fold {number}",
            str(member.standing.iteration),
            f"{member.standing.seconds / 60:.1f} min",
            f"{member.standing.best_iteration}",
            "; ".join([member.standing.ended, *member.standing.notes]),
        )
        for number, member in enumerate(members)
    ]
    names = [plan.labels[value] for value in outcome.values]
    kept = [plan.labels[outcome.values[n - 1]] for n in outcome.largest_component_of]
    after = (
        f"Only the largest component is kept of {', '.join(kept)}: it raises Dice here."
        if kept
        else "No post-processing: keeping only the largest component raises no Dice here."
    )
    parts = [
        f"<h1>Training on {html.escape(plan.dataset)}</h1>",
        '<p class="warn">Not for clinical use.</p>',
        f"<p>Recipe {html.escape(recipe_name)}, {outcome.training_cases} cases.</p>",
        f'<img alt="loss and Dice" src="data:image/png;base64,{picture}">',
        "<h2>On held-out cases</h2>",
        table(("class", "Dice", "with mirrored copies"), classes),
        f"<p>{html.escape(after)}</p>",
        *(f"<p>{html.escape(sentence)}</p>" for sentence in outcome.limitations),
        "<h2>How it went</h2>",
        table(("network", "iterations", "time", "best at", "end"), steps),
        "<h2>What it was trained with, and why</h2>",
        table(("decision", "value", "why"), used),
        "<h2>Held-out cases, worst first, before post-processing</h2>",
        table(("case", *names), cases),
    ]
    return page(f"Training on {plan.dataset}", parts)


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
