"""A scan as a model sees it, kept between the steps of an adaptation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from math import ceil, prod

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from imbalanceseg.annotation.annotation import Annotation
from imbalanceseg.annotation.on_grid import labels_on
from imbalanceseg.errors import InputError
from imbalanceseg.inference.blend import Blend
from imbalanceseg.inference.maps import MapRequest, probability
from imbalanceseg.inference.predict import Prediction, predict
from imbalanceseg.inference.segment import LookedAt, finished, looked_at
from imbalanceseg.inference.segmentation import Segmentation
from imbalanceseg.inference.stopwatch import Stopwatch
from imbalanceseg.inference.tiles import padded_to
from imbalanceseg.inference.tiling import Needed, Tile, fewest_tiles
from imbalanceseg.inference.working_volume import WorkingVolume
from imbalanceseg.models.bundle import Model
from imbalanceseg.models.card import NetworkSpec, Weights, output_channels
from imbalanceseg.networks.adapted import PatientHead
from imbalanceseg.networks.features import feature_channels
from imbalanceseg.networks.scale_space import pooling, smoothed
from imbalanceseg.progress import ProgressCallback

Window = tuple[slice, ...]

_REACH = 3.0
_MOST_LOGIT = 6.0
_CELL = 16
_LEAST_TILE = 32**3
_SHARE_OF_BUDGET = 0.5


class Patient:
    """A scan, prepared for a model, and what the model says of every voxel.

    Attributes:
        model: that is adapted, or that was made for a start from scratch.
        scan: as the model's card prepares it.
        volume: float32 ``[1, C, ...]`` along the network's axes, padded to what networks take.
        seen: the network's features and logits, ``[1, F, ...]`` of the same size; None where there
            is no network.
    """

    def __init__(self, image: sitk.Image | Sequence[sitk.Image], model: Model, budget: int) -> None:
        """See :class:`Patient`; errors as :func:`~imbalanceseg.inference.segment.segment`."""
        self.model, self.budget = model, budget
        self.watch = Stopwatch()
        if model.card.spatial_dims == 2:
            raise InputError(
                "finetune-2d",
                f"The {model.name} model segments single slices, which cannot be adapted.",
                "Choose a 3D model, or start without one.",
            )
        self.scan: LookedAt = looked_at(image, model, None, self.watch)
        working = self.scan.seen[0]
        assert working is not None
        self.working: WorkingVolume = working
        self.volume = working.voxels
        self.network: nn.Module | None = None
        self.spec: NetworkSpec | None = None
        self.seen: Tensor | None = None
        self.device, self.backend = "cpu", "PyTorch float32"

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Of the working grid, along the network's axes."""
        spacing = self.working.grid.spacing_mm[::-1]
        return tuple(spacing[axis] for axis in self.working.axes)

    def look(
        self, network: nn.Module, spec: NetworkSpec, device: str, progress: ProgressCallback
    ) -> None:
        """Let a network see the scan, and keep what it says in half precision.

        Args:
            network: in evaluation mode.
            spec: what it is.
            device: as for :func:`~imbalanceseg.inference.segment.segment`.
            progress: receives an event a tile.
        """
        card = self.model.card.model_copy(
            update={"network": spec, "gate": None, "weights": (_weights_of(network),)}
        )
        seeing = Model(self.model.path, card)
        seeing.networks = (network,)
        classes = output_channels(card)
        features = feature_channels(network)
        found = predict(
            [self.volume],
            seeing,
            MapRequest(classes=classes, features=features + classes),
            device=device,
            budget=self.budget,
            exact=True,
            progress=progress,
            stopwatch=self.watch,
        )
        maps = found.maps[0]
        assert maps is not None
        self.seen = maps[classes:].half()[None]
        self.network, self.spec, self.features = network, spec, features
        self.device, self.backend = found.device, found.backend

    def start_logits(self) -> Tensor:
        """The network's logits of every voxel, float32 ``[K, N]``."""
        assert self.seen is not None
        return self.seen[0, self.features :].flatten(1).float()

    def middle(self, network: nn.Module) -> Tensor:
        """The middle of the volume as a patch that a network takes, at most 64 voxels a side."""
        multiples = tuple(network.multiples())  # type: ignore[operator]
        volume, _ = padded_to(self.volume, tuple(2 * m for m in multiples), multiples)
        spans = []
        for n, multiple in zip(volume.shape[2:], multiples, strict=True):
            side = min(n, max(64 // multiple, 2) * multiple)
            spans.append(slice((n - side) // 2, (n - side) // 2 + side))
        return volume[(slice(None), slice(None), *spans)]

    def labels(self, annotation: Annotation, window: Window | None = None) -> Tensor:
        """An annotation on the working grid, or in a window of it, uint8 ``[...]``.

        Along the network's axes; see :func:`~imbalanceseg.annotation.on_grid.labels_on`.
        """
        grid, axes = self.working.grid, self.working.axes
        if window is not None:
            spans = dict(zip(axes, window, strict=True))
            start = [spans[axis].start for axis in (2, 1, 0)]
            size = [spans[axis].stop - spans[axis].start for axis in (2, 1, 0)]
            grid = grid.cropped(start, size)
        turned = labels_on(annotation, grid).transpose(axes)
        return torch.from_numpy(np.ascontiguousarray(turned))

    def levels(self, scales_mm: Sequence[float], window: Window) -> Tensor:
        """Intensity at some scales, and features and logits, in a window, ``[1, C, ...]``."""
        widest = max(scales_mm)
        reach = [ceil(_REACH * widest / step) for step in self.spacing_mm]
        wide = tuple(
            slice(max(0, span.start - r), min(n, span.stop + r))
            for span, r, n in zip(window, reach, self.volume.shape[2:], strict=True)
        )
        multiples = pooling(widest, self.spacing_mm)
        image, inside = padded_to(
            self.volume[(slice(None), slice(None), *wide)], multiples, multiples
        )
        inner = tuple(
            slice(i.start + span.start - w.start, i.start + span.stop - w.start)
            for i, span, w in zip(inside, window, wide, strict=True)
        )
        at = (slice(None), slice(None), *inner)
        found = [image[at], *(smoothed(image, s, self.spacing_mm)[at] for s in scales_mm)]
        if self.seen is not None:
            seen = self.seen[(slice(None), slice(None), *window)].float()
            # Beyond, a logit says nothing more, and would drown everything else.
            seen[:, self.features :].clamp_(-_MOST_LOGIT, _MOST_LOGIT)
            found.append(seen)
        return torch.cat(found, 1)

    def level_bytes(self, scales_mm: Sequence[float]) -> int:
        """That :meth:`levels` of the whole volume takes in half precision."""
        count = self.volume.shape[1] * (1 + len(scales_mm))
        count += 0 if self.seen is None else self.seen.shape[1]
        return 2 * count * self.volume[0, 0].numel()

    def tiles(self, head: PatientHead, where: NDArray[np.bool_] | None = None) -> list[Tile]:
        """Tiles for a head: of everything, or of what covers ``where``."""
        shape, _ = self.padded_shape(head)
        most = max(_LEAST_TILE, int(_SHARE_OF_BUDGET * self.budget / head.bytes_per_voxel))
        if prod(shape) <= most:
            whole = tuple(slice(0, n) for n in shape)
            return [Tile(whole, whole)]
        needed = None
        if where is not None:
            hit = np.zeros([ceil(n / _CELL) for n in shape], bool)
            hit[tuple(axis // _CELL for axis in np.nonzero(where))] = True
            needed = Needed(hit, (_CELL,) * len(shape))
        reach = _REACH * max(head.context_mm)
        multiples = head.multiples()
        margin = tuple(
            ceil(reach / step / m) * m for step, m in zip(self.spacing_mm, multiples, strict=True)
        )
        return fewest_tiles(shape, margin, multiples, most, needed)

    def padded_shape(self, head: PatientHead) -> tuple[tuple[int, ...], Window]:
        """Sides that a head takes, at least those of the volume, and where that lies in them."""
        places = self._places(head)
        sizes = self.volume.shape[2:]
        before = [(len(place) - n) // 2 for place, n in zip(places, sizes, strict=True)]
        inside = tuple(slice(b, b + n) for b, n in zip(before, sizes, strict=True))
        return tuple(len(place) for place in places), inside

    def patch(self, head: PatientHead, tile: Tile) -> tuple[Tensor, Tensor | None]:
        """Volume and ``seen`` in a tile, float32; beyond its borders the volume is mirrored."""
        places = [place[span] for place, span in zip(self._places(head), tile.seen, strict=True)]
        seen = None if self.seen is None else _at(self.seen, places).float()
        return _at(self.volume, places), seen

    def _places(self, head: PatientHead) -> list[Tensor]:
        """Along each axis, which voxel of the volume stands at each place of the padded one."""
        return [
            padded_to(torch.arange(n)[None, None], (multiple,), (multiple,))[0][0, 0]
            for n, multiple in zip(self.volume.shape[2:], head.multiples(), strict=True)
        ]

    @torch.inference_mode()
    def probabilities(self, head: PatientHead) -> Tensor:
        """What a head says of the scan, ``[K, ...]`` of the size of the working grid."""
        shape, inside = self.padded_shape(head)
        tiles = self.tiles(head)
        blend: Blend | None = None
        for tile in tiles:
            values = probability(head(*self.patch(head, tile)))[0]
            if blend is None:
                blend = Blend(shape, len(values), tiles, None)
            blend.add(tile, values)
        assert blend is not None
        return blend.finish()[(slice(None), *inside)]

    def segmentation(self, model: Model, found: Tensor) -> Segmentation:
        """Probabilities ``[K, ...]`` on the scan's grid, cleaned up as a model's card says."""
        request = MapRequest(classes=len(found), hardness="entropy")
        prediction = Prediction([found], self.device, self.backend, [])
        return finished(
            self.scan, prediction, model, request, self.budget, (), self.watch, again=True
        )


def _at(volume: Tensor, places: Sequence[Tensor]) -> Tensor:
    """``[1, C, ...]`` at some places along each axis, which may be the same ones again."""
    for axis, place in enumerate(places, start=2):
        first, last = int(place.min()), int(place.max())
        volume = volume.narrow(axis, first, last + 1 - first)
        if not torch.equal(place, torch.arange(first, last + 1)):
            volume = volume.index_select(axis, place - first)
    return volume


def _weights_of(network: nn.Module) -> Weights:
    """A checksum of a network that may not have been saved: converted networks are kept by it."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return Weights(sha256=digest.hexdigest())
