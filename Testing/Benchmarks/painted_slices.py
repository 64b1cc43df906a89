"""A copy of a dataset in which only three slices of every case are labelled, one of each axis.

``python Testing/Benchmarks/painted_slices.py SET COPY``; SET is a folder with images and labels.
Each slice is the one with most foreground, as a person would choose it; all else is 255.
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


def painted(label: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The label on the slice with most foreground of each axis, 255 elsewhere."""
    kept = np.full_like(label, UNLABELLED)
    for axis in range(label.ndim):
        others = tuple(a for a in range(label.ndim) if a != axis)
        fullest = int((label > 0).sum(others).argmax())
        slices = tuple(fullest if a == axis else slice(None) for a in range(label.ndim))
        kept[slices] = label[slices]
    return kept


def paint_dataset(dataset: Path, copy: Path, most: int | None = None) -> Path:
    """Write the sparse copy of a folder with ``images`` and ``labels``; of the first ``most``."""
    for part in ("images", "labels"):
        (copy / part).mkdir(parents=True)
    for path in sorted((dataset / "labels").iterdir())[:most]:
        label = sitk.ReadImage(str(path), sitk.sitkUInt8)
        sparse = sitk.GetImageFromArray(painted(sitk.GetArrayFromImage(label)))
        sparse.CopyInformation(label)
        sitk.WriteImage(sparse, str(copy / "labels" / path.name), useCompression=True)
        shutil.copy(dataset / "images" / path.name, copy / "images" / path.name)
    return copy


def main(
    dataset: Annotated[Path, typer.Argument(help="Folder with images and labels.")],
    copy: Annotated[Path, typer.Argument(help="Folder to write.")],
) -> None:
    """Keep three slices of every label."""
    print(paint_dataset(dataset, copy))


if __name__ == "__main__":
    typer.run(main)
