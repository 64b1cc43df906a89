"""Contrast between images and between anatomies, for learning from images without labels.

Source: You et al., "Bootstrapping Semi-supervised Medical Image Segmentation with Anatomical-aware
Contrastive Distillation", IPMI 2023, arXiv 2206.02307 (ACTION), and MICCAI 2023, arXiv 2304.02689
(ACTION++, the temperature that comes and goes).
"""

from __future__ import annotations

from math import cos, pi

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imbalanceseg.errors import InputError


class AnchorQueue(nn.Module):
    """The latest embeddings of other images, first in, first out.

    It begins empty, not with random vectors, whose similarities would be noise.

    Args:
        size: embeddings that it holds.
        channels: of each.
    """

    embeddings: Tensor
    pushed: Tensor

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("embeddings", torch.zeros(size, channels))
        self.register_buffer("pushed", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, embeddings: Tensor) -> None:
        """Add embeddings ``[B, D]``; the oldest go where there is no room."""
        size = len(self.embeddings)
        rows = F.normalize(embeddings.detach().float(), dim=1)[-size:]
        first = int(self.pushed) + max(0, len(embeddings) - size)
        places = torch.arange(first, first + len(rows), device=rows.device) % size
        self.embeddings[places] = rows
        self.pushed += len(embeddings)

    def anchors(self) -> Tensor:
        """What it holds, ``[n, D]`` of length 1 each, without gradient."""
        return self.embeddings[: min(int(self.pushed), len(self.embeddings))]


def relation_distillation(
    student: Tensor,
    teacher: Tensor,
    anchors: Tensor,
    student_temperature: float = 0.1,
    teacher_temperature: float = 0.01,
) -> Tensor:
    """How differently student and teacher relate an image to others; negatives are soft.

    ``KL(p_t || p_s)``, the mean over images, where ``p`` is the softmax over the anchors of the
    cosine similarity divided by the temperature. As the teacher's temperature falls to 0 its target
    becomes the nearest anchor alone, and the loss InfoNCE with that as the positive.

    Args:
        student: embeddings ``[B, D]``.
        teacher: of the same images, ``[B, D]``; gets no gradient.
        anchors: of other images, ``[n, D]``; get no gradient. Their order does not matter.
        student_temperature: above 0.
        teacher_temperature: above 0.

    Returns:
        Scalar; 0 without anchors, and with a single one.

    Source: ACTION, section 3.2.
    """
    if not len(anchors):
        return student.sum() * 0
    target = F.softmax(_similarity(teacher, anchors).detach() / teacher_temperature, dim=1)
    predicted = F.log_softmax(_similarity(student, anchors.detach()) / student_temperature, dim=1)
    return F.kl_div(predicted, target, reduction="batchmean")


def anatomical_contrast(
    representation: Tensor,
    classes: Tensor,
    confidence: Tensor,
    valid: Tensor,
    temperature: float = 0.5,
    queries: int = 256,
    negatives: int = 512,
    hard_below: float = 0.97,
) -> Tensor:
    """Draw hard voxels to the mean of their class and away from those of others.

    Of each class that is there, ``queries`` voxels of low confidence; the positive of all of them
    is the mean representation of the class, which gets no gradient. Negatives are voxels of other
    classes, drawn the more often the more their mean resembles that of the class. Every class
    counts the same, however rare it is.

    Args:
        representation: ``[B, D, ...]``.
        classes: integers ``[B, ...]``, of the label or of a teacher.
        confidence: of that class, ``[B, ...]`` in [0, 1].
        valid: bool ``[B, ...]``, voxels whose class is to be trusted.
        temperature: above 0.
        queries: voxels of each class.
        negatives: voxels that each query is compared with.
        hard_below: voxels of at least this confidence are easy and no queries.

    Returns:
        Scalar; 0 where fewer than two classes are to be trusted or nothing is hard.

    Raises:
        InputError: ``contrast-shapes``.

    Source: ACTION, section 3.3. Random numbers are torch's.
    """
    if not classes.shape == confidence.shape == valid.shape or (
        classes.shape != (len(representation), *representation.shape[2:])
    ):
        raise InputError(
            "contrast-shapes",
            f"Classes {tuple(classes.shape)}, confidence {tuple(confidence.shape)} and valid "
            f"{tuple(valid.shape)} do not fit a representation {tuple(representation.shape)}.",
            "Give one value for every voxel of the representation.",
        )
    rows = F.normalize(representation.movedim(1, -1).flatten(0, -2).float(), dim=1)
    of, sure, trusted = classes.flatten(), confidence.flatten(), valid.flatten()
    found = [int(c) for c in torch.unique(of[trusted])]
    members = [torch.nonzero(trusted & (of == c)).flatten() for c in found]
    if len(found) < 2:
        return rows.sum() * 0
    means = torch.stack([rows[at].mean(0) for at in members]).detach()
    means = F.normalize(means, dim=1)
    resemblance = (means @ means.T / temperature).fill_diagonal_(-torch.inf).softmax(1)
    losses = []
    for number, at in enumerate(members):
        hard = at[sure[at] < hard_below]
        if not len(hard):
            continue
        asked = rows[_any_of(hard, min(queries, len(hard)), replacement=False)]
        drawn = torch.multinomial(resemblance[number], len(asked) * negatives, replacement=True)
        others = torch.empty_like(drawn)
        for other, places in enumerate(members):
            of_other = drawn == other
            count = int(of_other.sum())
            if count:
                others[of_other] = _any_of(places, count, replacement=True)
        against = rows[others].unflatten(0, (len(asked), negatives))
        own = asked @ means[number]
        rest = torch.einsum("qd,qnd->qn", asked, against)
        logits = torch.cat([own[:, None], rest], dim=1) / temperature
        losses.append(-F.log_softmax(logits, dim=1)[:, 0].mean())
    return torch.stack(losses).mean() if losses else rows.sum() * 0


def cyclic_temperature(step: int, period: int, low: float = 0.1, high: float = 1.0) -> float:
    """A temperature that falls from ``high`` to ``low`` and rises again, once a period.

    High temperatures part groups, low ones single images. Source: ACTION++, section 2.
    """
    return low + (high - low) * (1 + cos(2 * pi * step / period)) / 2


def _similarity(a: Tensor, b: Tensor) -> Tensor:
    return F.normalize(a.float(), dim=1) @ F.normalize(b.float(), dim=1).T


def _any_of(places: Tensor, count: int, *, replacement: bool) -> Tensor:
    if replacement:
        return places[torch.randint(len(places), (count,), device=places.device)]
    return places[torch.randperm(len(places), device=places.device)[:count]]
