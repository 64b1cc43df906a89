"""The connected components of a label: the instances that instance-wise losses count."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from imbalanceseg.losses.voxels import labelled


def label_components(
    target: Tensor,
    mask: Tensor | None = None,
    binary: bool = True,
    smallest_voxels: int = 1,
) -> Tensor:
    """Number the components of the labelled foreground, each sample from 1.

    Components are 26-connected (8-connected in 2D), and of one class each. Computed on the CPU: do
    it once a case and pass the result on. After cropping do it again: a component that the crop
    cuts in two is two.

    Args:
        target: ``[B, 1, ...]``, 2D or 3D; 255 where unlabelled.
        mask: ``[B, 1, ...]``, non-zero where labelled.
        binary: all labels above 0 are one class.
        smallest_voxels: smaller components get number 0: they belong to no instance.

    Returns:
        int64, shape and device of ``target``.
    """
    import cc3d

    classes = torch.where(labelled(target, mask), target.long(), 0)
    if binary:
        classes = (classes > 0).long()
    numbered = np.zeros(tuple(target.shape), np.int64)
    for n, sample in enumerate(classes[:, 0].cpu().numpy()):
        found = cc3d.connected_components(
            sample.astype(np.uint8), connectivity=8 if sample.ndim == 2 else 26
        ).astype(np.int64)
        if smallest_voxels > 1:
            kept = np.bincount(found.ravel()) >= smallest_voxels
            kept[0] = False
            found = (np.cumsum(kept) * kept)[found]
        numbered[n, 0] = found
    return torch.from_numpy(numbered).to(target.device)
