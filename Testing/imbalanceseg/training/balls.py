"""A dataset that trains in seconds: bright balls in noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from imbalanceseg.io import write_json

SIDE = 24


def write_balls(folder: Path, cases: int = 6, flat: bool = False, sparse: bool = False) -> Path:
    """An nnU-Net v2 folder; one class, one ball a case; with ``sparse`` three painted slices."""
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for number in range(cases):
        draw = np.random.default_rng(number)
        shape = (SIDE, SIDE) if flat else (SIDE, SIDE, SIDE)
        centre = draw.uniform(8, 16, len(shape))
        places = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
        label = (((places - centre) ** 2).sum(-1) < 25).astype(np.uint8)
        image = (draw.normal(size=shape) * 0.3 + 2 * label + 5).astype(np.float32)
        if sparse:
            z, y, x = centre.astype(int)
            painted = np.zeros(shape, bool)
            painted[z] = painted[:, y] = painted[:, :, x] = True
            label = np.where(painted, label, 255).astype(np.uint8)
        ending = "png" if flat else "nii.gz"
        if flat:
            image = np.clip(image * 25, 0, 255).astype(np.uint8)
        sitk.WriteImage(
            sitk.GetImageFromArray(image), folder / "imagesTr" / f"ball{number}_0000.{ending}"
        )
        sitk.WriteImage(
            sitk.GetImageFromArray(label), folder / "labelsTr" / f"ball{number}.{ending}"
        )
    write_json(
        folder / "dataset.json",
        {
            "channel_names": {"0": "MR"},
            "labels": {"background": 0, "ball": 1} | ({"ignore": 255} if sparse else {}),
            "numTraining": cases,
            "file_ending": f".{ending}",
        },
    )
    return folder
