"""ACTION: relations to other images, then windows of the output, then the anatomy of hard voxels.

Source: You et al., IPMI 2023, arXiv 2206.02307, and MICCAI 2023, arXiv 2304.02689. Ours: heads with
a ReLU between their layers; narrower ones, so that they cost little memory; a queue that begins
empty; windows of half the patch; representations at the decoder's second finest step.
"""

from __future__ import annotations

import copy
from itertools import product
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imbalanceseg.labels import UNLABELLED
from imbalanceseg.losses.contrastive import (
    AnchorQueue,
    anatomical_contrast,
    cyclic_temperature,
    relation_distillation,
)
from imbalanceseg.networks.levels import Levels, level_channels, run_with_levels
from imbalanceseg.training.recipe import Action
from imbalanceseg.training.unlabelled import (
    Step,
    UnlabelledLearning,
    average_into,
    class_logits,
    class_probabilities,
)

_SUPERVISED_IN_STAGE_2 = 0.5
_POOLED_2D, _POOLED_3D = (8, 8), (2, 4, 4)
_WINDOW_CHANNELS = 8
_CUT = (0.25, 0.5)


class ActionLearning(UnlabelledLearning):
    """See :class:`~imbalanceseg.training.recipe.Action`.

    Args:
        network: the student, a U-Net whose levels can be seen.
        settings: of the recipe.
        in_channels: of images.
        classes: foreground classes.
        axes: of an image.

    Raises:
        ModelError: ``network-without-levels``.
    """

    def __init__(
        self, network: nn.Module, settings: Action, in_channels: int, classes: int, axes: int
    ) -> None:
        super().__init__(network, settings.decay)
        self.settings, self.classes, self.axes = settings, classes, axes
        bottom, decoded = level_channels(network, in_channels)
        self.step_of_features = max(0, len(decoded) - 2)
        width = settings.channels
        self.pool: nn.Module = nn.AdaptiveAvgPool2d(_POOLED_2D)
        pooled = prod(_POOLED_2D)
        if axes == 3:
            self.pool, pooled = nn.AdaptiveAvgPool3d(_POOLED_3D), prod(_POOLED_3D)
        self.image_head = _mlp(bottom, width, width)
        self.image_predictor = _mlp(width, width, width)
        self.window_head = nn.Sequential(
            _pointwise(axes, classes + 1, _WINDOW_CHANNELS),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(_WINDOW_CHANNELS * pooled, width),
        )
        self.window_predictor = _mlp(width, width, width)
        self.voxel_head = nn.Sequential(
            _pointwise(axes, decoded[self.step_of_features], width),
            nn.ReLU(),
            _pointwise(axes, width, width),
        )
        # The teacher has heads of its own, which follow the student's as its weights do.
        self.teacher_heads = nn.ModuleList([_copy(self.image_head), _copy(self.window_head)])
        self.images = AnchorQueue(settings.anchors, width)
        self.windows = AnchorQueue(settings.anchors, width)

    def loss(self, network: nn.Module, step: Step) -> Tensor:
        """The loss of the stage that the training is in."""
        first, second, last = self.settings.stages
        if step.share < first:
            return self._relations(network, step)
        if step.share < first + second:
            return self._windows(network, step)
        return self._anatomy(network, step, (step.share - first - second) / last)

    def after_step(self, network: nn.Module, iteration: int) -> None:
        """Let teacher and its heads follow."""
        super().after_step(network, iteration)
        decay = min(self.decay, (1 + iteration) / (10 + iteration))
        own = (self.image_head, self.window_head)
        for followed, head in zip(own, self.teacher_heads, strict=True):
            average_into(head, followed, decay)

    def _both(self, network: nn.Module, step: Step) -> tuple[Levels, Levels]:
        with step.precision():
            student = run_with_levels(network, step.pair.strong)
            with torch.no_grad():
                teacher = run_with_levels(self.teacher, step.pair.weak)
        return student, teacher

    def _relations(self, network: nn.Module, step: Step) -> Tensor:
        """Stage 1: the encoder alone, without labels."""
        return self._of_images(*self._both(network, step))

    def _windows(self, network: nn.Module, step: Step) -> Tensor:
        """Stage 2: images, windows of the output, and labels."""
        student, teacher = self._both(network, step)
        with step.precision():
            labelled = network(step.batch.image)
        total = self._of_images(student, teacher) + self._of_windows(student, teacher)
        return total + _SUPERVISED_IN_STAGE_2 * step.supervised(labelled, step.batch)

    def _anatomy(self, network: nn.Module, step: Step, share: float) -> Tensor:
        """Stage 3: labels, the teacher's sure voxels after cut and mix, and hard voxels."""
        with torch.no_grad(), step.precision():
            told = self.teacher(step.pair.weak)
        told = told if isinstance(told, Tensor) else told[0]
        sure, says = class_probabilities(told).max(1)
        image, says, sure = _cut_and_mixed(step.pair.strong, says, sure)
        with step.precision():
            labelled = run_with_levels(network, step.batch.image)
            mixed = run_with_levels(network, image)
        total = step.supervised(labelled.output, step.batch)
        total = total + self._pseudo_labels(mixed.logits, says, sure)
        if self.settings.contrast:
            contrast = self._contrast(labelled, mixed, step.batch.label[:, 0], says, sure, share)
            total = total + self.settings.contrast * contrast
        return total

    def _of_images(self, student: Levels, teacher: Levels) -> Tensor:
        pooled, taught = (x.bottom.float().flatten(2).mean(2) for x in (student, teacher))
        with torch.no_grad():
            target = self.teacher_heads[0](taught)
        predicted = self.image_predictor(self.image_head(pooled))
        return self._distilled(predicted, target, self.images)

    def _of_windows(self, student: Levels, teacher: Levels) -> Tensor:
        seen, taught = (self._window_parts(x.logits) for x in (student, teacher))
        with torch.no_grad():
            target = self.teacher_heads[1](taught)
        predicted = self.window_predictor(self.window_head(seen))
        return self._distilled(predicted, target, self.windows)

    def _distilled(self, predicted: Tensor, target: Tensor, queue: AnchorQueue) -> Tensor:
        settings = self.settings
        loss = relation_distillation(
            predicted,
            target,
            queue.anchors().clone(),
            settings.student_temperature,
            settings.teacher_temperature,
        )
        queue.push(target)
        return loss

    def _window_parts(self, logits: Tensor) -> Tensor:
        """Windows of half the patch that overlap by half, pooled: ``[B * windows, K + 1, ...]``."""
        probabilities = class_probabilities(logits)
        along = [
            [slice(start, start + max(1, n // 2)) for start in sorted({0, n // 4, n - n // 2})]
            for n in probabilities.shape[2:]
        ]
        return torch.cat([self.pool(probabilities[:, :, *box]) for box in product(*along)])

    def _pseudo_labels(self, logits: Tensor, says: Tensor, sure: Tensor) -> Tensor:
        """Cross entropy with what the teacher says, by how much of an image it is sure of."""
        each = F.cross_entropy(class_logits(logits), says, reduction="none").flatten(1)
        weight = (sure >= self.settings.sure).float().flatten(1).mean(1)
        counted = (each > 0).sum().clamp(min=1)
        return (each * weight[:, None]).sum() / counted

    def _contrast(
        self,
        labelled: Levels,
        mixed: Levels,
        label: Tensor,
        says: Tensor,
        sure: Tensor,
        share: float,
    ) -> Tensor:
        settings = self.settings
        features = torch.cat([x.decoded[self.step_of_features].float() for x in (labelled, mixed)])
        probabilities = class_probabilities(labelled.logits.detach())
        known = label != UNLABELLED
        own = torch.where(known, label, 0).long()
        # A labelled voxel is hard where the student does not give its class much.
        given = probabilities.gather(1, own[:, None])[:, 0]
        size = features.shape[2:]
        classes, confidence, valid = (
            _thinned(torch.cat(pair), size)
            for pair in (
                (own, says),
                (given, sure),
                (known, sure >= settings.trusted),
            )
        )
        temperature = settings.contrast_temperature
        if settings.cyclic:
            temperature = cyclic_temperature(round(share * 10_000), 10_000)
        return anatomical_contrast(
            self.voxel_head(features),
            classes,
            confidence,
            valid,
            temperature,
            settings.queries,
            settings.negatives,
            settings.sure,
        )


def _mlp(entering: int, hidden: int, leaving: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(entering, hidden), nn.ReLU(), nn.Linear(hidden, leaving))


def _pointwise(axes: int, entering: int, leaving: int) -> nn.Module:
    return (nn.Conv2d if axes == 2 else nn.Conv3d)(entering, leaving, 1)


def _copy(head: nn.Sequential) -> nn.Module:
    return copy.deepcopy(head).requires_grad_(False)


def _thinned(values: Tensor, size: torch.Size) -> Tensor:
    """Every n-th voxel, so that a map has the size of coarser features."""
    steps = [slice(None, None, n // m) for n, m in zip(values.shape[1:], size, strict=True)]
    return values[:, *steps]


def _cut_and_mixed(image: Tensor, says: Tensor, sure: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A box of every image is another's, with what the teacher says of it.

    Of a single image nothing changes.
    """
    box = []
    for n in image.shape[2:]:
        side = int(n * float(torch.empty(()).uniform_(*_CUT)))
        start = int(torch.randint(n - side + 1, ()))
        box.append(slice(start, start + side))
    parts = []
    for values, leading in ((image, 2), (says, 1), (sure, 1)):
        mixed = values.clone()
        inside = (*(slice(None),) * leading, *box)
        mixed[inside] = values.roll(1, 0)[inside]
        parts.append(mixed)
    return parts[0], parts[1], parts[2]
