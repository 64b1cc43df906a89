"""Inputs that every loss of the catalogue takes, and what each promises."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from imbalanceseg.losses import loss_names

SHAPE = (3, 5, 4)
BINARY_ONLY = {"general_union"}

# Their value depends on where voxels lie, not only on how many there are.
SPATIAL = {"boundary", "hausdorff_dt", "mse_heatmap", "blob"}

CASES = [(name, 1) for name in loss_names()]
CASES += [(name, 3) for name in loss_names() if name not in BINARY_ONLY]


def case(
    seed: int, channels: int, batch: int = 2, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    """Logits ``[batch, channels, 3, 5, 4]`` and a target in which every class occurs."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn((batch, channels, *SHAPE), generator=generator, dtype=torch.float64)
    classes = max(channels, 2)
    target = torch.randint(0, classes, (batch, 1, *SHAPE), generator=generator)
    target = torch.where(torch.rand(target.shape, generator=generator) < 0.5, 0, target)
    for n in range(batch):
        target[n].view(-1)[:classes] = torch.arange(classes)
    return logits.to(dtype), target.to(torch.uint8)


def maps_for(name: str, logits: Tensor, seed: int = 0) -> dict[str, Tensor]:
    """Maps with which a spatial loss no longer depends on places: any values will do."""
    generator = torch.Generator().manual_seed(seed)
    space = (logits.shape[0], 1, *logits.shape[2:])
    foreground = (logits.shape[0], max(1, logits.shape[1] - 1), *logits.shape[2:])
    if name in ("boundary", "hausdorff_dt"):
        values = torch.randn(foreground, generator=generator, dtype=torch.float64)
        return {"distance": values}
    if name == "mse_heatmap":
        return {"heatmap": torch.rand(foreground, generator=generator, dtype=torch.float64)}
    if name == "blob":
        return {"components": torch.randint(1, 4, space, generator=generator)}
    if name in ("weighted_ce", "general_union"):
        return {"weight": torch.rand(space, generator=generator, dtype=torch.float64) + 0.1}
    return {}


def random_mask(logits: Tensor, seed: int, share: float = 0.6) -> Tensor:
    """Bool ``[B, 1, ...]`` with both values in every sample."""
    shape = (logits.shape[0], 1, *logits.shape[2:])
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share
    mask.view(shape[0], -1)[:, 0] = True
    mask.view(shape[0], -1)[:, -1] = False
    return mask


seeds = st.integers(0, 10_000)
quick = settings(max_examples=15, deadline=None)


def sure(target: Tensor, channels: int = 1, size: float = 1e4) -> Tensor:
    """Logits that predict exactly ``target``."""
    if channels == 1:
        return torch.where(target > 0, size, -size).double()
    one_hot = F.one_hot(target[:, 0].long(), channels).movedim(-1, 1)
    return (2 * one_hot - 1).double() * size


def random_masks(seed: int, share: float = 0.3) -> tuple[Tensor, Tensor]:
    """A label and a binary prediction, both with foreground, ``[1, 1, 5, 6, 7]``."""
    generator = torch.Generator().manual_seed(seed)
    label, found = (torch.rand((2, 1, 1, 5, 6, 7), generator=generator) < share).to(torch.uint8)
    for mask in (label, found):
        mask.view(-1)[3] = 1
    return label, found


def ball(center: tuple[float, ...], radius: float, size: int = 16) -> Tensor:
    offsets = np.indices((size,) * len(center)).T - np.array(center)
    inside = (offsets**2).sum(-1) <= radius**2
    return torch.from_numpy(inside.T.astype(np.uint8))[None, None]
