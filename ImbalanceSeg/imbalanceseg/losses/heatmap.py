"""Heat map regression: a Gaussian on the centre of every object."""

from __future__ import annotations

import torch
from torch import Tensor

from imbalanceseg.losses.components import label_components
from imbalanceseg.losses.voxels import labelled_voxels, pooled, require_shapes
from imbalanceseg.losses.weights import center_heatmap


def mse_heatmap_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    heatmap: Tensor | None = None,
    *,
    sigma_voxels: float = 2.0,
) -> Tensor:
    """Mean of ``(p - h)^2``, ``h = exp(-r^2 / 2 sigma^2)`` with ``r`` to the nearest centre.

    For finding objects rather than outlining them.

    Args:
        logits: ``[B, C, ...]``.
        target: ``[B, 1, ...]``, classes; 255 where unlabelled.
        mask: ``[B, 1, ...]``, non-zero where labelled.
        heatmap: ``[B, F, ...]``, ``h`` of the F foreground classes (one for one channel); from the
            centres of mass of the components of ``target`` when None.
        sigma_voxels: width of the Gaussian for that computation.
    """
    require_shapes(logits, target, mask)
    if heatmap is None:
        heatmap = _heatmaps(logits, target, mask, sigma_voxels)
    voxels = pooled(labelled_voxels(logits, target, mask, class_maps={"heatmap": heatmap}))
    p = voxels.probability()[voxels.foreground()]
    return ((p - voxels.maps["heatmap"].to(p)) ** 2).sum() / max(p.numel(), 1)


def _heatmaps(logits: Tensor, target: Tensor, mask: Tensor | None, sigma: float) -> Tensor:
    components = label_components(target, mask, binary=logits.shape[1] == 1)
    classes = range(1, max(logits.shape[1], 2))
    maps = []
    for sample, labels in zip(components.cpu().numpy()[:, 0], target[:, 0], strict=True):
        own = (labels > 0 if logits.shape[1] == 1 else labels == c for c in classes)
        maps.append([center_heatmap(sample * mine.cpu().numpy(), sigma) for mine in own])
    rows = [torch.stack([torch.from_numpy(h) for h in per_class]) for per_class in maps]
    return torch.stack(rows).to(logits.device)
