"""Train a network on the painted slices of one scan."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from imbalanceseg.inference.device import fast_layout, fast_precision
from imbalanceseg.labels import UNLABELLED
from imbalanceseg.losses.partial_label import partial_label_loss
from imbalanceseg.planning.imbalance import Sampling
from imbalanceseg.training.painted_case import PaintedCase
from imbalanceseg.training.patches import PatchSource
from imbalanceseg.training.recipe import Augmentation
from imbalanceseg.training.weight_gradients import fast_weight_gradients

_ENCODERS = (
    "encoder",
    "down",
    "left",
    "in_plane",
    "through_plane",
    "fuse",
    "pool",
    "before_bottom",
)
"""Names under which the networks keep the half that goes down."""
_RATE_AFRESH, _RATE_TRAINED = 2e-3, 3e-4
_PATCH_VOXELS = 48**3
_THICK = 3.0
_AUGMENTATION = Augmentation(
    rotation=0.3,
    rotation_degrees=15,
    zoom=0.2,
    zoom_range=(0.85, 1.2),
    elastic=0.3,
    elastic_grid_mm=24.0,
    elastic_mm=2.0,
    noise=0.2,
    blur=0.1,
    brightness=0.15,
    contrast=0.15,
    low_resolution=0.0,
    gamma=0.2,
    inverted_gamma=0.0,
    mirror=0.0,
)


@dataclass(frozen=True)
class Painted:
    """What a network is to learn of a scan.

    Attributes:
        image: float32 ``[C, Z, Y, X]`` along the network's axes.
        labels: uint8 ``[Z, Y, X]``; 255 unlabelled.
        kept: int32 ``[Z, Y, X]``: what the network was sure of plus 1, 0 elsewhere.
        trust: of each class of ``kept``, in [0, 1].
        classes: that were looked for, None for all.
        spacing_mm: along Z, Y and X.
    """

    image: Tensor
    labels: Tensor
    kept: Tensor
    trust: Tensor
    classes: Sequence[int] | None
    spacing_mm: tuple[float, ...]


def train_network(
    network: nn.Module,
    painted: Painted,
    *,
    decoder_only: bool,
    afresh: bool,
    patch: Sequence[int],
    seed: int,
    seconds: float,
    iterations: int | None,
    device: torch.device,
    told: Callable[[int, float], None],
) -> int:
    """Train until the time is over; the network is changed in place and left in evaluation mode.

    Args:
        network: to train.
        painted: what it is to learn.
        decoder_only: the half of the network that goes down stays as it is.
        afresh: it has random weights yet.
        patch: voxels along each axis.
        seed: of the patches.
        seconds: that it may take.
        iterations: at most, None for no limit.
        device: where it is trained.
        told: called with every step and its loss.

    Returns:
        Steps done.
    """
    case = PaintedCase(
        painted.image.numpy(), painted.labels.numpy(), painted.kept.numpy().astype(np.int32)
    )
    thick = max(painted.spacing_mm) > _THICK * min(painted.spacing_mm)
    source = PatchSource(
        [case],
        patch,
        Sampling(annotated=1.0),
        _AUGMENTATION,
        painted.spacing_mm,
        anisotropic=thick and painted.spacing_mm[0] == max(painted.spacing_mm),
        seed=seed,
    )
    trained = _trained(network, decoder_only)
    network.to(device, memory_format=fast_layout(device))  # type: ignore[call-overload]
    network.train()
    rate = _RATE_AFRESH if afresh else _RATE_TRAINED
    optimizer = torch.optim.AdamW(trained, rate, weight_decay=1e-4)
    begun, step = time.monotonic(), 0
    while iterations is None or step < iterations:
        share = (time.monotonic() - begun) / seconds
        if iterations is not None:
            share = max(share, step / iterations)
        if share >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 10) * (1 - share) ** 0.9
        batch = source.batch(step, 1).each(lambda x: x.to(device))
        with fast_precision(device), fast_weight_gradients(device):
            output = network(batch.image)
        logits = (output if isinstance(output, Tensor) else output[0]).float()
        loss = partial_label_loss(logits, batch.label, annotated_classes=painted.classes)
        loss = loss + _keeping(logits, batch.label, batch.components, painted.trust.to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 5.0)
        optimizer.step()
        told(step, float(loss.detach()))
        step += 1
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    network.to("cpu").eval()
    return step


def patch_sides(
    shape: Sequence[int], spacing_mm: Sequence[float], multiples: Sequence[int]
) -> tuple[int, ...]:
    """A patch of about 48^3 voxels that is as long in mm along every axis as it can be."""
    sides = list(multiples)
    room = [max(m, n // m * m) for n, m in zip(shape, multiples, strict=True)]
    while True:
        free = [a for a in range(len(sides)) if sides[a] + multiples[a] <= room[a]]
        if not free:
            return tuple(sides)
        axis = min(free, key=lambda a: sides[a] * spacing_mm[a])
        grown = [s + (multiples[a] if a == axis else 0) for a, s in enumerate(sides)]
        if np.prod(grown) > _PATCH_VOXELS:
            return tuple(sides)
        sides = grown


def _keeping(logits: Tensor, label: Tensor, kept: Tensor, trust: Tensor) -> Tensor:
    """Cross entropy with what the network was sure of where nobody has said anything."""
    said = (kept - 1).clamp(min=0)
    free = (kept > 0) & (label == UNLABELLED)
    if not bool(free.any()):
        return logits.sum() * 0
    weight = trust[said].float()
    target = torch.where(free, said, UNLABELLED).to(torch.uint8)
    loss = partial_label_loss(logits, target, weight=weight.clamp(min=1e-6), dice_weight=0.0)
    return loss * weight[free].mean()


def _trained(network: nn.Module, decoder_only: bool) -> list[nn.Parameter]:
    if decoder_only:
        for name in _ENCODERS:
            part = getattr(network, name, None)
            if isinstance(part, nn.Module):
                for parameter in part.parameters():
                    parameter.requires_grad_(False)
    return [p for p in network.parameters() if p.requires_grad]
