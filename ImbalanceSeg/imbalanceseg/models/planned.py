"""The card of a model that was trained from a plan."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Mapping, Sequence
from typing import Any

from imbalanceseg.labels import CodedConcept, SegmentInfo
from imbalanceseg.models.card import (
    Channel,
    HardnessSettings,
    Modality,
    ModelCard,
    NetworkSpec,
    TrainingData,
)
from imbalanceseg.planning.plan import Plan

_TISSUE = CodedConcept("85756007", "Tissue")
"""What 3D Slicer calls a segment of which nothing is known, as category and as type."""
_MR_NAMES = {"mr", "mri", "t1", "t1c", "t1ce", "t1gd", "t1w", "t2", "t2w", "flair", "adc", "dwi"}
_COLORS = ((230, 92, 66), (128, 196, 226), (246, 190, 60), (144, 200, 90), (190, 130, 220))
_GOLDEN_SHARE = 0.618034


def planned_card(
    plan: Plan,
    network: NetworkSpec,
    *,
    name: str,
    recipe_name: str,
    cases: int,
    version: str = "1.0.0",
    patch: Sequence[int] | None = None,
    tile_overlap: float = 0.5,
    mirrored_axes: Sequence[int] | None = None,
    threshold: float = 0.5,
    largest_component_of: Sequence[int] = (),
    sparsity: float = 0.3,
    metrics: Mapping[str, Mapping[str, float]] | None = None,
    limitations: Sequence[str] = (),
    training_license: str = "unknown",
    training_source: str = "",
    training_note: str = "",
    modality: Modality | None = None,
    body_part: str = "unknown",
    references: Sequence[str] = (),
) -> ModelCard:
    """Describe a model so that it sees a scan as it saw its prepared training cases.

    Args:
        plan: that it was trained from.
        network: name and arguments for ``create_network``; background and every class as channels
            of the output, or one channel for a single class.
        name: of the model: lower case, digits, hyphens.
        recipe_name: that it was trained with.
        cases: it was trained on.
        version: of the weights.
        patch: of the training, along the network's axes; the plan's when None.
        tile_overlap: share of a tile that its neighbour covers too.
        mirrored_axes: the network's axes along which training mirrored patches; all when None.
        threshold: of a single class.
        largest_component_of: classes, counted from 1 in the order of their label values, of which
            only the largest component is kept.
        sparsity: share of the weights that is pruned for the hardness map.
        metrics: test set -> metric -> figure.
        limitations: besides those that hold for every such model.
        training_license: of the dataset.
        training_source: address of the dataset.
        training_note: what else there is to say of the dataset.
        modality: told from the names of the channels when None.
        body_part: for example ``"BRAIN"``.
        references: papers.

    Returns:
        The card; its weights are filled in when the bundle is written.
    """
    segments = planned_segments(plan.labels)
    names = ", ".join(segment.name for segment in segments)
    dims = len(plan.axes)
    flat = dims == 2
    about_data = [training_note, _renumbered(plan.labels)]
    return ModelCard(
        name=name,
        version=version,
        title=f"{names} in {plan.dataset}"[:200],
        description=(
            f"The network {network.name}, trained by the recipe {recipe_name} on {cases} cases of "
            f"{plan.dataset}; resolution, intensities and patch follow from that dataset."
        ),
        intended_use="Research: a first segmentation to correct, of images like those it was "
        "trained on.",
        modality=modality or _modality(plan),
        body_part=body_part,
        network=network,
        # Pictures are taken pixel by pixel, whatever resolution their header claims.
        spacing_mm=None if flat else _on_image(plan.spacing_mm, plan.axes),
        channels=tuple(
            Channel(name=channel, unit="HU" if scheme.scheme == "ct" else "", normalization=scheme)
            for channel, scheme in zip(plan.channel_names, plan.normalization, strict=True)
        ),
        tile_voxels=_on_image(patch or plan.patch, plan.axes),
        tile_overlap=tile_overlap,
        whole_tiles=True,
        axes=plan.axes,
        resampling="spline",
        anisotropic=plan.anisotropic,
        crop="nonzero",
        mirrored_axes=tuple(range(dims) if mirrored_axes is None else mirrored_axes),
        segments=segments,
        threshold=threshold,
        largest_component_of=tuple(largest_component_of),
        connectivity=26,
        hardness=HardnessSettings(sparsity=sparsity),
        training_data=(
            TrainingData(
                name=plan.dataset,
                license=training_license,
                source=training_source,
                cases=cases,
                note=" ".join(part for part in about_data if part),
            ),
        ),
        metrics={where: dict(figures) for where, figures in (metrics or {}).items()},
        limitations=(
            f"Trained on {cases} cases of {plan.dataset}, and never tested on images from "
            "elsewhere.",
            *limitations,
        ),
        references=tuple(references),
    )


def planned_segments(labels: Mapping[int, str]) -> tuple[SegmentInfo, ...]:
    """Segments 1, 2, 3, ... in the order of a plan's label values, with colours of their own.

    A dataset names its classes in words only, so all have the same general code.
    """
    values = sorted(set(labels) - {0})
    return tuple(
        SegmentInfo(
            label=number,
            name=labels[value],
            category=_TISSUE,
            type=_TISSUE,
            color=_color(number),
        )
        for number, value in enumerate(values, start=1)
    )


def _color(number: int) -> tuple[int, int, int]:
    if number <= len(_COLORS):
        return _COLORS[number - 1]
    # Hues that are the golden share apart never come close to each other.
    red, green, blue = colorsys.hsv_to_rgb((number * _GOLDEN_SHARE) % 1, 0.6, 0.9)
    return round(255 * red), round(255 * green), round(255 * blue)


def _on_image(sides: Sequence[Any], axes: Sequence[int]) -> Any:
    """What is given along the network's axes, as (x, y, z) of the image."""
    along = dict(zip(axes, sides, strict=True))
    return tuple(along[axis] for axis in sorted(along, reverse=True))


def _modality(plan: Plan) -> Modality:
    words = {part for name in plan.channel_names for part in re.split(r"[^a-z0-9]+", name.lower())}
    if all(scheme.scheme == "ct" for scheme in plan.normalization):
        return "CT"
    return "MR" if words & _MR_NAMES else "other"


def _renumbered(labels: Mapping[int, str]) -> str:
    values = sorted(set(labels) - {0})
    if values == list(range(1, len(values) + 1)):
        return ""
    pairs = ", ".join(f"{value} is {number}" for number, value in enumerate(values, start=1))
    return f"Labels are counted anew: {pairs}."
