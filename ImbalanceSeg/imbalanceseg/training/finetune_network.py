"""Train a network on the painted slices of one scan."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from imbalanceseg.inference.device import fast_layout, fast_precision
from imbalanceseg.labels import UNLABELLED
from imbalanceseg.losses.partial_label import partial_label_loss
from imbalanceseg.models.card import NetworkSpec
from imbalanceseg.networks.blocks import set_statistics
from imbalanceseg.networks.coarser import CoarserNetwork
from imbalanceseg.networks.factory import create_network
from imbalanceseg.planning.imbalance import Sampling
from imbalanceseg.training.checkpoint import moments_of, restore_moments
from imbalanceseg.training.painted_case import PaintedCase
from imbalanceseg.training.painted_rows import sure_voxels, trust_by_class
from imbalanceseg.training.patches import PatchBatch, PatchSource
from imbalanceseg.training.patient import Patient
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
_FEATURES = (8, 16, 32)
"""Of a network from scratch: what a processor trains in a minute."""
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


class Begun:
    """How far the training of a network has come.

    Args:
        step: steps done.
        seconds: that they took.
        remembered: the optimizer, or its moments as they were kept.
    """

    def __init__(
        self,
        step: int,
        seconds: float,
        remembered: torch.optim.Optimizer | Mapping[str, Tensor],
    ) -> None:
        self.step, self.seconds = step, seconds
        self._remembered = remembered

    @property
    def moments(self) -> Mapping[str, Tensor]:
        """Of the optimizer, by number of the parameter and name."""
        if isinstance(self._remembered, torch.optim.Optimizer):
            return moments_of(self._remembered)
        return self._remembered


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
    begin: Begun | None = None,
    between: Callable[[Begun], bool] = lambda begun: False,
    enough: Callable[[], bool] = lambda: False,
) -> Begun:
    """Train until the time is over; the network is changed in place and left in evaluation mode.

    Args:
        network: to train.
        painted: what it is to learn.
        decoder_only: the half of the network that goes down stays as it is.
        afresh: it has random weights yet.
        patch: voxels along each axis.
        seed: of the patches.
        seconds: that it may take, with those that ``begin`` tells of.
        iterations: at most, None for no limit.
        device: where it is trained.
        told: called with every step and its loss.
        begin: what was done before, with the network as it was then.
        between: called after every step but the last; True when it has used the network, whose
            mode, device and random numbers are then put back.
        enough: no step but the first is begun once this says yes.

    Returns:
        What is done.
    """
    source = _patches(painted, patch, seed)
    trained = _trained(network, decoder_only)
    network.to(device, memory_format=fast_layout(device))  # type: ignore[call-overload]
    network.train()
    rate = _RATE_AFRESH if afresh else _RATE_TRAINED
    optimizer = torch.optim.AdamW(trained, rate, weight_decay=1e-4)
    step, before = 0, 0.0
    if begin is not None:
        step, before = begin.step, begin.seconds
        restore_moments(optimizer, begin.moments)
    begun = now = time.monotonic()
    took = 0.0
    while iterations is None or step < iterations:
        passed = before + now - begun
        # A step that would not end in time is not begun, except the very first.
        if passed + (took if step else 0) >= seconds or (step and enough()):
            break
        # What time does must not show where steps are counted.
        share = passed / seconds if iterations is None else step / iterations
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 10) * (1 - share) ** 0.9
        loss = _loss(network, source.batch(step, 1), painted, device)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 5.0)
        optimizer.step()
        told(step, float(loss.detach()))
        step += 1
        took = time.monotonic() - now
        passed = before + time.monotonic() - begun
        if passed < seconds and step != iterations:
            random = torch.get_rng_state()
            if between(Begun(step, passed, optimizer)):
                network.to(device, memory_format=fast_layout(device))  # type: ignore[call-overload]
                network.train()
            torch.set_rng_state(random)
        now = time.monotonic()
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    network.to("cpu").eval()
    return Begun(step, before + time.monotonic() - begun, optimizer)


def scratch_network(
    patient: Patient, outputs: int, seed: int
) -> tuple[NetworkSpec, nn.Module, float]:
    """A small 3D U-Net that has seen nothing yet but the intensities of a scan.

    Args:
        patient: the scan.
        outputs: channels of the logits.
        seed: of the weights.

    Returns:
        What it is, itself, and the seconds that it will take to see all of the scan.
    """
    arguments: dict[str, Any] = {
        "in_channels": patient.volume.shape[1],
        "out_channels": outputs,
        "features": _FEATURES,
        "norm": "fixed",
    }
    spec = NetworkSpec(name="unet3d", kwargs=arguments)
    torch.manual_seed(seed)
    network = create_network(spec.name, **spec.kwargs).eval()
    middle = patient.middle(network)
    begun = time.monotonic()
    set_statistics(network, [middle])
    took = time.monotonic() - begun
    return spec, network, took * patient.volume.numel() / middle.numel()


def sure_of(
    patient: Patient, labels: Tensor, classes: Sequence[int] | None, outputs: int
) -> tuple[Tensor, Tensor]:
    """What the network was sure of where nobody has said anything.

    Args:
        patient: the scan, seen by the network or by none.
        labels: uint8 ``[Z, Y, X]``; 255 unlabelled.
        classes: that were looked for, None for all.
        outputs: channels of the logits.

    Returns:
        Its class plus 1, int32 ``[Z, Y, X]``, 0 elsewhere; and how far each class is believed.
    """
    count = max(2, outputs)
    if patient.seen is None:
        return torch.zeros(labels.shape, dtype=torch.int32), torch.ones(count)
    start, flat = patient.start_logits(), labels.flatten()
    sure, said = sure_voxels(start)
    known = flat != UNLABELLED
    trust = trust_by_class(start[:, known], flat[known].long(), classes, count)
    kept = torch.where(sure & ~known, said + 1, 0).to(torch.int32)
    return kept.view(labels.shape), trust


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


def _patches(painted: Painted, patch: Sequence[int], seed: int) -> PatchSource:
    """Moved and bent patches around painted voxels."""
    case = PaintedCase(
        painted.image.numpy(), painted.labels.numpy(), painted.kept.numpy().astype(np.int32)
    )
    thick = max(painted.spacing_mm) > _THICK * min(painted.spacing_mm)
    return PatchSource(
        [case],
        patch,
        Sampling(annotated=1.0),
        _AUGMENTATION,
        painted.spacing_mm,
        anisotropic=thick and painted.spacing_mm[0] == max(painted.spacing_mm),
        seed=seed,
    )


def _loss(network: nn.Module, batch: PatchBatch, painted: Painted, device: torch.device) -> Tensor:
    """Of what was painted, and of what the network was sure of elsewhere."""
    batch = batch.each(lambda x: x.to(device))
    with fast_precision(device), fast_weight_gradients(device):
        output = network(batch.image)
    logits = (output if isinstance(output, Tensor) else output[0]).float()
    loss = partial_label_loss(logits, batch.label, annotated_classes=painted.classes)
    return loss + _keeping(logits, batch.label, batch.components, painted.trust.to(device))


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
        network = network.base if isinstance(network, CoarserNetwork) else network
        for name in _ENCODERS:
            part = getattr(network, name, None)
            if isinstance(part, nn.Module):
                for parameter in part.parameters():
                    parameter.requires_grad_(False)
    return [p for p in network.parameters() if p.requires_grad]
