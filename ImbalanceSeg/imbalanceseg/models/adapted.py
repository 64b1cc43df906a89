"""The card of a model that was adapted to one patient, or begun from that patient's slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import SimpleITK as sitk

from imbalanceseg.geometry import Grid
from imbalanceseg.models.card import (
    Adaptation,
    Channel,
    GateSettings,
    HardnessSettings,
    ModelCard,
    NetworkSpec,
    TrainingData,
)
from imbalanceseg.models.planned import planned_segments
from imbalanceseg.preprocessing.intensity import Normalization

_MOST_VOXELS = 2**24
_OUTLIERS = (0.5, 99.5)
_BLANK_SHARE = 0.02
_LIMITATION = (
    "Adapted to the slices that one person painted in one scan, and tested on nothing else."
)
_LOOKED_COARSER = "Its network saw {factor} voxels as one, because time did not allow for more."


def scratch_card(channels: Sequence[sitk.Image], names: Mapping[int, str]) -> ModelCard:
    """A model of nothing yet, for one scan: its grid, its range of intensities, its classes.

    Grids of more than 16 million voxels are made coarser, the finest axes first.

    Args:
        channels: of the scan, on one grid.
        names: of the classes 1, 2, 3, ...
    """
    grid = Grid.of(channels[0]).oriented_lps()
    return ModelCard(
        name="from-scratch",
        version="1.0.0",
        title=f"{', '.join(names.values())} in one scan"[:200],
        description="A classifier of voxels that was begun from the painted slices of one scan.",
        intended_use="Research: the rest of the scan whose slices were painted.",
        modality="other",
        body_part="unknown",
        network=NetworkSpec(name="adapted"),
        spacing_mm=_affordable_spacing(grid),
        channels=tuple(
            Channel(name=f"image {n}", normalization=_scaling(image))
            for n, image in enumerate(channels, 1)
        ),
        tile_voxels=(96, 96, 96),
        crop="nonzero",
        mirrored_axes=(),
        segments=planned_segments({0: "background", **names}),
        hardness=HardnessSettings(kind="entropy"),
        training_data=(TrainingData(name="Painted slices of one scan", license="unknown"),),
        limitations=(_LIMITATION,),
    )


def adapted_card(
    parent: ModelCard, arguments: Mapping[str, Any], adaptation: Adaptation
) -> ModelCard:
    """The card of a model's child.

    Figures that were measured with the parent are not the child's, and a gate that was chosen for
    the parent does not know what the child has learned to find.

    Args:
        parent: the card of the model that was adapted.
        arguments: of :class:`~imbalanceseg.networks.adapted.AdaptedNetwork`.
        adaptation: where it comes from.
    """
    gate: GateSettings | None = None
    limitations = parent.limitations
    if _LIMITATION not in limitations:
        limitations = (_LIMITATION, *limitations)
    base = arguments.get("base") or {}
    if base.get("name") == "coarser":
        factor = " x ".join(str(f) for f in base["kwargs"]["factor"])
        limitations = (*limitations, _LOOKED_COARSER.format(factor=factor))
    return parent.model_copy(
        update={
            "name": parent.name if parent.adaptation else f"{parent.name[:55]}-adapted",
            "network": NetworkSpec(name="adapted", kwargs=dict(arguments)),
            "hardness": HardnessSettings(kind="entropy"),
            "gate": gate,
            "metrics": {},
            "adaptation": adaptation,
            "limitations": limitations,
            "weights": (),
        }
    )


def _affordable_spacing(grid: Grid) -> tuple[float, ...]:
    spacing = np.asarray(grid.spacing_mm)
    extent = spacing * grid.size
    coarse = spacing
    while np.prod(np.maximum(extent / coarse, 1)) > _MOST_VOXELS:
        coarse = np.maximum(spacing, coarse.min() * 1.05)
    return tuple(float(round(s, 6)) for s in coarse)


def _scaling(image: sitk.Image) -> Normalization:
    """Robust and fixed: this scan's own figures, without what is blanked out around it."""
    values = sitk.GetArrayViewFromImage(image)
    step = max(1, int(np.cbrt(values.size / 2**22)))
    some = values[::step, ::step, ::step].ravel()
    seen = some[some != 0]
    if len(some) - len(seen) < _BLANK_SHARE * len(some) or len(seen) < 2:
        seen = some
    low, high = (float(v) for v in np.percentile(seen, _OUTLIERS))
    if not low < high:
        low, high = float(seen.min()), float(max(seen.max(), seen.min() + 1))
    seen = np.clip(seen.astype(np.float64), low, high)
    return Normalization(
        scheme="ct", low=low, high=high, mean=float(seen.mean()), std=float(max(seen.std(), 1e-6))
    )
