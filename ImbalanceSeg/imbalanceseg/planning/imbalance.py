"""What the imbalance of a dataset asks for: loss, weight map and sampler, each with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from statistics import median
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from imbalanceseg.planning.fingerprint import ClassFingerprint, Fingerprint

_COMPACT = 0.7
_MOSTLY_ONE = 0.8
_CRUMB_VOXELS = 4
_MANY_COMPONENTS = 3.0
_SPREAD_SIZES = 10.0
_RARE_SHARE = 0.005
_SPARSELY_LABELLED = 0.5

WeightName = Literal["none", "border", "centerline", "local_imbalance"]
Share = Annotated[float, Field(ge=0, le=1)]


class Sampling(BaseModel):
    """Where patches are taken; what is left over is drawn anywhere.

    Attributes:
        foreground: share centred on a foreground voxel, classes equally likely.
        instance: share centred on a component, each component equally likely.
        annotated: share centred on a labelled voxel, where most voxels are not labelled.
        hard_skeleton: share centred on a centreline voxel that the network missed when it was last
            asked; on any centreline voxel before that.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    foreground: Share = 0.0
    instance: Share = 0.0
    annotated: Share = 0.0
    hard_skeleton: Share = 0.0

    @model_validator(mode="after")
    def _at_most_all(self) -> Sampling:
        if self.foreground + self.instance + self.annotated + self.hard_skeleton > 1 + 1e-9:
            raise ValueError("the shares add up to more than 1")
        return self


@dataclass(frozen=True)
class Answer:
    """What to train with.

    Attributes:
        loss: name for ``create_loss``.
        weight: map that it takes as ``weight``.
        sampling: where patches are taken.
        loss_reason: why this loss and map, in words.
        sampling_reason: why there, in words.
    """

    loss: str
    weight: WeightName
    sampling: Sampling
    loss_reason: str
    sampling_reason: str


def answer_to_imbalance(found: Fingerprint, labels: Mapping[int, str]) -> Answer:
    """Loss, weight map and sampler, from how sparse, thin, scattered and rare the foreground is.

    Args:
        found: fingerprint of the dataset.
        labels: class name by value.
    """
    if not found.classes:
        return Answer(
            "dice_ce",
            "none",
            Sampling(),
            "Of all images only the classes that they show are known, not where: there is no size "
            "to choose a loss by.",
            "Anywhere: no place is known to hold anything.",
        )
    if found.labelled_share < _SPARSELY_LABELLED:
        return Answer(
            "partial_label",
            "none",
            Sampling(annotated=1.0),
            f"Only {found.labelled_share:.1%} of the voxels are labelled: partial_label leaves out "
            "the rest, and does not push down a class that the painted slices lack.",
            "Every patch holds labelled voxels; others teach nothing.",
        )
    answer = _to_labelled(found, labels)
    if found.labelled_share < 1:
        left_out = f" The {1 - found.labelled_share:.1%} of unlabelled voxels are left out."
        answer = replace(answer, loss_reason=answer.loss_reason + left_out)
    return answer


def _to_labelled(found: Fingerprint, labels: Mapping[int, str]) -> Answer:
    rarest = min(found.classes.values(), key=lambda c: c.voxel_share)
    share = f"{rarest.voxel_share:.2%} of a case"
    alone = len(found.classes) == 1
    if alone and rarest.compactness < _COMPACT and _is_one(rarest, found):
        return Answer(
            "general_union",
            "centerline",
            Sampling(foreground=0.5),
            f"One structure, thin for its volume (its voxels lie {rarest.compactness:.0%} as deep "
            f"as in a ball; {share}): general_union keeps thin branches from being swallowed, and "
            "more so with a weight that is largest on their centrelines.",
            "Half of the patches on the structure: elsewhere is easy.",
        )
    scattered = [value for value, c in found.classes.items() if _is_scattered(c, found)]
    if scattered:
        return Answer(
            "blob",
            "none",
            Sampling(instance=1 / 3),
            _why_scattered(found.classes[scattered[0]], labels[scattered[0]]),
            "A third of the patches on instances, each equally likely.",
        )
    if alone and rarest.voxel_share < _RARE_SHARE:
        return Answer(
            "hardness_weighted_dice",
            "none",
            Sampling(foreground=0.5),
            f"One small compact object ({share}): hardness_weighted_dice lets its hard voxels "
            "weigh more.",
            "Half of the patches on the object: elsewhere is easy.",
        )
    of = "" if alone else f"the rarest of {len(found.classes)} classes is "
    return Answer(
        "dice_ce",
        "none",
        Sampling(foreground=1 / 3),
        f"Compact and of ordinary size ({of}{share}): Dice and cross entropy.",
        "A third of the patches on foreground, classes equally likely.",
    )


def _why_scattered(one: ClassFingerprint, name: str) -> str:
    small, _, large = one.component_size
    reason = (
        f"Scattered: {one.components_a_case:.0f} instances a case ({name}) of very different size "
        f"(the largest tenth {large / small:.0f} times the smallest). In blob every instance "
        "counts alike, the sum with Dice keeps false positives down."
    )
    if one.largest_share > _MOSTLY_ONE:
        reason += (
            f" But one of them holds {one.largest_share:.0%} of the voxels: if the others are "
            "noise of the labels, take a recipe with loss dice_ce."
        )
    return reason


def _is_one(one: ClassFingerprint, found: Fingerprint) -> bool:
    """Whether a class is one structure: few components, or crumbs beside a large one."""
    if one.components_a_case < _MANY_COMPONENTS:
        return True
    voxel = median(prod(spacing) for spacing in found.spacings_mm)
    return one.largest_share > _MOSTLY_ONE and one.component_size[1] < _CRUMB_VOXELS * voxel


def _is_scattered(one: ClassFingerprint, found: Fingerprint) -> bool:
    small, _, large = one.component_size
    return not _is_one(one, found) and large >= _SPREAD_SIZES * small
