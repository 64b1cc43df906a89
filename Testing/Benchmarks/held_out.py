"""Dice of a trained model on a folder of cases that its training never saw.

``python Testing/Benchmarks/held_out.py MODEL SET`` where SET holds ``images`` and ``labels`` with
equal names, or is an nnU-Net v2 folder.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import numpy as np
import SimpleITK as sitk
import typer

from imbalanceseg.cli.console import print_json, print_table
from imbalanceseg.inference.segment import segment
from imbalanceseg.io import read_image
from imbalanceseg.metrics.evaluate import evaluate
from imbalanceseg.models.bundle import load_model
from imbalanceseg.planning.dataset import open_dataset


def main(
    model: Annotated[Path, typer.Argument(help="Bundle of the model.")],
    cases: Annotated[Path, typer.Argument(help="The set.")],
    tta: Annotated[bool, typer.Option("--tta", help="Average over mirrored copies.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Segment every case and compare it with its label."""
    loaded = load_model(model)
    found, seconds = [], []
    for case in open_dataset(cases).cases:
        if case.label is None:
            continue
        images = [read_image(path) for path in case.images]
        begin = time.monotonic()
        result = segment(images if len(images) > 1 else images[0], loaded, maps=(), tta=tta)
        seconds.append(time.monotonic() - begin)
        label = sitk.ReadImage(str(case.label), sitk.sitkUInt8)
        found.append(
            [
                evaluate(result.labels == segment.label, label == segment.label, ["dice"])["dice"]
                for segment in loaded.segments
            ]
        )
    dice = np.array(found)
    if as_json:
        print_json(
            {
                "cases": len(dice),
                "dice": {s.name: d for s, d in zip(loaded.segments, dice.mean(0), strict=True)},
                "mean_dice": dice.mean(),
                "seconds_a_case": float(np.median(seconds)),
            }
        )
        return
    rows = [("class", "mean Dice", "sd", "worst")]
    for number, one in enumerate(loaded.segments):
        column = dice[:, number]
        rows.append(
            (one.name, f"{column.mean():.4f}", f"{column.std():.4f}", f"{column.min():.4f}")
        )
    print_table(rows)
    print(f"mean {dice.mean():.4f} on {len(dice)} cases, {np.median(seconds):.2f} s a case")


if __name__ == "__main__":
    typer.run(main)
