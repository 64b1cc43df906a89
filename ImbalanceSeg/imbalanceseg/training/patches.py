"""Training patches from prepared cases; every one follows from the seed and its number alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imbalanceseg.errors import InputError
from imbalanceseg.labels import BACKGROUND, UNLABELLED
from imbalanceseg.planning.imbalance import Sampling, WeightName
from imbalanceseg.planning.prepare import PreparedCase
from imbalanceseg.training.augmentation import (
    draw_geometry,
    sampled,
    stays_in_plane,
    vary_intensities,
    with_quantiles,
)
from imbalanceseg.training.fresh_patches import FreshPatches
from imbalanceseg.training.hard_skeleton import centreline_places
from imbalanceseg.training.recipe import Augmentation
from imbalanceseg.training.weight_maps import parted

_NO_CASE = -1
_QUANTILES = np.linspace(0, 1, 12)
_READ_WHOLE_VOXELS = 16_000_000
_QUANTILE_SLICES = 16
_QUANTILE_VOXELS = 500_000
_STRONG = Augmentation(
    noise=0.5, blur=0.5, brightness=0.8, contrast=0.8, low_resolution=0.3, gamma=0.5
)
"""What a student sees where its teacher sees the image as it is."""


@dataclass(frozen=True, eq=False)
class PatchBatch:
    """Patches of one step.

    Attributes:
        image: float32 ``[B, C, ...]``, normalised as the plan says.
        label: uint8 ``[B, 1, ...]``, classes; 255 unlabelled, and beyond the case.
        components: int32 ``[B, 1, ...]``, number of the component in its case; 0 on background.
        weight: float32 ``[B, 1, ...]``, what the loss takes as ``weight``, 0 where unlabelled; None
            for none.
        importance: float32 ``[B]``, how much each patch counts in the loss; None where all count
            alike.
        shows: float32 ``[B, K]``: 1 where a patch shows a class, 0 where it does not, NaN where
            only its label can tell; None where no case of the set is labelled as a whole.
    """

    image: Tensor
    label: Tensor
    components: Tensor
    weight: Tensor | None = None
    importance: Tensor | None = None
    shows: Tensor | None = None

    def each(self, change: Callable[[Tensor], Tensor]) -> PatchBatch:
        """The batch with every tensor changed."""
        weight, importance, shows = (
            None if part is None else change(part)
            for part in (self.weight, self.importance, self.shows)
        )
        image, label, components = map(change, (self.image, self.label, self.components))
        return PatchBatch(image, label, components, weight, importance, shows)

    def alone(self, number: int) -> PatchBatch:
        """A batch of one of the patches, which counts as much as any."""
        one = replace(self, importance=None)
        return one.each(lambda part: part[number : number + 1])


@dataclass(frozen=True, eq=False)
class PatchPair:
    """Unlabelled patches, each in two looks.

    Attributes:
        weak: float32 ``[B, C, ...]``, only moved and mirrored.
        strong: the same voxels, their intensities changed.
        importance: float32 ``[B]``; None where all count alike.
    """

    weak: Tensor
    strong: Tensor
    importance: Tensor | None = None

    def each(self, change: Callable[[Tensor], Tensor]) -> PatchPair:
        """The pair with every tensor changed."""
        importance = None if self.importance is None else change(self.importance)
        return PatchPair(change(self.weak), change(self.strong), importance)


class PatchSource:
    """Draws patches from prepared cases, placed and changed at random.

    A batch depends on nothing but the arguments, ``iteration``, ``rank`` and the attributes, so
    batches may be asked for in any order, by several threads at once, and come out the same after
    an interruption.

    Cases are equally likely, classes of a case too; with ``instance`` the components of all cases
    are. Of each kind of place only the cases that have it are drawn from; where none has it,
    patches are taken anywhere. A patch is centred on its place, but moved to lie within the case.
    A smaller case is put in the middle: around it the image goes on as at its border, unlabelled.

    Args:
        cases: at least one, all with the same axes and channels.
        patch: voxels along each axis.
        sampling: where patches are taken.
        augmentation: how they are changed.
        spacing_mm: along each axis.
        anisotropic: slices are thick: nothing is rotated, zoomed, bent or blurred across them.
        seed: same seed, same patches.
        weight: map that every case keeps, see :func:`~.weight_maps.weigh_cases`. With ``"border"``
            the labels are parted.
        fresh: some of the patches are painted by this instead, and are of no case.

    Attributes:
        hard_places: voxels ``[n, axes]`` by name of the case, drawn from by
            ``sampling.hard_skeleton``; where a case has none, its whole centreline is. Replace the
            dictionary, rather than change it, while no other thread asks for batches.
        case_weights: by name of the case, 1 for those that are not named: how often patches are
            taken from it, against the others. Replace it likewise.
        importances: as ``case_weights``: how much the patches of a case count in the loss.

    Raises:
        InputError: there are no cases, or the patch has another number of axes than they have.
    """

    def __init__(
        self,
        cases: Sequence[PreparedCase],
        patch: Sequence[int],
        sampling: Sampling,
        augmentation: Augmentation,
        spacing_mm: Sequence[float],
        anisotropic: bool,
        seed: int,
        weight: WeightName = "none",
        fresh: FreshPatches | None = None,
    ) -> None:
        if not cases:
            raise InputError(
                "no-labelled-cases",
                "There is no labelled case to take patches from.",
                "Give a dataset with at least one label.",
            )
        axes = len(cases[0].shape)
        if any(len(case.shape) != len(patch) for case in cases):
            raise InputError(
                "patch-axes",
                f"A patch of {len(patch)} axes cannot be taken from cases of {axes}.",
                "Give one number of voxels for each axis, or leave the patch to the plan.",
            )
        self.hard_places: dict[str, NDArray[np.int32]] = {}
        self.case_weights: dict[str, float] = {}
        self.importances: dict[str, float] = {}
        self._cases = list(cases)
        self.patch = tuple(patch)
        self._patch = np.array(patch)
        self.sampling = sampling
        self._augmentation = augmentation
        self._spacing_mm = tuple(spacing_mm)
        self._in_plane = stays_in_plane(patch, anisotropic)
        self._anisotropic = anisotropic
        self._seed = seed
        self._weight = weight
        self._fresh = fresh
        self._numbers = {
            kind: [np.unique(case.places[kind][:, 0]) for case in self._cases]
            for kind in ("foreground", "instance", "annotated")
            if getattr(sampling, kind) > 0
        }
        if sampling.hard_skeleton > 0:
            self._numbers["hard_skeleton"] = [
                np.unique(case.places["foreground"][:, 0]) for case in self._cases
            ]
        self._shows = _shown_by_patches(self._cases, self._patch)
        self._channels = len(cases[0].image((slice(0, 1),) * axes))
        self._kept: dict[tuple[str, int], NDArray[Any]] = {}

    def batch(self, iteration: int, count: int, rank: int = 0) -> PatchBatch:
        """Draw the patches of one step.

        Args:
            iteration: number of the step.
            count: patches.
            rank: number of the process, where several train together.
        """
        parts = [
            self._drawn(np.random.default_rng([self._seed, iteration, rank, number]))
            for number in range(count)
        ]
        numbers, *tensors = zip(*parts, strict=True)
        image, label, components, weight = (torch.stack(part) for part in tensors)
        weight.masked_fill_(label[:, None] == UNLABELLED, 0)
        weights = None if self._weight == "none" else weight
        importance = self._importance(numbers)
        shows = None if self._shows is None else self._shows[list(numbers)]
        return PatchBatch(image, label[:, None], components[:, None], weights, importance, shows)

    def pair(self, iteration: int, count: int) -> PatchPair:
        """Draw patches of which only the images matter, in two looks each.

        Args:
            iteration: number of the step.
            count: patches.
        """
        numbers, weak, strong = [], [], []
        for number in range(count):
            draw = np.random.default_rng([self._seed, iteration, number])
            which, image, *_ = self._moved_patch(draw)
            numbers.append(which)
            weak.append(image)
            strong.append(vary_intensities(image, _STRONG, self._in_plane, draw))
        return PatchPair(torch.stack(weak), torch.stack(strong), self._importance(numbers))

    def _importance(self, numbers: Sequence[int]) -> Tensor | None:
        if not self.importances:
            return None
        names = ["" if number == _NO_CASE else self._cases[number].name for number in numbers]
        return torch.tensor([self.importances.get(name, 1.0) for name in names])

    def _drawn(self, draw: np.random.Generator) -> tuple[int, Tensor, Tensor, Tensor, Tensor]:
        """Number of the case, image ``[C, ...]``, label and components ``[...]``, weight."""
        if self._fresh is not None and draw.random() < self._fresh.share:
            return _NO_CASE, *self._fresh.drawn(draw)
        which, image, label, components, weight = self._moved_patch(draw)
        image = vary_intensities(image, self._augmentation, self._in_plane, draw)
        return which, image, label, components, weight

    def _moved_patch(self, draw: np.random.Generator) -> tuple[int, Tensor, Tensor, Tensor, Tensor]:
        """As :meth:`_drawn`, before intensities are changed."""
        which, start = self._place(draw)
        geometry = draw_geometry(
            self._augmentation, self._patch.tolist(), self._spacing_mm, self._anisotropic, draw
        )
        case = self._cases[which]
        if geometry.offsets is None:
            image, label, components = self._window(case, start, start + self._patch)
        else:
            image, label, components = self._moved(case, start, geometry.offsets)
        if geometry.flipped:
            axes = [axis - len(self._patch) for axis in geometry.flipped]
            image, label, components = (x.flip(axes) for x in (image, label, components))
        # Until here the weight was the last channel, to be moved as the image is.
        image, weight = image[: self._channels], image[self._channels :]
        if self._weight == "border":
            label = torch.from_numpy(parted(label.numpy(), components.numpy()))
        if draw.random() < self._augmentation.histogram and len(self._cases) > 1:
            other = int(draw.integers(len(self._cases) - 1))
            own, others = (self._quantiles(n) for n in (which, other + (other >= which)))
            image = torch.stack([with_quantiles(*x) for x in zip(image, own, others, strict=True)])
        return which, image, label, components, weight

    def _place(self, draw: np.random.Generator) -> tuple[int, NDArray[np.int64]]:
        """Number of a case and where the patch starts in it, below 0 in a case that is smaller."""
        kinds = ("foreground", "instance", "annotated", "hard_skeleton")
        shares = np.cumsum([getattr(self.sampling, kind) for kind in kinds])
        chosen = int(np.searchsorted(shares, draw.random(), side="right"))
        kind = kinds[chosen] if chosen < len(kinds) else "anywhere"
        counts = np.array([len(numbers) for numbers in self._numbers.get(kind, ())])
        attended = np.array([self.case_weights.get(case.name, 1.0) for case in self._cases])
        if not counts.any():
            alike = not self.case_weights
            which = int(draw.integers(len(self._cases)) if alike else _chosen(draw, attended))
            room = np.array(self._cases[which].shape) - self._patch
            return which, np.where(room >= 0, draw.integers(0, np.maximum(room, 0) + 1), room // 2)
        which = _chosen(draw, attended * (counts if kind == "instance" else counts > 0))
        case = self._cases[which]
        if kind == "hard_skeleton":
            rows = self._hard(which)
            centre = rows[draw.integers(len(rows))]
        else:
            rows = case.places[kind]
            rows = rows[rows[:, 0] == draw.choice(self._numbers[kind][which])]
            centre = rows[draw.integers(len(rows)), 1:]
        room = np.array(case.shape) - self._patch
        start = np.clip(centre - self._patch // 2, 0, np.maximum(room, 0))
        return which, np.where(room >= 0, start, room // 2)

    def _moved(
        self, case: PreparedCase, start: NDArray[np.int64], offsets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A patch whose voxels lie at ``offsets`` from its middle; see :class:`Geometry`."""
        # Axes along which nothing moves: the first one, where slices are thick.
        still = len(self._patch) - len(offsets)
        middle = (start + (self._patch - 1) / 2)[still:]
        voxels = [x + float(m) for x, m in zip(offsets, middle, strict=True)]
        low, high = start.copy(), start + self._patch
        for axis, along in enumerate(voxels, still):
            first, last = (float(x) for x in along.aminmax())
            end = case.shape[axis] - 1
            low[axis] = min(max(np.floor(first), 0), end)
            high[axis] = max(min(np.ceil(last), end), 0) + 1
        image, label, components = self._window(case, low, high)
        position = torch.stack([x - int(n) for x, n in zip(voxels, low[still:], strict=True)])
        slices = image.transpose(0, 1) if still else image[None]
        if not still:
            label, components = label[None], components[None]
        # One map for all slices, unless each of them is bent in its own way.
        position = position.view(len(position), -1, *self._patch[still:].tolist())
        slices, label, components = sampled(slices, label, components, position)
        if still:
            return slices.transpose(0, 1), label, components
        return slices[0], label[0], components[0]

    def _window(
        self, case: PreparedCase, low: NDArray[np.int64], high: NDArray[np.int64]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Image, label and components from ``low`` to ``high``, which may lie beyond the case."""
        first, last = np.maximum(low, 0), np.minimum(high, case.shape)
        window = tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
        image, label, components = case.image(window), case.label(window), case.components(window)
        if self._weight != "none":
            image = np.concatenate([image, case.weight(self._weight, window)[None]])
        before, after = first - low, high - last
        if before.any() or after.any():
            around = np.stack([before, after], axis=1).tolist()
            image = np.pad(image, [(0, 0), *around], mode="edge")
            label = np.pad(label, around, constant_values=UNLABELLED)
            components = np.pad(components, around, constant_values=BACKGROUND)
        return torch.from_numpy(image), torch.from_numpy(label), torch.from_numpy(components)

    def _hard(self, which: int) -> NDArray[np.int32]:
        """Voxels for patches on the centreline of a case with foreground, ``[n, axes]``, n > 0."""
        case = self._cases[which]
        missed = self.hard_places.get(case.name)
        if missed is not None and len(missed):
            return missed
        lines = self._once("centreline", which, lambda: centreline_places(case.label()))
        return lines if len(lines) else case.places["foreground"][:, 1:]

    def _quantiles(self, which: int) -> NDArray[np.float32]:
        """Of every channel of a case, ``[C, n]``, over a sample of its voxels."""
        return self._once("quantiles", which, lambda: _case_quantiles(self._cases[which]))

    def _once(self, name: str, which: int, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """What is kept, because it follows from the case alone."""
        found = self._kept.get((name, which))
        if found is None:
            # Two threads may both compute it, which costs less than one that holds up all others.
            found = self._kept[name, which] = make()
        return found


def _shown_by_patches(cases: Sequence[PreparedCase], patch: NDArray[Any]) -> Tensor | None:
    """Float32 ``[cases, K]``: 1 and 0 where a patch shows a class or not, NaN where that is open.

    A patch that does not hold the whole image may lack what the image shows.
    """
    known = next((case.shows for case in cases if case.shows is not None), None)
    if known is None:
        return None
    shows = torch.full((len(cases), len(known)), torch.nan)
    for row, case in zip(shows, cases, strict=True):
        if case.shows is not None:
            there = 1.0 if (np.array(case.shape) <= patch).all() else torch.nan
            row[:] = torch.tensor([there if shown else 0.0 for shown in case.shows])
    return shows


def _chosen(draw: np.random.Generator, weight: NDArray[np.float64]) -> int:
    return int(draw.choice(len(weight), p=weight / weight.sum()))


def _case_quantiles(case: PreparedCase) -> NDArray[np.float32]:
    if prod(case.shape) <= _READ_WHOLE_VOXELS:
        image = case.image()
    else:
        depths = np.linspace(0, case.shape[0] - 1, _QUANTILE_SLICES).astype(int).tolist()
        image = np.concatenate([case.image((slice(n, n + 1),)) for n in depths], axis=1)
    channels = image.reshape(len(image), -1)
    some = channels[:, :: max(1, channels.shape[1] // _QUANTILE_VOXELS)]
    # Exactly 0 is what lies outside the body; with_quantiles leaves it alone.
    found = [np.quantile(x[x != 0] if x.any() else x, _QUANTILES) for x in some]
    return np.stack(found).astype(np.float32)
