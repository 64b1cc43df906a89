"""A model as training makes it from a plan, and a case of that plan's dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from scipy import ndimage
from torch import nn

from imbalanceseg.geometry import Grid
from imbalanceseg.models.bundle import Model
from imbalanceseg.models.card import NetworkSpec
from imbalanceseg.models.planned import planned_card
from imbalanceseg.models.write import write_bundle
from imbalanceseg.networks import create_network
from imbalanceseg.planning.imbalance import Sampling
from imbalanceseg.planning.plan import Plan
from imbalanceseg.preprocessing.intensity import Normalization

TURN = np.deg2rad(15)


def thick_plan(**changes: Any) -> Plan:
    """Three classes of a two-channel MR with thick sagittal slices."""
    fields: dict[str, Any] = {
        "dataset": "Brains",
        "preset": "v2",
        "channel_names": ("T1", "FLAIR"),
        "labels": {0: "background", 1: "core", 2: "rim", 4: "cyst"},
        "axes": (2, 0, 1),
        "spacing_mm": (4.0, 1.0, 1.2),
        "anisotropic": True,
        "patch": (5, 32, 24),
        "batch": 2,
        "network": "nnunet",
        "strides": ((1, 1, 1), (1, 2, 2), (1, 2, 2)),
        "kernels": ((1, 3, 3), (1, 3, 3), (3, 3, 3)),
        "features": (8, 12, 16),
        "normalization": (
            Normalization(scheme="z-score"),
            Normalization(scheme="masked z-score"),
        ),
        "loss": "dice_ce",
        "loss_weight": "none",
        "sampling": Sampling(foreground=0.33),
        "reasons": {},
    }
    return Plan(**fields | changes)


def flat_plan(**changes: Any) -> Plan:
    """One class of grey 2D pictures."""
    return thick_plan(
        **{
            "dataset": "Nuclei",
            "channel_names": ("fluorescence",),
            "labels": {0: "background", 1: "nucleus"},
            "axes": (0, 1),
            "spacing_mm": (1.0, 1.0),
            "anisotropic": False,
            "patch": (32, 24),
            "strides": ((1, 1), (2, 2)),
            "kernels": ((3, 3), (3, 3)),
            "features": (8, 12),
            "normalization": (Normalization(scheme="z-score"),),
        }
        | changes
    )


def random_networks(
    plan: Plan, outputs: int, count: int = 1
) -> tuple[NetworkSpec, list[nn.Module]]:
    """Networks whose random weights tell voxels apart; weights that float16 holds exactly."""
    kwargs = {
        "in_channels": len(plan.channel_names),
        "out_channels": outputs,
        "kernels": plan.kernels,
        "strides": plan.strides,
        "features": plan.features,
    }
    spec = NetworkSpec(name=plan.network, kwargs=kwargs)
    networks = []
    for seed in range(count):
        torch.manual_seed(seed)
        network = create_network(spec.name, **spec.kwargs).eval()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.copy_((2 * parameter).half().float())
        networks.append(network)
    return spec, networks


def planned_model(
    folder: Path, plan: Plan, outputs: int, count: int = 1, **changes: Any
) -> tuple[Model, list[nn.Module]]:
    """A bundle of random networks for a plan, and the networks."""
    spec, networks = random_networks(plan, outputs, count)
    card = planned_card(plan, spec, name="planned", recipe_name="default", cases=7, **changes)
    return write_bundle(folder, networks, card), networks


def turned_grid(size: tuple[int, int, int] = (40, 44, 9)) -> Grid:
    """Index axes that run posterior, inferior and right, obliquely, in thick sagittal slices."""
    tilt = np.array([[1, 0, 0], [0, np.cos(TURN), -np.sin(TURN)], [0, np.sin(TURN), np.cos(TURN)]])
    columns = np.array([[0, 1, 0], [0, 0, -1], [-1, 0, 0]]).T
    return Grid(size, (1.1, 0.9, 4.5), (12.0, -40.0, 130.0), tuple((tilt @ columns).ravel()))


def brain(seed: int, grid: Grid) -> sitk.Image:
    """Smooth positive noise with a border of zeros, float32."""
    draw = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(draw.standard_normal(grid.size[::-1]), (0.5, 2, 2))
    values = (300 + 900 * noise).astype(np.float32)
    values[:1], values[:, :4], values[:, :, -6:] = 0, 0, 0
    return grid.placed(sitk.GetImageFromArray(values))
