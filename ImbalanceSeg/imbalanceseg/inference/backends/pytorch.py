"""PyTorch, eagerly, on the processor or on a GPU."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from imbalanceseg.inference.allocator import kept_memory
from imbalanceseg.inference.backends.backend import Runner
from imbalanceseg.inference.device import (
    cpu_has_bf16,
    fast_layout,
    fast_precision,
    gpu_has_bf16,
)


class PyTorchBackend:
    """Eager PyTorch, in bfloat16 where the hardware multiplies it natively."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    @property
    def name(self) -> str:
        """The device is told elsewhere."""
        on_gpu = self.device.type == "cuda"
        fast = gpu_has_bf16() if on_gpu else cpu_has_bf16()
        return f"PyTorch {'bfloat16' if fast else 'float32'}"

    def at_work(self) -> AbstractContextManager[None]:
        """See :class:`~.backend.Backend`."""
        return kept_memory() if self.device.type == "cpu" else nullcontext()

    def load(self, network: nn.Module, spatial_dims: int, key: str | None = None) -> Runner:
        """See :class:`~.backend.Backend`; the network moves to the device."""
        layout = fast_layout(self.device, spatial_dims)
        network.to(self.device)
        network.to(memory_format=layout)  # type: ignore[call-overload]

        def run(patch: Tensor) -> Tensor:
            with fast_precision(self.device):
                return network(patch.to(memory_format=layout)).float()

        return run
