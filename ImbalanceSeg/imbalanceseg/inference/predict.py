"""A model's networks over whole volumes: gate, tiles, and what to do when a device fails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import torch
from torch import Tensor

from imbalanceseg.errors import ImbalanceSegError, InputError
from imbalanceseg.inference.backends.backend import Backend, Runner, out_of_memory
from imbalanceseg.inference.backends.choice import backends_for
from imbalanceseg.inference.gate import coarse_foreground, needed_cells
from imbalanceseg.inference.maps import MappedNetwork, MapRequest, maps_of_tile
from imbalanceseg.inference.memory import bytes_per_voxel
from imbalanceseg.inference.receptive_field import border_margin, depends_on_whole_tile
from imbalanceseg.inference.stopwatch import Stopwatch
from imbalanceseg.inference.tiles import gaussian_weights, padded_to, through_tiles
from imbalanceseg.inference.tiling import (
    Needed,
    Sides,
    Tile,
    fewest_tiles,
    overlapping_tiles,
    where_needed,
)
from imbalanceseg.models.bundle import Model
from imbalanceseg.progress import ProgressCallback, ProgressEvent

_MOST_TILE_BYTES = 1.5 * 2**30
"""Larger tiles save little: their borders are a small part already."""
_SHARE_OF_GPU = 0.4
_SMALLER_TRIES = 2
_HALF_PRECISION_SHARE = 0.25


@dataclass(frozen=True)
class Prediction:
    """What was computed, and how.

    Attributes:
        maps: ``[M, ...]`` of every volume, probabilities and then the maps; None where there was
            nothing to see.
        device: for example ``"cuda:0"``.
        backend: for example ``"OpenVINO float32"``.
        notes: sentences on what did not go as asked.
    """

    maps: list[Tensor | None]
    device: str
    backend: str
    notes: list[str]


@dataclass(frozen=True)
class _Layout:
    """A padded volume, where the real one lies in it, and its tiles."""

    volume: Tensor
    inside: tuple[slice, ...]
    tiles: list[Tile]
    weights: Tensor | None
    maps: int


def predict(
    volumes: Sequence[Tensor | None],
    model: Model,
    request: MapRequest,
    *,
    device: str,
    budget: int,
    exact: bool,
    progress: ProgressCallback,
    stopwatch: Stopwatch,
) -> Prediction:
    """Probabilities and maps of volumes, one after another.

    Where a device runs out of memory the tiles are made smaller, and then the next device is
    tried; any other failure goes to the next one at once.

    Args:
        volumes: float32 ``[1, C, ...]`` on the CPU, along the network's axes; None is passed over.
        model: whose networks.
        request: which maps.
        device: as :func:`~.backends.choice.backends_for`.
        budget: bytes that may be taken.
        exact: look everywhere, whatever the card's gate says.
        progress: one event a tile.
        stopwatch: gets ``"load"``, ``"coarse"``, ``"fine"`` and ``"blend"``.

    Raises:
        InputError: ``out-of-memory`` where the last device has too little, or as
            :func:`~.backends.choice.backends_for`.
    """
    backends, notes = backends_for(device)
    for number, backend in enumerate(backends):
        last = number == len(backends) - 1
        for shrink in range(_SMALLER_TRIES + 1):
            run = _Run(model, request, backend, budget >> shrink, exact, progress, stopwatch)
            try:
                with backend.at_work():
                    maps = run.through(volumes)
            except ImbalanceSegError:
                raise
            except Exception as error:
                full = out_of_memory(error)
                if last and full and shrink == _SMALLER_TRIES:
                    raise _too_large() from error
                if last and not full:
                    raise
                notes.append(_sentence(backend, error, full and shrink < _SMALLER_TRIES))
                if not full:
                    break
            else:
                notes += run.notes
                return Prediction(maps, str(backend.device), backend.name, notes)
    raise AssertionError("the last backend returns or raises")


class _Run:
    """One try of one backend."""

    def __init__(
        self,
        model: Model,
        request: MapRequest,
        backend: Backend,
        budget: int,
        exact: bool,
        progress: ProgressCallback,
        stopwatch: Stopwatch,
    ) -> None:
        self.notes: list[str] = []
        self._model, self._card, self._request = model, model.card, request
        self._backend, self._budget, self._stopwatch = backend, budget, stopwatch
        self._progress = progress
        self._gate = None if exact else model.card.gate
        self._done = self._total = 0

    def through(self, volumes: Sequence[Tensor | None]) -> list[Tensor | None]:
        """All volumes; the tiles of all are laid before the first is computed."""
        with self._stopwatch.stage("load"):
            runners = [
                self._backend.load(
                    MappedNetwork(network, self._request, self._card.hardness.sparsity).eval(),
                    self._card.spatial_dims,
                    self._key(number, self._request),
                )
                for number, network in enumerate(self._model.networks)
            ]
        layouts = [None if one is None else self._layout(one) for one in volumes]
        self._total = sum(len(one.tiles) for one in layouts if one is not None)
        found = [None if one is None else self._fine(runners, one) for one in layouts]
        self._progress(ProgressEvent("tiles", self._total, self._total))
        return found

    def _key(self, number: int, request: MapRequest) -> str:
        weights = self._card.weights[number].sha256
        pruned = self._card.hardness.sparsity if request.hardness == "pruning" else 0
        features = f" features {request.features}" if request.features else ""
        return f"{weights} levels {request.levels} pruned {pruned}{features}"

    def _layout(self, volume: Tensor) -> _Layout:
        card, network = self._card, self._model.network
        multiples = self._multiples()
        least = card.network_tile if card.whole_tiles else tuple(2 * m for m in multiples)
        device = self._backend.device
        if depends_on_whole_tile(network):
            sides = self._card_tile(volume, multiples)
            padded, inside = padded_to(volume, sides)
            shape = tuple(padded.shape[2:])
            tiles = overlapping_tiles(shape, sides, card.tile_overlap)
            weights = gaussian_weights(sides) if len(tiles) > 1 else None
            needed = self._needed(padded, multiples) if len(tiles) > 1 else None
            tiles = where_needed(tiles, needed) or tiles[:1]
        else:
            padded, inside = padded_to(volume, least, multiples)
            shape, weights = tuple(padded.shape[2:]), None
            most = self._most_voxels(padded)
            needed, margin = None, tuple(0 for _ in shape)
            if prod(shape) > most:
                needed = self._needed(padded, multiples)
                margin = border_margin(self._logits, padded, multiples)
            tiles = fewest_tiles(shape, margin, multiples, most, needed)
        maps = self._request.classes + len(self._request.names)
        return _Layout(padded.to(device), inside, tiles, weights, maps)

    def _multiples(self) -> Sides:
        known = getattr(self._model.network, "multiples", None)
        if known is None:
            return self._card.network_tile
        return tuple(known())

    def _card_tile(self, volume: Tensor, multiples: Sides) -> Sides:
        """The card's tile, smaller where the volume is, and where memory does not allow it."""
        card = self._card
        sides = list(card.network_tile)
        if not card.whole_tiles:
            fitting = [max(16, -(-n // 16) * 16) for n in volume.shape[2:]]
            sides = [min(pair) for pair in zip(sides, fitting, strict=True)]
        wanted, most = list(sides), self._most_voxels(volume, self._budget)
        while prod(sides) > most and any(s > 2 * m for s, m in zip(sides, multiples, strict=True)):
            axis = max(range(len(sides)), key=lambda n: sides[n])
            sides[axis] = max(sides[axis] * 3 // 4 // multiples[axis], 1) * multiples[axis]
        if sides != wanted:
            told = " x ".join(map(str, sides))
            self.notes.append(
                f"Memory allows tiles of {told} voxels only; this network may see other things in "
                "smaller tiles."
            )
        return tuple(sides)

    def _most_voxels(self, volume: Tensor, most_bytes: float = _MOST_TILE_BYTES) -> int:
        """Voxels of a tile that the memory left beside the volume and its maps allows."""
        maps = self._request.classes + len(self._request.names)
        left: float = self._budget - 4 * volume.numel() - 4 * maps * volume[0, 0].numel()
        if self._backend.device.type == "cuda":
            left = _SHARE_OF_GPU * torch.cuda.mem_get_info(self._backend.device)[0]
        return max(1, int(min(most_bytes, max(left, self._budget / 8)) / self._each_voxel))

    @cached_property
    def _each_voxel(self) -> float:
        network = self._model.network
        known = hasattr(network, "multiples")
        sides = [2 * m for m in self._multiples()] if known else self._card.network_tile
        patch = torch.zeros(1, len(self._card.channels), *sides)
        return bytes_per_voxel(network, patch.to(next(network.parameters()).device))

    def _logits(self, patch: Tensor) -> Tensor:
        network = self._model.network
        logits: Tensor = network(patch.to(next(network.parameters()).device))
        return logits.float().cpu()

    def _needed(self, volume: Tensor, multiples: Sides) -> Needed | None:
        if self._gate is None:
            return None
        with self._stopwatch.stage("coarse"):
            plain = MapRequest(classes=self._request.classes)
            see = self._backend.load(
                MappedNetwork(self._model.network, plain, 0).eval(),
                self._card.spatial_dims,
                self._key(0, plain),
            )
            factor = tuple(self._gate.factor)
            on_device = volume.to(self._backend.device)
            return needed_cells(coarse_foreground(see, on_device, factor, multiples), self._gate)

    def _fine(self, runners: Sequence[Runner], layout: _Layout) -> Tensor:
        if not layout.tiles:
            return torch.zeros(layout.maps, *layout.volume.shape[2:])[(slice(None), *layout.inside)]
        store = torch.float32
        if 4 * layout.maps * layout.volume[0, 0].numel() > _HALF_PRECISION_SHARE * self._budget:
            store = torch.float16

        def see(patch: Tensor) -> Tensor:
            with self._stopwatch.stage("fine"):
                return maps_of_tile(runners, self._request, patch)

        with self._stopwatch.stage("blend"):
            found = through_tiles(
                see, layout.volume, layout.tiles, layout.weights, store, self._tell
            )
        return found[(slice(None), *layout.inside)]

    def _tell(self) -> None:
        self._progress(ProgressEvent("tiles", self._done, self._total))
        self._done += 1


def _sentence(backend: Backend, error: Exception, smaller: bool) -> str:
    if smaller:
        return f"{backend.name} ran out of memory on {backend.device}; smaller tiles were tried."
    lines = str(error).strip().splitlines()
    reason = lines[0][:160] if lines else type(error).__name__
    return f"{backend.name} failed on {backend.device} ({reason}); the next device was taken."


def _too_large() -> InputError:
    return InputError(
        "out-of-memory",
        "The memory does not suffice, not even for small tiles.",
        "Close other programs, or give a smaller region of interest.",
    )
