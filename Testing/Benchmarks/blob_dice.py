"""blob loss of Dice against plain Dice on nuclei whose sizes span two orders of magnitude.

    python Testing/Benchmarks/blob_dice.py --data FOLDER --seeds 0 1 2 --json blob_dice.json

FOLDER holds nuclei_2d. Both losses see the same network, initial weights, patches and optimiser; a
seed changes all of these but the optimiser. Trained on the train split, judged on the val split
with whatever the last step left. What is segmented is foreground, so an instance, of the reference
too, is a connected component: nuclei that touch are one.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

import numpy as np
import SimpleITK as sitk
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from imbalanceseg.atomic import write_json
from imbalanceseg.losses import create_loss
from imbalanceseg.metrics.instances import (
    InstanceScore,
    Match,
    connected_instances,
    instance_score,
)
from imbalanceseg.networks import create_network

LOSSES = ("dice", "blob")
_FEATURES = (16, 32, 64, 128)
_LEARNING_RATE = 1e-3
_BATCH, _SIDE = 8, 96
_STEPS = 800


@dataclass(frozen=True)
class Image:
    """One microscopy image.

    Attributes:
        grey: float32 ``[Y, X]``, mean 0 and standard deviation 1.
        foreground: bool ``[Y, X]``.
    """

    grey: np.ndarray
    foreground: np.ndarray


@dataclass(frozen=True)
class Result:
    """One training, judged on the val split.

    Attributes:
        loss: name of the loss.
        seed: of weights and patches.
        cpu_minutes: processor time of the training.
        dice: mean over images.
        overlap: instances of all images; a pair counts when it overlaps.
        half: the same; a pair counts from an IoU of one half.
    """

    loss: str
    seed: int
    cpu_minutes: float
    dice: float
    overlap: InstanceScore
    half: InstanceScore

    def figures(self) -> dict[str, str | int | float]:
        """Everything by name, for a file. Sizes are areas in pixels."""
        rounded = {name: round(value, 4) for name, value in self.scores().items()}
        return {"loss": self.loss, "seed": self.seed, "CPU minutes": self.cpu_minutes, **rounded}

    def scores(self) -> dict[str, float]:
        """What the losses are compared by. Sizes are areas in pixels."""
        found = {"Dice": self.dice, "precision, any overlap": self.overlap.precision}
        for name, score in (("any overlap", self.overlap), ("IoU >= 0.5", self.half)):
            found[f"F1, {name}"] = score.f1
            found[f"sensitivity, {name}"] = score.sensitivity
            for stratum in score.strata:
                size = f"{stratum.low:.0f} to {stratum.high:.0f} px"
                found[f"sensitivity, {name}, {size}"] = stratum.sensitivity
        return found | {"predicted instances": self.overlap.prediction_count}


def images_in(folder: Path) -> list[Image]:
    """The images of one split, colour ones as grey ones."""
    return [read(path) for path in sorted((folder / "images").glob("*.png"))]


def read(path: Path) -> Image:
    """An image and its foreground."""
    pixels = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).astype(np.float32)
    grey = pixels.mean(axis=2) if pixels.ndim == 3 else pixels
    label = sitk.GetArrayFromImage(sitk.ReadImage(str(path.parent.parent / "labels" / path.name)))
    return Image((grey - grey.mean()) / max(float(grey.std()), 1e-6), label > 0)


def size_edges(images: Sequence[Image]) -> tuple[float, ...]:
    """Areas that part the instances of these images in three groups of equal number."""
    areas = [np.bincount(connected_instances(i.foreground).ravel())[1:] for i in images]
    return tuple(float(edge) for edge in np.quantile(np.concatenate(areas), (1 / 3, 2 / 3)))


def batches(images: Sequence[Image], seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Random patches ``[B, 1, Y, X]``, turned and mirrored, and their foreground as 0 and 1."""
    draw = np.random.default_rng(seed)
    while True:
        pairs = [patch(images[int(draw.integers(len(images)))], draw) for _ in range(_BATCH)]
        grey, foreground = (np.stack(arrays)[:, None] for arrays in zip(*pairs, strict=True))
        yield torch.from_numpy(grey), torch.from_numpy(foreground)


