"""Several processes on one training, started by ``torchrun``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn

_PATIENCE = timedelta(days=2)
"""The others wait while one process prepares a dataset; of one that dies torchrun tells them."""


@dataclass(frozen=True)
class Ranks:
    """This process among all.

    Attributes:
        rank: number of this process.
        world: how many there are.
        local: number of this process on its machine.
    """

    rank: int = 0
    world: int = 1
    local: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process validates, logs and saves."""
        return self.rank == 0

    def wait(self) -> None:
        """Until every process is here."""
        if self.world > 1:
            dist.barrier()

    def agree(self, values: list[float]) -> list[float]:
        """The numbers of the process that leads, for all."""
        if self.world == 1:
            return values
        shared = torch.tensor(values, dtype=torch.float64, device=self._device())
        dist.broadcast(shared, 0)
        return [float(value) for value in shared.tolist()]

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network with gradients averaged over all processes."""
        if self.world == 1:
            return network
        return nn.parallel.DistributedDataParallel(network, find_unused_parameters=True)

    def _device(self) -> torch.device:
        if dist.get_backend() == "nccl":
            return torch.device("cuda", self.local)
        return torch.device("cpu")


@contextmanager
def joined_ranks(cuda: bool) -> Iterator[Ranks]:
    """Join the processes that ``torchrun`` started; alone when it did not."""
    if "WORLD_SIZE" not in os.environ or int(os.environ["WORLD_SIZE"]) < 2:
        yield Ranks()
        return
    local = int(os.environ["LOCAL_RANK"])
    if cuda:
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if cuda else "gloo", timeout=_PATIENCE)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), local)
    finally:
        dist.destroy_process_group()
