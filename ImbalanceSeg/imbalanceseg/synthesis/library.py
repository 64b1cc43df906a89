"""A folder of chest anatomies, made once and read back quickly."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np

from imbalanceseg.geometry import Grid
from imbalanceseg.io import atomic_path, write_text
from imbalanceseg.synthesis.anatomy import ChestAnatomy, anatomy_from_masks
from imbalanceseg.synthesis.tree_growth import grow_chest


def chest_library(
    folder: Path,
    masks_folder: Path | None,
    patients: Iterable[int],
    grown_seeds: Iterable[int],
    spacing_mm: float,
) -> list[ChestAnatomy]:
    """Anatomies of the given patients and grown chests, from ``folder`` where they lie already."""
    chests = []
    for patient in patients if masks_folder is not None else ():
        assert masks_folder is not None
        stem = folder / f"patient{patient}-{spacing_mm:g}mm"
        chests.append(_cached(stem, partial(anatomy_from_masks, masks_folder, patient, spacing_mm)))
    for seed in grown_seeds:
        stem = folder / f"grown{seed}-{spacing_mm:g}mm"
        chests.append(_cached(stem, partial(grow_chest, seed, spacing_mm)))
    return chests


def _cached(stem: Path, make: Callable[[], ChestAnatomy]) -> ChestAnatomy:
    maps, grid = (stem.with_name(stem.name + ending) for ending in (".npy", ".json"))
    if not (maps.is_file() and grid.is_file()):
        stem.parent.mkdir(parents=True, exist_ok=True)
        made = make()
        with atomic_path(maps) as path, open(path, "wb") as file:
            np.save(file, made.stacked())
        write_text(grid, json.dumps(asdict(made.grid)))
    # Chests are large, and a training piece shows little of one.
    stack = np.load(maps, mmap_mode="r")
    where = {key: tuple(value) for key, value in json.loads(grid.read_text()).items()}
    return ChestAnatomy(Grid(**where), **dict(zip(ChestAnatomy.map_names(), stack, strict=True)))
