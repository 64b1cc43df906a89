"""Does the hardness map point at the errors? AUROC of each kind on cases with a reference.

    python Testing/Benchmarks/hardness.py MODEL SCAN REFERENCE [SCAN REFERENCE ...]
        [--half-mm 70] [--kinds pruning entropy tta] [--picture FILE] [--json FILE]

Errors are the voxels in which segmentation and reference differ, ranked among all voxels within
10 mm of the reference or the segmentation. The time is that of the whole segmentation.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import fmean
from typing import Any

import edt
import numpy as np
import SimpleITK as sitk
from rich.console import Console
from rich.table import Table

from imbalanceseg import load_model, read_image, segment
from imbalanceseg.geometry import Grid, resample
from imbalanceseg.inference.hardness import HARDNESS_KINDS
from imbalanceseg.metrics.error_ranking import error_auroc, sparsification

_REACH_MM = 10.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("cases", nargs="+", metavar="SCAN REFERENCE")
    parser.add_argument("--half-mm", type=float, help="only a cube around the reference's middle")
    parser.add_argument("--kinds", nargs="+", choices=HARDNESS_KINDS)
    parser.add_argument("--picture", type=Path, help="error and hardness of the first case")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    model = load_model(arguments.model)
    kinds = arguments.kinds or [k for k in HARDNESS_KINDS if k != "ensemble"]
    rows: list[dict[str, Any]] = []
    shown: list[tuple[str, np.ndarray]] = []
    for scan_file, reference_file in zip(*[iter(arguments.cases)] * 2, strict=True):
        scan = read_image(scan_file)
        reference = resample(read_image(reference_file), Grid.of(scan), "nearest") > 0
        roi = None if arguments.half_mm is None else cube(reference, arguments.half_mm)
        for kind in kinds:
            result = segment(scan, model, maps=("hardness",), hardness=kind, roi=roi)
            if result.hardness is None:
                print(*result.notes)
                continue
            row, panels = scored(result, reference, roi)
            rows.append({"scan": Path(scan_file).name, "kind": kind, **row})
            print(rows[-1], flush=True)
            if scan_file == arguments.cases[0]:
                error, hardness = panels
                shown += [("error", error)] * (not shown) + [(kind, hardness)]
    show(rows, kinds)
    if arguments.picture:
        draw(shown, arguments.picture)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def cube(reference: sitk.Image, half_mm: float) -> Any:
    """Two opposite LPS corners of a cube around the middle of a reference's box."""
    where = np.argwhere(sitk.GetArrayViewFromImage(reference))[:, ::-1]
    middle = Grid.of(reference).index_to_physical((where.min(0) + where.max(0)) / 2)
    return middle - half_mm, middle + half_mm


def scored(
    result: Any, reference: sitk.Image, roi: Any
) -> tuple[dict[str, float], tuple[np.ndarray, np.ndarray]]:
    """Figures of one segmentation, and its errors and hardness seen from the front."""
    found = sitk.GetArrayViewFromImage(result.labels) > 0
    true = sitk.GetArrayViewFromImage(reference) > 0
    hardness = sitk.GetArrayViewFromImage(result.hardness)
    spacing = result.labels.GetSpacing()[::-1]
    near = edt.edt(~(found | true), anisotropy=spacing) <= _REACH_MM
    if roi is not None:
        index = np.sort(Grid.of(reference).physical_to_index(np.stack(roi)), axis=0)[:, ::-1]
        inside = np.zeros_like(near)
        inside[tuple(slice(max(0, int(a) + 1), int(b)) for a, b in index.T)] = True
        near &= inside
    wrong = (found != true)[near]
    both = int((found & true & near).sum())
    curve = sparsification(hardness[near], wrong)
    at_five = int(np.searchsorted(curve.removed, 0.05))
    row = {
        "auroc": error_auroc(hardness[near], wrong),
        "errors_left_without_hardest_5_percent": float(
            curve.remaining[at_five] * (1 - curve.removed[at_five])
        ),
        "dice": 2 * both / max(1, int((found & near).sum()) + int((true & near).sum())),
        "seconds": sum(result.seconds.values()),
        "fine_seconds": result.seconds["fine"],
    }
    error = ((found != true) & near).max(1).astype(np.float32)
    return row, (error, np.where(near, hardness, 0).max(1))


def show(rows: list[dict[str, Any]], kinds: list[str]) -> None:
    """Means over the cases."""
    names = [name for name in rows[0] if name not in ("scan", "kind")]
    table = Table("kind", *names)
    for kind in [k for k in kinds if any(row["kind"] == k for row in rows)]:
        of_kind = [row for row in rows if row["kind"] == kind]
        table.add_row(kind, *(f"{fmean(row[name] for row in of_kind):.3f}" for name in names))
    Console(width=140).print(table)


def draw(panels: list[tuple[str, np.ndarray]], path: Path) -> None:
    """Largest values from the front, side by side, on the scale from 0 to 1."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(panels), 4.6), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    rows, columns = (np.flatnonzero(panels[0][1].any(axis)) for axis in (1, 0))
    for axis, (name, values) in zip(axes, panels, strict=True):
        part = values[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        axis.imshow(part[::-1], vmin=0, vmax=1, cmap="inferno", aspect="auto")
        axis.set_title("errors" if name == "error" else f"hardness, {name}")
        axis.set_axis_off()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
