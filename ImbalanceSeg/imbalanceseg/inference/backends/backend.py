"""What every backend can do, and how one fails."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import Tensor, nn

Runner = Callable[[Tensor], Tensor]
"""From a patch ``[B, C, ...]`` on the backend's device to float32 ``[B, M, ...]`` there."""


class Backend(Protocol):
    """Something that computes networks.

    Attributes:
        name: for people, with the precision, for example ``"OpenVINO float32"``.
        device: where patches are given and results are left.
    """

    @property
    def name(self) -> str: ...

    @property
    def device(self) -> torch.device: ...

    def at_work(self) -> AbstractContextManager[None]:
        """What must hold around all calls of its runners."""
        ...

    def load(self, network: nn.Module, spatial_dims: int, key: str | None) -> Runner:
        """Make a network ready.

        Args:
            network: in evaluation mode, on the CPU; from one tensor to one tensor.
            spatial_dims: axes of a patch behind batch and channels.
            key: the same for the same network with the same weights, in other processes too; None
                where no such name is known.
        """
        ...


def out_of_memory(error: BaseException) -> bool:
    """Whether a backend failed because memory ran out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    told = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        words in told for words in ("out of memory", "can't allocate memory", "bad_alloc")
    )
