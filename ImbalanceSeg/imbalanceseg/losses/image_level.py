"""Loss of what is known of an image as a whole: which classes it shows."""

from __future__ import annotations

from math import log

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

_SHARPNESS = 5.0


def image_level_loss(logits: Tensor, shows: Tensor, importance: Tensor | None = None) -> Tensor:
    """Binary cross entropy of a smooth maximum over the image of each class's logits.

    The smooth maximum, ``log(mean(exp(r x))) / r`` with r = 5, lies between the mean, which a small
    object could not raise, and the largest value, of which one voxel alone would learn.

    Args:
        logits: ``[B, C, ...]``; one channel is a sigmoid's, several are a softmax's with background
            first.
        shows: float ``[B, K]``: 1 where the image shows a class, 0 where it does not, NaN where
            nothing is known.
        importance: float ``[B]``, how much each image counts; None for all alike.

    Returns:
        Scalar: mean over the images of which something is known; 0 where there are none.

    Source: Pinheiro and Collobert, CVPR 2015 (pooling). Importance after Jaiswal et al., WACV 2023,
    weak setting.
    """
    voxels = _margins(logits.float()).flatten(2)
    count = voxels.shape[2]
    pooled = (torch.logsumexp(_SHARPNESS * voxels, 2) - log(count)) / _SHARPNESS
    known = ~torch.isnan(shows)
    target = torch.where(known, shows, 0.0)
    each = binary_cross_entropy_with_logits(pooled, target, reduction="none") * known
    of_image = each.sum(1) / known.sum(1).clamp(min=1)
    weight = known.any(1).float()
    if importance is not None:
        weight = weight * importance
    return (weight * of_image).sum() / weight.sum().clamp(min=1e-6)


def _margins(logits: Tensor) -> Tensor:
    """Of every foreground class, the logit of its probability: ``[B, K, ...]``."""
    if logits.shape[1] == 1:
        return logits
    classes = range(1, logits.shape[1])
    others = [
        torch.logsumexp(torch.cat([logits[:, :n], logits[:, n + 1 :]], 1), 1) for n in classes
    ]
    return logits[:, 1:] - torch.stack(others, 1)
