"""A few painted slices: how soon ours is as good as the plain recipe gets, on real cases.

    python Testing/Benchmarks/plain_recipe.py DATA RESULTS.json [--names hippocampus,spleen,brain1]
        [--slices 5] [--minutes 10] [--picture FILE.png]

The plain recipe is what tutorials of MONAI do: the same 3D U-Net that ours makes from nothing,
random crops around labelled voxels with flips, the whole network, Adam, eager float32, and losses
that leave out what is unlabelled. It sees the same painted slices. It is asked again and again what
it says of the scan, and the time that asking takes is not counted. Ours is run anew for each number
of seconds, and its time is that of the whole run, until the segmentation is there.

The plateau is the best that the plain recipe reaches in the given minutes. What is compared is the
time at which each is first at 95 % of that plateau.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import SimpleITK as sitk
import torch
import typer
from annotation import Case, cases, painted
from monai.inferers import sliding_window_inference
from monai.losses import MaskedDiceLoss
from monai.transforms import (
    Compose,
    NormalizeIntensity,
    RandCropByLabelClassesd,
    RandFlipd,
    SpatialPadd,
)
from rich.console import Console
from rich.table import Table
from torch.nn.functional import cross_entropy

from imbalanceseg.annotation.annotation import Annotation
from imbalanceseg.atomic import write_json
from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.labels import UNLABELLED
from imbalanceseg.metrics.evaluate import evaluate
from imbalanceseg.networks.factory import create_network
from imbalanceseg.training.finetune import finetune

SHARE_OF_PLATEAU = 0.95
_LATER = 1.3
"""Each look at the plain recipe comes that much later than the one before."""
_FIRST_LOOK = 3.0
_CROPS = 2
_SIDE = 48
_RATE = 1e-3
_FEATURES = (8, 16, 32)
_BUDGETS = (3.0, 6.0, 12.0, 24.0, 60.0)

Curve = list[tuple[float, float]]
"""Seconds and Dice outside what was painted."""


def plain(case: Case, annotation: Annotation, seconds: float, seed: int) -> Curve:
    """The plain recipe; see above.

    Args:
        case: scan and reference.
        annotation: what was painted.
        seconds: of training.
        seed: of everything random.
    """
    torch.manual_seed(seed)
    scan = torch.from_numpy(sitk.GetArrayFromImage(case.image).astype(np.float32))[None]
    scan = torch.as_tensor(NormalizeIntensity(nonzero=True)(scan))
    classes = max(case.classes) + 1
    labels = torch.from_numpy(annotation.labels)[None].int()
    # One class more than there are: crops are drawn around what is labelled, whatever it is.
    places = torch.where(labels == UNLABELLED, 0, labels + 1)
    # Room to move: where crops always lie alike, pooling always falls on the same voxels.
    side = tuple(max(8, min(_SIDE, (n - 3) // 4 * 4)) for n in scan.shape[1:])
    both = ["image", "places"]
    draw = Compose(
        [
            SpatialPadd(both, side),
            RandCropByLabelClassesd(
                both, "places", side, [0] + [1] * classes, classes + 1, num_samples=_CROPS
            ),
            *(RandFlipd(both, 0.5, axis) for axis in range(3)),
        ]
    ).set_random_state(seed)
    network = create_network("unet3d", in_channels=1, out_channels=classes, features=_FEATURES)
    optimizer = torch.optim.Adam(network.parameters(), _RATE)
    dice_loss = MaskedDiceLoss(include_background=False, to_onehot_y=True, softmax=True)
    curve: Curve = []
    spent, look = 0.0, _FIRST_LOOK
    while spent < seconds:
        begun = time.monotonic()
        crops: Any = draw({"image": scan, "places": places})
        image = torch.stack([torch.as_tensor(crop["image"]) for crop in crops])
        place = torch.stack([torch.as_tensor(crop["places"]) for crop in crops]).long()
        network.train()
        logits = network(image)
        known, target = place > 0, (place - 1).clamp(min=0)
        loss = cross_entropy(logits, place[:, 0] - 1, ignore_index=-1)
        loss = loss + dice_loss(logits, target, known)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        spent += time.monotonic() - begun
        if spent >= look or spent >= seconds:
            look = spent * _LATER
            curve.append((spent, _asked(network, scan, side, case, annotation)))
    return curve


def ours(case: Case, annotation: Annotation, seed: int) -> Curve:
    """Runs of ours, each with another budget."""
    curve: Curve = []
    for budget in _BUDGETS:
        begun = time.monotonic()
        tuned = finetune(case.image, annotation, None, seconds=budget, seed=seed)
        took = time.monotonic() - begun
        curve.append(
            (took, _dice(sitk.GetArrayFromImage(tuned.segmentation.labels), case, annotation))
        )
    return sorted(curve)


def reached(curve: Curve, dice: float) -> float | None:
    """Seconds until a curve is first at a Dice; None where it never is."""
    return next((seconds for seconds, value in curve if value >= dice), None)


@torch.inference_mode()
def _asked(
    network: torch.nn.Module,
    scan: torch.Tensor,
    side: tuple[int, ...],
    case: Case,
    annotation: Annotation,
) -> float:
    network.eval()
    found = sliding_window_inference(scan[None], side, 1, network, overlap=0.5, mode="gaussian")
    return _dice(torch.as_tensor(found)[0].argmax(0).numpy(), case, annotation)


def _dice(found: np.ndarray, case: Case, annotation: Annotation) -> float:
    outside = sitk.GetArrayFromImage(case.reference).astype(np.uint8)
    outside[annotation.known] = UNLABELLED
    grid = Grid.of(case.reference)
    labels = image_from_array(found.astype(np.uint8), grid)
    return float(evaluate(labels, image_from_array(outside, grid), ["dice"], case.classes)["dice"])


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Dice against seconds, a panel a case."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.6 * len(rows), 3.4), layout="constrained")
    for panel, row in zip(figure.subplots(1, len(rows), squeeze=False)[0], rows, strict=True):
        for name, style in (("ours", "C0o-"), ("plain", "C1.--")):
            panel.plot(*zip(*row[name], strict=True), style, label=name)
        panel.axhline(SHARE_OF_PLATEAU * row["plateau"], color="0.6", linewidth=0.8)
        panel.set_xscale("log")
        panel.set_ylim(0, 1)
        panel.set_title(row["case"], fontsize=9)
        panel.set_xlabel("seconds")
        panel.grid(alpha=0.3)
    figure.axes[0].set_ylabel("Dice outside the painted slices")
    figure.axes[-1].legend(loc="lower right")
    figure.savefig(path, dpi=120)


def main(
    data: Annotated[Path, typer.Argument(help="Folder with the data sets.")],
    results: Annotated[Path, typer.Argument(help="JSON file; what it has is not run again.")],
    names: Annotated[str, typer.Option(help="Cases.")] = "hippocampus,spleen,brain1",
    slices: Annotated[int, typer.Option(help="How many to paint.")] = 5,
    minutes: Annotated[float, typer.Option(help="For the plain recipe.")] = 10,
    most: Annotated[int, typer.Option(help="Cases of a group.")] = 3,
    seed: Annotated[int, typer.Option()] = 0,
    picture: Annotated[Path | None, typer.Option(help="Curves as PNG.")] = None,
) -> None:
    """Time both until they are good enough."""
    rows = json.loads(results.read_text(encoding="utf-8")) if results.exists() else []
    counts: dict[str, int] = {}
    for case in cases(data, names.split(",")):
        counts[case.group] = counts.get(case.group, 0) + 1
        annotation = painted(case, slices, seed)
        if counts[case.group] > most or case.name in {row["case"] for row in rows}:
            continue
        if annotation is None:
            print(f"{case.name}: {slices} slices leave nothing to score")
            continue
        row: dict[str, Any] = {
            "case": case.name,
            "plain": plain(case, annotation, 60 * minutes, seed),
            "ours": ours(case, annotation, seed),
        }
        row["plateau"] = max(dice for _, dice in row["plain"])
        for name in ("plain", "ours"):
            row[f"{name} seconds"] = reached(row[name], SHARE_OF_PLATEAU * row["plateau"])
        rows.append(row)
        write_json(results, rows)
        print(row, flush=True)
    table = Table("case", "plateau", "plain s", "ours s", "ratio", "best of ours")
    ratios = []
    for row in rows:
        slow, quick = row["plain seconds"], row["ours seconds"]
        ratios.append(slow / quick if quick else 0.0)
        best = max(dice for _, dice in row["ours"])
        figures = [f"{row['plateau']:.3f}", f"{slow:.1f}", f"{quick:.1f}" if quick else "never"]
        table.add_row(row["case"], *figures, f"{ratios[-1]:.1f}", f"{best:.3f}")
    Console().print(table)
    print(f"median ratio {median(ratios):.1f}")
    if picture:
        draw(rows, picture)


if __name__ == "__main__":
    typer.run(main)
