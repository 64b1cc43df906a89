"""The threshold of a model's gate, chosen on validation cases.

``python -m imbalanceseg.training.gate_choice MODEL SCAN REFERENCE [SCAN REFERENCE ...]`` prints the
highest threshold that loses at most 0.1 % of the foreground, and how much of the volume it leaves.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import SimpleITK as sitk
import torch
import typer

from imbalanceseg.errors import InputError
from imbalanceseg.geometry import resample
from imbalanceseg.inference.backends.pytorch import PyTorchBackend
from imbalanceseg.inference.gate import cell_scores, coarse_foreground, safe_threshold
from imbalanceseg.inference.maps import MappedNetwork, MapRequest
from imbalanceseg.inference.tiling import Sides
from imbalanceseg.inference.working_volume import working_volume
from imbalanceseg.io import read_image
from imbalanceseg.models.bundle import load_model
from imbalanceseg.models.card import output_channels


def choose(
    model_name: Annotated[str, typer.Argument(metavar="MODEL")],
    cases: Annotated[list[Path], typer.Argument(metavar="SCAN REFERENCE ...")],
    factor: Annotated[int, typer.Option(min=1, max=8)] = 2,
    reach: Annotated[int, typer.Option(min=0, max=64)] = 8,
) -> None:
    """Print the threshold and what it leaves to be looked at."""
    if len(cases) % 2:
        raise InputError(
            "reference-missing", "The last scan has no reference.", "Give them in pairs."
        )
    model = load_model(model_name)
    card = model.card
    multiples = tuple(model.network.multiples())  # type: ignore[operator]
    factors = (factor,) * card.spatial_dims
    request = MapRequest(classes=output_channels(card))
    mapped = MappedNetwork(model.network, request, 0).eval()
    see = PyTorchBackend(torch.device("cpu")).load(mapped, card.spatial_dims)
    scored: list[tuple[torch.Tensor, np.ndarray, Sides]] = []
    for scan_file, reference_file in zip(cases[::2], cases[1::2], strict=True):
        scan = read_image(scan_file)
        seen, _ = working_volume([scan], card)
        truth = resample(read_image(reference_file) > 0, seen.grid, "nearest")
        along = sitk.GetArrayFromImage(truth).transpose(card.axes) > 0
        coarse = coarse_foreground(see, seen.voxels, factors, multiples)
        scores, cell = cell_scores(coarse, factors, reach)
        scored.append((scores, along, cell))
    threshold = safe_threshold(scored)
    left = [float((scores > threshold).float().mean()) for scores, _, _ in scored]
    print(f"threshold {threshold:.6f}; cells looked at: {', '.join(f'{s:.1%}' for s in left)}")


if __name__ == "__main__":
    typer.run(choose)
