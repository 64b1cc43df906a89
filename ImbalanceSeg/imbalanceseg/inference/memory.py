"""How much memory a segmentation may take, and what a network needs of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from imbalanceseg.errors import InputError

_SHARE_OF_FREE = 0.6
_LEAST_GIB = 0.5
_LIVE_MAPS = 3
"""A layer's input and output, and the skip beside them."""


def memory_budget(memory_gb: float | None = None) -> int:
    """Bytes that may be taken beyond the scan itself; most of what is free when None.

    Raises:
        InputError: ``memory-too-small``.
    """
    if memory_gb is None:
        import psutil

        return int(psutil.virtual_memory().available * _SHARE_OF_FREE)
    if not memory_gb >= _LEAST_GIB:
        raise InputError(
            "memory-too-small",
            f"{memory_gb:g} GB of memory are too little for any network.",
            f"Allow at least {_LEAST_GIB} GB, or leave the limit out.",
        )
    return int(memory_gb * 2**30)


@torch.no_grad()
def bytes_per_voxel(network: nn.Module, patch: Tensor) -> float:
    """Roughly what a network holds at its peak for each voxel that it sees.

    Three of its largest feature maps; WingsNet measures as much.

    Args:
        network: in evaluation mode, on the device of ``patch``.
        patch: a small one, ``[1, C, ...]``.
    """
    largest = 0

    def look(module: nn.Module, given: tuple[object, ...], made: object) -> None:
        nonlocal largest
        for one in (*given, made):
            if isinstance(one, Tensor):
                largest = max(largest, one.numel())

    hooks = [module.register_forward_hook(look) for module in network.modules()]
    try:
        network(patch)
    finally:
        for hook in hooks:
            hook.remove()
    return 4 * _LIVE_MAPS * largest / patch[0, 0].numel()
