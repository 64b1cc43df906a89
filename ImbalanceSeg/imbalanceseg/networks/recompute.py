"""Activations kept or computed again: memory against time."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def run(block: nn.Module, *inputs: Any, recompute: bool) -> Any:
    """``block(*inputs)``; with ``recompute`` its activations are computed again when needed."""
    if recompute and block.training and torch.is_grad_enabled():
        return checkpoint(block, *inputs, use_reentrant=False)
    return block(*inputs)
