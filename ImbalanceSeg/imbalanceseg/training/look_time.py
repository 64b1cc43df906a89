"""How long a network takes to look at a scan, and how much coarser it must look to be in time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import nn

from imbalanceseg.inference.device import fast_precision, pick_device
from imbalanceseg.models.bundle import Model
from imbalanceseg.models.card import NetworkSpec, output_channels
from imbalanceseg.networks.factory import create_network
from imbalanceseg.training.patient import Patient

_SHARE_OF_BUDGET = 0.35
_OVERLAP = 1.5
"""Tiles lie over each other, and what they say is put together."""
_COARSEST = 4
_SMALL = 4
"""A scan of fewer patches than this is looked at before its time is measured."""


@dataclass(frozen=True, eq=False)
class Look:
    """How an adaptation lets its model's network look at the scan.

    Attributes:
        network: and what makes it again.
        factor: by what each axis is pooled before.
    """

    network: tuple[nn.Module, NetworkSpec]
    factor: tuple[int, ...]

    @property
    def message(self) -> str:
        """For people; empty where it looks at full resolution."""
        if max(self.factor) == 1:
            return ""
        voxels = " x ".join(map(str, self.factor))
        return f"looking coarser to be done in time: {voxels} voxels as one"


def look_in_time(
    patient: Patient, model: Model, device: str, budget: float, known: tuple[int, ...] = ()
) -> Look:
    """The model's network; where that would leave no time to learn, one that looks coarser.

    Args:
        patient: the scan.
        model: that is adapted.
        device: that it looks on.
        budget: seconds of the adaptation that are left.
        known: the factor, where an adaptation goes on that has chosen it before.
    """
    factor = known or look_factor(patient, seconds_to_look(patient, model.network, device), budget)
    if max(factor) == 1:
        return Look((model.network, model.card.network), factor)
    return Look(coarser(model, factor), factor)


@torch.inference_mode()
def seconds_to_look(patient: Patient, network: nn.Module, device: str) -> float:
    """What a network takes for all of a scan, from what it takes for the middle of it."""
    patch = patient.middle(network)
    share = patient.volume[0, 0].numel() / patch[0, 0].numel()
    if share < _SMALL:
        return 0.0
    chosen = pick_device(device)
    network.to(chosen)
    took = 0.0
    # The first time prepares kernels.
    for _ in range(2):
        begun = time.monotonic()
        with fast_precision(chosen):
            found = network(patch.to(chosen))
        (found if isinstance(found, torch.Tensor) else found[0]).sum().item()
        took = time.monotonic() - begun
    return took * share * _OVERLAP


def look_factor(patient: Patient, seconds: float, budget: float) -> tuple[int, ...]:
    """By what each axis is pooled, so that a look fits beside the rest: the finest axes first.

    Args:
        patient: the scan.
        seconds: that a look takes at full resolution.
        budget: seconds of the adaptation that are left.
    """
    factor = [1] * len(patient.spacing_mm)
    while seconds / prod(factor) > _SHARE_OF_BUDGET * budget and min(factor) < _COARSEST:
        steps = [s * f for s, f in zip(patient.spacing_mm, factor, strict=True)]
        finest = min(s for s, f in zip(steps, factor, strict=True) if f < _COARSEST)
        factor = [
            2 * f if f < _COARSEST and s < 1.5 * finest else f
            for s, f in zip(steps, factor, strict=True)
        ]
    return tuple(factor)


def coarser(model: Model, factor: tuple[int, ...]) -> tuple[nn.Module, NetworkSpec]:
    """A model's network, looking coarser."""
    card = model.card
    arguments: dict[str, Any] = {
        "in_channels": len(card.channels),
        "out_channels": output_channels(card),
        "base": {"name": card.network.name, "kwargs": dict(card.network.kwargs)},
        "factor": list(factor),
    }
    looking = create_network("coarser", **arguments)
    looking.base = model.network
    return looking.eval(), NetworkSpec(name="coarser", kwargs=arguments)
