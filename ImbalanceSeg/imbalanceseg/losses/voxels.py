"""What every loss starts from: the labelled voxels of each sample, side by side.

Unlabelled voxels are taken out before anything is computed, so that no loss can see them: their
logits get a gradient of exactly zero and may be infinite, and a masked loss is the loss of the
voxels that are left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from imbalanceseg.errors import InputError
from imbalanceseg.labels import UNLABELLED


@dataclass(frozen=True)
class LabelledVoxels:
    """The labelled voxels of one sample, or of a batch, in one row.

    Attributes:
        logits: ``[C, N]``, at least float32; one channel is a binary segmentation.
        target: int64 ``[N]``, a class each; 0 or 1 where there is one channel.
        maps: further values of the same voxels, ``[K, N]`` each.
    """

    logits: Tensor
    target: Tensor
    maps: dict[str, Tensor] = field(default_factory=dict)

    @property
    def binary(self) -> bool:
        """Whether one channel stands for foreground against background."""
        return self.logits.shape[0] == 1

    @property
    def count(self) -> int:
        """Number of voxels."""
        return self.logits.shape[1]

    def probability(self) -> Tensor:
        """``[C, N]``: sigmoid of one channel, softmax of several."""
        return torch.sigmoid(self.logits) if self.binary else torch.softmax(self.logits, 0)

    def truth(self) -> Tensor:
        """``[C, N]`` of 0 and 1 in the precision of the logits."""
        if self.binary:
            return self.target[None].to(self.logits.dtype)
        one_hot = torch.zeros_like(self.logits)
        return one_hot.scatter_(0, self.target[None], 1.0)

    def foreground(self) -> slice:
        """Channels that are not background."""
        return slice(0 if self.binary else 1, None)

    def nothing(self) -> Tensor:
        """Zero that depends on the logits, so that a backward pass finds a graph."""
        return self.logits[:, :0].sum()


def labelled_voxels(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    maps: Mapping[str, Tensor | None] | None = None,
    class_maps: Mapping[str, Tensor | None] | None = None,
) -> list[LabelledVoxels]:
    """The labelled voxels of every sample of a batch.

    Args:
        logits: ``[B, C, ...]``.
        target: ``[B, 1, ...]``, classes 0..C-1; 255 where unlabelled. With one channel, everything
            else above 0 is foreground.
        mask: ``[B, 1, ...]``, non-zero where labelled; None where only ``target`` says so.
        maps: further maps ``[B, 1, ...]`` by name; those that are None are left out.
        class_maps: the same with a channel for every foreground class (one for one channel).

    Raises:
        InputError: ``loss-shape`` when a shape does not fit that of ``logits``, ``loss-label`` when
            ``target`` names a class that ``logits`` do not have.
    """
    require_shapes(logits, target, mask, maps, class_maps)
    given = {**(maps or {}), **(class_maps or {})}
    known = {name: tensor for name, tensor in given.items() if tensor is not None}
    inside = labelled(target, mask).flatten(1)
    wide = torch.promote_types(logits.dtype, torch.float32)
    samples = []
    for n, here in enumerate(inside):
        kept = slice(None) if bool(here.all()) else here
        samples.append(
            LabelledVoxels(
                logits[n].flatten(1)[:, kept].to(wide),
                _classes(target[n].flatten()[kept], logits.shape[1]),
                {name: tensor[n].flatten(1)[:, kept] for name, tensor in known.items()},
            )
        )
    return samples


def pooled(samples: list[LabelledVoxels]) -> LabelledVoxels:
    """The voxels of all samples in one row."""
    if len(samples) == 1:
        return samples[0]
    return LabelledVoxels(
        torch.cat([s.logits for s in samples], 1),
        torch.cat([s.target for s in samples]),
        {name: torch.cat([s.maps[name] for s in samples], 1) for name in samples[0].maps},
    )


def labelled(target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Where ``target`` and ``mask`` say that a voxel is labelled; bool, the shape of ``target``."""
    inside = target != UNLABELLED
    return inside if mask is None else inside & (mask != 0)


def require_shapes(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    maps: Mapping[str, Tensor | None] | None = None,
    class_maps: Mapping[str, Tensor | None] | None = None,
) -> None:
    """Refuse what does not lie on the same voxels as ``logits``.

    Raises:
        InputError: ``loss-shape``.
    """
    if logits.ndim < 3:
        raise InputError(
            "loss-shape",
            f"Logits of shape {tuple(logits.shape)} are not [batch, channels, space...].",
            "Add the missing axes.",
        )
    single = (logits.shape[0], 1, *logits.shape[2:])
    per_class = (logits.shape[0], max(1, logits.shape[1] - 1), *logits.shape[2:])
    expected = {name: (tensor, single) for name, tensor in (maps or {}).items()}
    expected |= {name: (tensor, per_class) for name, tensor in (class_maps or {}).items()}
    expected |= {"target": (target, single), "mask": (mask, single)}
    for name, (tensor, shape) in expected.items():
        if tensor is not None and tuple(tensor.shape) != shape:
            raise InputError(
                "loss-shape",
                f"The {name} of shape {tuple(tensor.shape)} does not fit logits of shape "
                f"{tuple(logits.shape)}.",
                f"It must have shape {shape}.",
            )


def _classes(target: Tensor, channels: int) -> Tensor:
    if channels == 1:
        return (target > 0).long()
    classes = target.long()
    if classes.numel() and not 0 <= int(classes.min()) <= int(classes.max()) < channels:
        raise InputError(
            "loss-label",
            f"The target holds labels {int(classes.min())} to {int(classes.max())}, and the logits "
            f"have {channels} channels.",
            f"Labels run from 0 to {channels - 1}; 255 is unlabelled.",
        )
    return classes
