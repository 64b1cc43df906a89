"""The maps of a case that losses need, computed once and kept in a folder."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from imbalanceseg.errors import InputError
from imbalanceseg.io import atomic_path
from imbalanceseg.labels import UNLABELLED
from imbalanceseg.losses.weights import (
    border_weight,
    centerline_distance_weight,
    local_imbalance_weight,
    signed_distance,
)

_FORMAT = 1
"""Part of every key: counted up when a map is computed or kept in another way."""


class CaseMaps:
    """A folder of maps, each computed once; several processes may use it at the same time.

    An entry is found by all that its map is computed from, so it is never out of date: a changed
    label has another entry. Nothing is removed; the folder may be deleted at any time.

    Args:
        folder: where the maps lie; made when the first one is kept.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    def get(
        self, name: str, label: np.ndarray, spacing_mm: Sequence[float], **settings: Any
    ) -> np.ndarray:
        """A map of one case: read from the folder, or computed and kept there.

        Args:
            name: one of :func:`case_map_names`; the function of :mod:`imbalanceseg.losses` with
                this name computes the map.
            label: ``[Z, Y, X]``, foreground greater than 0; 255 is unlabelled and counts as
                background. For ``border_weight`` one number an instance, 255 too. Give
                ``label == 2`` for the ``signed_distance`` of class 2 alone.
            spacing_mm: voxel size along the axes of ``label``.
            settings: the function's further arguments; those left out have its defaults.

        Returns:
            What the function gives, in the shape of ``label``: int64 for ``label_components``,
            float32 for the others.

        Raises:
            InputError: ``map-unknown``, ``map-settings`` when a setting does not exist, or what
                the function refuses.
            OutputError: the map cannot be kept in the folder.
        """
        function = _function(name)
        settings = _with_defaults(name, function, settings)
        spacing = tuple(float(s) for s in spacing_mm)
        path = self.folder / f"{name}-{_key(name, label, spacing, settings)}.npz"
        kept = _read(path)
        if kept is not None:
            return kept
        # A folder that cannot be made is missing, and the next line says so to the user.
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
        # Computed in the block: a folder that cannot be written to is refused before the work.
        with atomic_path(path) as temporary:
            computed = function(label, spacing, **settings)
            np.savez_compressed(temporary, map=computed)
        return computed


def case_map_names() -> list[str]:
    """Names that :meth:`CaseMaps.get` knows, sorted."""
    return sorted(_FUNCTIONS)


def _function(name: str) -> Callable[..., np.ndarray]:
    if name not in _FUNCTIONS:
        raise InputError(
            "map-unknown",
            f"There is no map named {name!r}.",
            f"Known maps: {', '.join(case_map_names())}.",
        )
    return _FUNCTIONS[name]


def _with_defaults(
    name: str, function: Callable[..., np.ndarray], settings: Mapping[str, Any]
) -> dict[str, Any]:
    parameters = list(inspect.signature(function).parameters.values())[2:]
    defaults = {p.name: p.default for p in parameters}
    unknown = [setting for setting in settings if setting not in defaults]
    if unknown:
        raise InputError(
            "map-settings",
            f"The map {name!r} has no setting {unknown[0]!r}.",
            f"Its settings are {', '.join(defaults)}." if defaults else "It has none.",
        )
    return defaults | dict(settings)


def _key(
    name: str, label: np.ndarray, spacing: tuple[float, ...], settings: Mapping[str, Any]
) -> str:
    """A digest of all that a map is computed from."""
    facts = [_FORMAT, name, settings, spacing, label.dtype.str, label.shape]
    # numpy's numbers are none of JSON's.
    digest = hashlib.blake2b(
        json.dumps(facts, sort_keys=True, default=float).encode(), digest_size=16
    )
    digest.update(np.ascontiguousarray(label).ravel().view(np.uint8).data)
    return digest.hexdigest()


def _read(path: Path) -> np.ndarray | None:
    """The map in a file; None where there is no file, or a damaged one."""
    try:
        with np.load(path, allow_pickle=False) as file:
            kept: np.ndarray = file["map"]
    # A damaged archive fails in as many ways as it has fields.
    except Exception:
        return None
    return kept


def _local_imbalance_weight(
    label: np.ndarray, _: tuple[float, ...], exponent: float = 2.5
) -> np.ndarray:
    return local_imbalance_weight(label, exponent)


def _signed_distance(label: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    return signed_distance((label > 0) & (label != UNLABELLED), spacing)


def _label_components(
    label: np.ndarray, _: tuple[float, ...], binary: bool = True, smallest_voxels: int = 1
) -> np.ndarray:
    # torch takes seconds to load and computes no other map
    import torch

    from imbalanceseg.losses.components import label_components

    target = torch.from_numpy(label.astype(np.int64))[None, None]
    components: np.ndarray = label_components(target, None, binary, smallest_voxels)[0, 0].numpy()
    return components


_FUNCTIONS: dict[str, Callable[..., np.ndarray]] = {
    "border_weight": border_weight,
    "centerline_distance_weight": centerline_distance_weight,
    "label_components": _label_components,
    "local_imbalance_weight": _local_imbalance_weight,
    "signed_distance": _signed_distance,
}
