"""Clicks on a real case: how long each takes, and what each gains.

    python Testing/Benchmarks/clicks.py SCAN REFERENCE MODEL [--clicks 50] [--json FILE]

A simulated person clicks the middle of the largest error, as often as is asked for, through a
session. The seconds of a click are those of the call: from the point to the new labels. What is
made once before the first click is told apart.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from statistics import median
from typing import Annotated

import SimpleITK as sitk
import typer

from imbalanceseg.annotation.simulated import click_on_largest_error
from imbalanceseg.geometry import Grid, resample
from imbalanceseg.io import read_image
from imbalanceseg.metrics.evaluate import evaluate
from imbalanceseg.models.bundle import load_model
from imbalanceseg.session import Session

_SHOWN = (0, 1, 2, 5, 10, 20, 50)


def main(
    scan: Path,
    reference: Path,
    model: str,
    clicks: Annotated[int, typer.Option(min=1)] = 50,
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Click and measure."""
    loaded = load_model(model)
    session = Session.open(scan, model=loaded)
    truth = resample(
        sitk.Cast(read_image(reference), sitk.sitkUInt8), Grid.of(session.image), "nearest"
    )
    begun = time.perf_counter()
    session.segment(loaded, maps=())
    segmented = time.perf_counter() - begun
    begun = time.perf_counter()
    session.prepare_clicks()
    prepared = time.perf_counter() - begun

    def dice() -> float:
        assert session.result is not None
        return float(evaluate(session.result.labels, truth, metrics=("dice",))["dice"])

    scores, seconds = [dice()], []
    for _ in range(clicks):
        assert session.result is not None
        click = click_on_largest_error(session.result.labels, truth, session.annotation)
        if click is None:
            break
        begun = time.perf_counter()
        session.click(click.point_mm, click.label)
        seconds.append(time.perf_counter() - begun)
        scores.append(dice())
    rows = {
        "segment_seconds": round(segmented, 2),
        "prepare_seconds": round(prepared, 2),
        "clicks": len(seconds),
        "median_seconds": round(median(seconds), 3),
        "worst_seconds": round(max(seconds), 3),
        "dice": {str(n): round(scores[n], 3) for n in _SHOWN if n < len(scores)},
    }
    print(json.dumps(rows, indent=1))
    if json_file:
        json_file.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
