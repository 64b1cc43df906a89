"""Supervision of spatial attention: every level's map is told where the foreground is.

Source: Wang et al., MICCAI 2019, arXiv 1906.03906.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imbalanceseg.losses.voxels import labelled

_POOLS = {1: F.adaptive_max_pool1d, 2: F.adaptive_max_pool2d, 3: F.adaptive_max_pool3d}


class AttentionSupervision(nn.Module):
    """``loss(logits) + attention_weight * mean over levels of Dice(map, pooled label)``.

    The label is max-pooled to each level's size, as in the authors' code, so that the smallest
    object stays visible at the coarsest level; the paper averages, which makes the target of a tiny
    tumour nearly 0. A coarse voxel counts as unlabelled only when none of its fine voxels is
    labelled.

    Args:
        loss: module called as ``loss(logits, target, mask, **maps)``.
        attention_weight: weight of the attention's part.
        smooth: of Dice.
    """

    def __init__(
        self, loss: nn.Module, attention_weight: float = 1.0, smooth: float = 1e-5
    ) -> None:
        super().__init__()
        self.loss = loss
        self.attention_weight = attention_weight
        self.smooth = smooth

    def forward(
        self,
        output: tuple[Tensor, Sequence[Tensor]],
        target: Tensor,
        mask: Tensor | None = None,
        **maps: Any,
    ) -> Tensor:
        """Scalar loss of ``(logits, attention maps)``; the maps are ``[B, 1, ...]`` in [0, 1]."""
        logits, attention = output
        total: Tensor = self.loss(logits, target, mask, **maps)
        inside = labelled(target, mask)
        foreground = (target > 0) & inside
        terms = [self._dice(level.float(), foreground, inside) for level in attention]
        return total + self.attention_weight * torch.stack(terms).mean()

    def _dice(self, attention: Tensor, foreground: Tensor, inside: Tensor) -> Tensor:
        size = attention.shape[2:]
        seen = pooled_label(inside, size)
        a = torch.where(seen > 0, attention, 0.0)
        g = pooled_label(foreground, size)
        return 1 - (2 * (a * g).sum() + self.smooth) / (a.sum() + g.sum() + self.smooth)


def pooled_label(label: Tensor, size: Sequence[int]) -> Tensor:
    """Max-pool a label ``[B, 1, ...]`` to ``size``; float32, a one-voxel object never vanishes."""
    pool = _POOLS[len(size)]
    result: Tensor = pool(label.float(), tuple(size))
    return result
