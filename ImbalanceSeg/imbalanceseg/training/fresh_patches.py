"""Patches that are painted for one step, where the network trains, and never seen again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from imbalanceseg.planning.plan import Plan
from imbalanceseg.preprocessing.intensity import normalized
from imbalanceseg.synthesis.airway_cases import AirwayHost, Placing, airway_piece


class FreshPatches:
    """Pieces of chests, every one painted anew: there is no end of them to learn by heart.

    Args:
        hosts: chests that pieces are taken of.
        share: of all patches that are painted; the others come from made cases.
        side: voxels along each axis of a patch.
        plan: says how intensities are scaled.
        device: to paint on.
    """

    def __init__(
        self,
        hosts: Sequence[AirwayHost],
        share: float,
        side: int,
        plan: Plan,
        device: torch.device,
    ) -> None:
        self.share = share
        self._hosts = hosts
        self._placing = Placing(side=side)
        self._scaling = plan.normalization[0]
        self._device = device

    def drawn(self, draw: np.random.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Image ``[1, ...]``, label and components ``[...]``, centreline weight ``[1, ...]``."""
        generator = torch.Generator(self._device).manual_seed(int(draw.integers(2**31)))
        piece = airway_piece(self._hosts, self._placing, draw, generator)
        hu = piece.hu.cpu().numpy()
        image = torch.from_numpy(normalized(hu, self._scaling, np.ones(hu.shape, bool)))
        label = piece.label.cpu()
        return image[None], label, label.to(torch.int32), piece.centerline_weight.cpu()[None]
