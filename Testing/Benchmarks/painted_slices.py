"""A copy of a dataset in which only three slices of every case are labelled, one of each axis.

``python Testing/Benchmarks/painted_slices.py SET COPY``; SET is a folder with images and labels.
Each slice is one of those that cross the structure, another in every case; all else is 255. With
``--fullest`` it is the one with most foreground: then no slice ever shows the corners of a case.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import numpy as np
import SimpleITK as sitk
import typer
from numpy.typing import NDArray

UNLABELLED = 255


def painted(label: NDArray[np.uint8], draw: np.random.Generator | None) -> NDArray[np.uint8]:
    """The label on one slice of each axis, 255 elsewhere; the fullest slices without ``draw``."""
    kept = np.full_like(label, UNLABELLED)
    for axis in range(label.ndim):
        others = tuple(a for a in range(label.ndim) if a != axis)
        foreground = (label > 0).sum(others)
        crossing = np.flatnonzero(foreground)
        chosen = int(foreground.argmax() if draw is None else draw.choice(crossing))
        slices = tuple(chosen if a == axis else slice(None) for a in range(label.ndim))
        kept[slices] = label[slices]
    return kept


def paint_dataset(
    dataset: Path, copy: Path, most: int | None = None, fullest: bool = False, seed: int = 0
) -> Path:
    """Write the sparse copy of a folder with ``images`` and ``labels``; of the first ``most``."""
    for part in ("images", "labels"):
        (copy / part).mkdir(parents=True)
    draw = None if fullest else np.random.default_rng(seed)
    for path in sorted((dataset / "labels").iterdir())[:most]:
        label = sitk.ReadImage(str(path), sitk.sitkUInt8)
        sparse = sitk.GetImageFromArray(painted(sitk.GetArrayFromImage(label), draw))
        sparse.CopyInformation(label)
        sitk.WriteImage(sparse, str(copy / "labels" / path.name), useCompression=True)
        shutil.copy(dataset / "images" / path.name, copy / "images" / path.name)
    return copy


def main(
    dataset: Annotated[Path, typer.Argument(help="Folder with images and labels.")],
    copy: Annotated[Path, typer.Argument(help="Folder to write.")],
    fullest: Annotated[bool, typer.Option("--fullest", help="Most foreground.")] = False,
    seed: Annotated[int, typer.Option(help="Same seed, same slices.")] = 0,
) -> None:
    """Keep three slices of every label."""
    print(paint_dataset(dataset, copy, fullest=fullest, seed=seed))


if __name__ == "__main__":
    typer.run(main)
