"""Learning from images without labels beside those with: what all ways have in common."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from imbalanceseg.training.patches import PatchBatch, PatchPair

Precision = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True, eq=False)
class Step:
    """What one step of a training has to learn from.

    Attributes:
        batch: labelled patches.
        pair: unlabelled patches.
        share: of the training that is done.
        supervised: loss of an output on labelled patches.
        precision: context in which networks are run.
    """

    batch: PatchBatch
    pair: PatchPair
    share: float
    supervised: Callable[[Any, PatchBatch], Tensor]
    precision: Precision


class UnlabelledLearning(nn.Module):
    """A teacher, whose weights are an average of the student's, and what else a way needs.

    Its own parameters are trained with the network's and kept in checkpoints.

    Args:
        network: the student.
        decay: of the teacher's weights.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.teacher = copy.deepcopy(network).requires_grad_(False).eval()

    @abstractmethod
    def loss(self, network: nn.Module, step: Step) -> Tensor:
        """Scalar loss of a step, float32."""

    def after_step(self, network: nn.Module, iteration: int) -> None:
        """Let the teacher follow the student; sooner in the beginning."""
        average_into(self.teacher, network, min(self.decay, (1 + iteration) / (10 + iteration)))

    def train(self, mode: bool = True) -> UnlabelledLearning:
        """The teacher stays in evaluation mode."""
        super().train(mode)
        self.teacher.eval()
        return self


@torch.no_grad()
def average_into(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move averaged weights towards a network's: ``decay * average + (1 - decay) * network``.

    Statistics of norms and other buffers are copied.
    """
    means: list[Tensor] = list(average.parameters())
    values: list[Tensor] = list(network.parameters())
    torch._foreach_lerp_(means, values, 1 - decay)
    for mean, value in zip(average.buffers(), network.buffers(), strict=True):
        mean.copy_(value)


def class_probabilities(logits: Tensor) -> Tensor:
    """Of every class, background first, ``[B, K + 1, ...]``; one channel is a sigmoid's."""
    if logits.shape[1] > 1:
        return logits.float().softmax(1)
    foreground = logits.float().sigmoid()
    return torch.cat([1 - foreground, foreground], dim=1)


def class_logits(logits: Tensor) -> Tensor:
    """Logits of which :func:`class_probabilities` is the softmax."""
    logits = logits.float()
    return logits if logits.shape[1] > 1 else torch.cat([torch.zeros_like(logits), logits], dim=1)


def finest(output: Any) -> Tensor:
    """The finest logits of whatever a network gives."""
    return output if isinstance(output, Tensor) else output[0]
