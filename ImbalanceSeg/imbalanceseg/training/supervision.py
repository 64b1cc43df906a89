"""The loss of a training step: a loss function on the outputs that the recipe supervises."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from imbalanceseg.labels import UNLABELLED
from imbalanceseg.losses import (
    AttentionSupervision,
    GroupSupervision,
    create_loss,
    image_level_loss,
)
from imbalanceseg.networks.nnunet import supervision_weights

if TYPE_CHECKING:
    from imbalanceseg.losses.loss import Loss
    from imbalanceseg.training.patches import PatchBatch
    from imbalanceseg.training.recipe import LossChoice, Supervision


class DeepSupervision(nn.Module):
    """Weighted sum of one loss on logits of several stages, labels thinned out to their size.

    Source: Isensee et al., Nature Methods 18, 2021.

    Args:
        loss: module called as ``loss(logits, target, **maps)``.
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, outputs: list[Tensor], target: Tensor, **maps: Tensor) -> Tensor:
        """Scalar loss of a list of logits, finest first; target and maps have the finest's size."""
        terms = []
        for weight, logits in zip(supervision_weights(len(outputs)), outputs, strict=True):
            if weight:
                thinned = {name: _thinned(each, logits) for name, each in maps.items()}
                terms.append(weight * self.loss(logits, thinned_label(target, logits), **thinned))
        return torch.stack(terms).sum()


class BesideCrossEntropy(nn.Module):
    """``loss + weight * cross entropy``, the mean over all labelled voxels.

    Args:
        loss: module called as ``loss(logits, target, mask, **maps)``.
        weight: of the cross entropy.
    """

    def __init__(self, loss: nn.Module, weight: float) -> None:
        super().__init__()
        self.loss, self.weight = loss, weight

    def forward(
        self, logits: Tensor, target: Tensor, mask: Tensor | None = None, **maps: Any
    ) -> Tensor:
        """Scalar loss; arguments as those of the loss."""
        total: Tensor = self.loss(logits, target, mask, **maps)
        name = "bce" if logits.shape[1] == 1 else "ce"
        return total + self.weight * create_loss(name)(logits, target, mask)


def thinned_label(label: Tensor, logits: Tensor) -> Tensor:
    """A label of the size of the logits: every n-th voxel along each axis.

    Where that one is unlabelled, the first labelled one of those that it stands for: a painted
    slice must not vanish because its number is odd.

    Args:
        label: integers ``[B, 1, ...]``, 255 unlabelled.
        logits: ``[B, C, ...]``, each side that of the label over a whole number.
    """
    for axis, step in enumerate(_steps(label, logits), start=2):
        every = [slice(None)] * axis
        thinned = label[*every, ::step]
        for later in range(1, step):
            thinned = torch.where(thinned == UNLABELLED, label[*every, later::step], thinned)
        label = thinned
    return label


def _thinned(values: Tensor, logits: Tensor) -> Tensor:
    return values[:, :, *(slice(None, None, step) for step in _steps(values, logits))]


def _steps(values: Tensor, logits: Tensor) -> list[int]:
    return [int(n // m) for n, m in zip(values.shape[2:], logits.shape[2:], strict=True)]


class StepLoss(nn.Module):
    """From the output of a network in training mode, and its batch, to one number.

    Args:
        loss: which, with ``"plan"`` already replaced by a name.
        supervision: of which outputs.
        image_labels: weight of what is known of images as a whole.
    """

    def __init__(
        self, loss: LossChoice, supervision: Supervision, image_labels: float = 0.0
    ) -> None:
        super().__init__()
        self.image_labels = image_labels
        function: Loss = create_loss(loss.name, **loss.settings)
        self.takes = set(inspect.signature(function.function).parameters)
        base: nn.Module = function
        if loss.cross_entropy:
            base = BesideCrossEntropy(function, loss.cross_entropy)
        self.supervised: nn.Module = base
        if supervision.kind == "deep":
            self.supervised = DeepSupervision(base)
        elif supervision.kind == "group":
            self.supervised = GroupSupervision(base, supervision.weight)
        elif supervision.kind == "attention":
            self.supervised = AttentionSupervision(base, supervision.weight)
        self.kind = supervision.kind

    def forward(self, output: Any, batch: PatchBatch) -> Tensor:
        """Scalar loss, in float32; where patches have an importance, the mean weighted by it."""
        total = self._of_voxels(output, batch)
        if batch.shows is not None and self.image_labels:
            of_images = image_level_loss(_finest(output), batch.shows, batch.importance)
            total = total + self.image_labels * of_images
        return total

    def _of_voxels(self, output: Any, batch: PatchBatch) -> Tensor:
        if batch.importance is None:
            return self._of(output, batch)
        count = len(batch.importance)
        losses = [self._of(_alone(output, n), batch.alone(n)) for n in range(count)]
        return (batch.importance * torch.stack(losses)).sum() / batch.importance.sum()

    def _of(self, output: Any, batch: PatchBatch) -> Tensor:
        if self.kind == "output":
            output = _finest(output)
        maps: dict[str, Tensor] = {}
        if "components" in self.takes:
            maps["components"] = batch.components
        if batch.weight is not None:
            maps["weight"] = batch.weight
        total: Tensor = self.supervised(_plain(output), batch.label, **maps)
        return total


def _finest(output: Any) -> Tensor:
    """The logits among whatever a network gives in training mode."""
    if isinstance(output, Tensor):
        return output
    first: Tensor = output[0]
    return first


def _alone(output: Any, number: int) -> Any:
    """Of whatever a network gives in training mode, one sample's part."""
    if isinstance(output, Tensor):
        return output[number : number + 1]
    if hasattr(output, "_fields"):
        return type(output)(*(_alone(part, number) for part in output))
    return [_alone(part, number) for part in output]


def _plain(output: Any) -> Any:
    """The same output in float32 and contiguous: losses read one class at a time."""
    if isinstance(output, Tensor):
        return output.float().contiguous()
    if hasattr(output, "_fields"):
        return type(output)(*(_plain(part) for part in output))
    return [_plain(part) for part in output]