def patch(image: Image, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One patch of image and foreground."""
    y, x = (int(draw.integers(size - _SIDE + 1)) for size in image.grey.shape)
    turns, mirrored = int(draw.integers(4)), bool(draw.integers(2))
    patches = []
    for array in (image.grey, image.foreground.astype(np.uint8)):
        part = np.rot90(array[y : y + _SIDE, x : x + _SIDE], turns)
        patches.append(np.ascontiguousarray(part[:, ::-1] if mirrored else part))
    return patches[0], patches[1]


def trained(name: str, images: Sequence[Image], seed: int, steps: int) -> tuple[nn.Module, float]:
    """A network trained with a loss, and the processor minutes it took."""
    torch.manual_seed(seed)
    network = create_network("unet2d", out_channels=1, features=_FEATURES, dropout=0.0)
    loss = create_loss(name)
    optimiser = torch.optim.Adam(network.parameters(), lr=_LEARNING_RATE)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    began = time.process_time()
    for _, (inputs, target) in zip(range(steps), batches(images, seed), strict=False):
        optimiser.zero_grad()
        loss(network(inputs), target).backward()
        optimiser.step()
        decay.step()
    return network.eval(), (time.process_time() - began) / 60


def predicted(network: nn.Module, grey: np.ndarray) -> np.ndarray:
    """Foreground of a whole image, ``[Y, X]``."""
    multiple = 2 ** (len(_FEATURES) - 1)
    margins = [(0, -size % multiple) for size in grey.shape]
    padded = torch.from_numpy(np.pad(grey, margins, mode="reflect"))[None, None]
    with torch.inference_mode():
        logits = network(padded)[0, 0].numpy()
    return np.asarray(logits[: grey.shape[0], : grey.shape[1]] > 0)


def dice(prediction: np.ndarray, reference: np.ndarray) -> float:
    """Overlap of two masks that are not both empty."""
    both = np.count_nonzero(prediction & reference)
    return 2 * both / (np.count_nonzero(prediction) + np.count_nonzero(reference))


def instances_of_all(
    predictions: Sequence[np.ndarray], images: Sequence[Image], match: Match, edges: Sequence[float]
) -> InstanceScore:
    """The instances of all images counted together."""
    scores = [
        instance_score(
            connected_instances(prediction),
            connected_instances(image.foreground),
            (1.0, 1.0),
            match,
            edges,
        )
        for prediction, image in zip(predictions, images, strict=True)
    ]
    strata = tuple(
        replace(
            same_size[0],
            reference_count=sum(s.reference_count for s in same_size),
            found_count=sum(s.found_count for s in same_size),
        )
        for same_size in zip(*(score.strata for score in scores), strict=True)
    )
    return InstanceScore(
        found_count=sum(s.found_count for s in scores),
        prediction_count=sum(s.prediction_count for s in scores),
        reference_count=sum(s.reference_count for s in scores),
        strata=strata,
    )


def run(
    loss: str,
    seed: int,
    steps: int,
    train: Sequence[Image],
    judge: Sequence[Image],
    edges: Sequence[float],
) -> Result:
    """Train once and judge."""
    network, minutes = trained(loss, train, seed, steps)
    predictions = [predicted(network, image.grey) for image in judge]
    return Result(
        loss,
        seed,
        round(minutes, 2),
        mean(dice(p, image.foreground) for p, image in zip(predictions, judge, strict=True)),
        instances_of_all(predictions, judge, Match.OVERLAP, edges),
        instances_of_all(predictions, judge, Match.HALF, edges),
    )


def table(results: Sequence[Result], split: str) -> Table:
    """Mean over seeds, and lowest and highest in brackets."""
    count = len({r.seed for r in results})
    made = Table(title=f"Nuclei, {split} split, mean of {count} seeds (lowest to highest)")
    made.add_column("")
    of_loss = {loss: [r.scores() for r in results if r.loss == loss] for loss in LOSSES}
    for loss in LOSSES:
        made.add_column(loss, justify="right")
    made.add_column("seeds in which\nblob is higher", justify="right")
    for name in results[0].scores():
        values = {loss: [scores[name] for scores in of_loss[loss]] for loss in LOSSES}
        higher = sum(b > d for d, b in zip(values["dice"], values["blob"], strict=True))
        digits = 0 if name == "predicted instances" else 3
        cells = [
            f"{mean(v):.{digits}f} ({min(v):.{digits}f} to {max(v):.{digits}f})"
            for v in values.values()
        ]
        made.add_row(name, *cells, str(higher))
    return made


def main() -> None:
    """Train what was asked for and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with nuclei_2d")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=_STEPS, help="default %(default)s")
    parser.add_argument(
        "--judge", choices=("val", "train"), default="val", help="split to judge on (default val)"
    )
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = arguments.data / "nuclei_2d"
    train, judge = images_in(folder / "train"), images_in(folder / arguments.judge)
    edges = size_edges(train)
    results = []
    for seed in arguments.seeds:
        for loss in LOSSES:
            results.append(run(loss, seed, arguments.steps, train, judge, edges))
            print(json.dumps(results[-1].figures()), flush=True)
    Console(width=120).print(table(results, arguments.judge))
    if arguments.json:
        write_json(arguments.json, [result.figures() for result in results])


if __name__ == "__main__":
    main()
