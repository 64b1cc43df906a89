"""Dice and surface distance of the tumour model against the diameter of the tumour, on phantoms.

    python Testing/Benchmarks/tumor_sizes.py [--model tumor] [--heads 8] -o FOLDER

The heads have seeds that no training has. Diameter is that of a ball of the tumour's volume.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import numpy as np
import SimpleITK as sitk
import typer
from rich.console import Console
from rich.table import Table

from imbalanceseg.atomic import write_json
from imbalanceseg.inference.segment import segment
from imbalanceseg.metrics.evaluate import evaluate
from imbalanceseg.models.bundle import load_model
from imbalanceseg.synthesis.tumor import TumorContrast, TumorKind, tumor_phantom

_FIRST_SEED = 40_000
_KINDS: tuple[TumorKind, ...] = ("schwannoma", "glioma", "metastasis")
_CONTRASTS: tuple[TumorContrast, ...] = ("T1c", "T2", "FLAIR")
_SLICES_MM = (1.5, 3.0, 5.0)
_EDGES_MM = (0, 10, 20, 30, 60)
_DIFFICULTY = 0.4


def measured(model_name: str, heads: int) -> list[dict[str, Any]]:
    """One row a head: kind, contrast, thickness, diameter, Dice, ASSD."""
    model, rows = load_model(model_name), []
    for kind in _KINDS:
        for number in range(heads):
            contrast, thick = _CONTRASTS[number % 3], _SLICES_MM[number // 3 % 3]
            image, label = tumor_phantom(
                _FIRST_SEED + number, kind, contrast, (0.8, 0.8, thick), difficulty=_DIFFICULTY
            )
            found = segment(image, model, device="cpu", maps=()).labels
            figures = evaluate(found, label, ("dice", "assd_mm"), [1])
            volume = int((sitk.GetArrayViewFromImage(label) > 0).sum()) * 0.64 * thick
            row = {"kind": kind, "contrast": contrast, "slice_mm": thick}
            row |= {"diameter_mm": round(float(np.cbrt(6 * volume / np.pi)), 1)}
            # Where nothing is found no distance is defined, and JSON has no infinity.
            figures = {name: v if np.isfinite(v) else None for name, v in figures.items()}
            rows.append(row | {n: v if v is None else round(v, 3) for n, v in figures.items()})
            print(rows[-1], flush=True)
    return rows


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Both figures against diameter."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    for panel, name in zip(figure.subplots(1, 2), ("dice", "assd_mm"), strict=True):
        for kind in _KINDS:
            of_kind = [row for row in rows if row["kind"] == kind and row[name] is not None]
            panel.plot(
                [row["diameter_mm"] for row in of_kind],
                [row[name] for row in of_kind],
                "o",
                label=kind,
            )
        panel.set_xlabel("diameter of the tumour, mm")
        panel.set_ylabel("Dice" if name == "dice" else "ASSD, mm")
        panel.grid(alpha=0.3)
    panel.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for figures.")],
    model: Annotated[str, typer.Option(help="Name or bundle.")] = "tumor",
    heads: Annotated[int, typer.Option(min=1, help="Of each kind of tumour.")] = 9,
) -> None:
    """Segment phantoms of all sizes."""
    output.mkdir(parents=True, exist_ok=True)
    rows = measured(model, heads)
    write_json(output / "tumor_sizes.json", rows)
    draw(rows, output / "tumor_sizes.png")
    table = Table("diameter, mm", "heads", "Dice", "ASSD, mm", "found")
    for low, high in pairwise(_EDGES_MM):
        within = [row for row in rows if low <= row["diameter_mm"] < high]
        if within:
            near = [row["assd_mm"] for row in within if row["assd_mm"] is not None]
            table.add_row(
                f"{low} to {high}",
                str(len(within)),
                f"{fmean(row['dice'] for row in within):.3f}",
                f"{fmean(near):.2f}" if near else "-",
                f"{fmean(row['dice'] > 0 for row in within):.2f}",
            )
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
