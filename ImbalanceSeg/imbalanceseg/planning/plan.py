"""The training plan of a dataset, with the reason for each decision."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Literal

from pydantic import BaseModel, ConfigDict

from imbalanceseg.errors import InputError
from imbalanceseg.planning.dataset import Dataset
from imbalanceseg.planning.fingerprint import Fingerprint
from imbalanceseg.planning.imbalance import Sampling, WeightName, answer_to_imbalance
from imbalanceseg.planning.topology import (
    EARLY_RULES_2D,
    EARLY_RULES_3D,
    RULES_2D,
    RULES_3D,
    Rules,
    Topology,
    batch_size,
    median_shape,
    plan_topology,
    pooled,
    target_spacing,
)
from imbalanceseg.preprocessing.intensity import Normalization

_CROP_MATTERS = 0.75

Preset = Literal["v2", "early"]

_RULES = {
    ("v2", 2): RULES_2D,
    ("v2", 3): RULES_3D,
    ("early", 2): EARLY_RULES_2D,
    ("early", 3): EARLY_RULES_3D,
}


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Plan(_Frozen):
    """Everything that training decides before it begins.

    Axes are those of the network: ``axes`` says which of the case's Z, Y, X (Y, X in 2D) each is.
    The one across thick slices comes first, whatever plane they were taken in.

    Attributes:
        dataset: its name.
        preset: ``"v2"``, nnU-Net's present rules, or ``"early"``, those of its first version.
        channel_names: of the input.
        labels: class name by value.
        axes: the case's axis that each axis of the network is.
        spacing_mm: images are resampled to it.
        anisotropic: the first axis is resampled apart from the others.
        patch: voxels of a training patch.
        batch: patches of a step.
        network: name for ``create_network``.
        strides: into every stage.
        kernels: of every stage.
        features: of every stage.
        normalization: by channel.
        label_interpolation: ``"nearest"`` voxel, or ``"cubic"`` splines class by class, of which
            the largest wins; unlabelled voxels are always taken by the nearest.
        loss: name for ``create_loss``.
        loss_weight: map that the loss takes as ``weight``.
        sampling: where patches are taken.
        reasons: why, by decision, in words.
    """

    dataset: str
    preset: Preset
    channel_names: tuple[str, ...]
    labels: dict[int, str]
    axes: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    anisotropic: bool
    patch: tuple[int, ...]
    batch: int
    network: str
    strides: tuple[tuple[int, ...], ...]
    kernels: tuple[tuple[int, ...], ...]
    features: tuple[int, ...]
    normalization: tuple[Normalization, ...]
    label_interpolation: Literal["nearest", "cubic"] = "nearest"
    loss: str
    loss_weight: WeightName = "none"
    sampling: Sampling
    reasons: dict[str, str]


def make_plan(
    dataset: Dataset,
    found: Fingerprint,
    memory_gb: float = 8.0,
    preset: Preset = "v2",
    spacing_mm: Sequence[float] | None = None,
) -> Plan:
    """Plan the training of a dataset by nnU-Net's rules, and loss and sampler by its imbalance.

    Args:
        dataset: what it holds.
        found: its fingerprint.
        memory_gb: for training, on the GPU or the CPU.
        preset: ``"v2"``, or ``"early"``: 30 features in the finest stage, a lone axis halved too
            down to 4 voxels, CT clipped to the middle 90 % of the foreground, and labels resampled
            with cubic splines.
        spacing_mm: along the network's axes, instead of the cases' median.

    Returns:
        The plan; the same for the same fingerprint.

    Raises:
        InputError: ``spacing-axes``.

    Source: Isensee et al., Nature Methods 18, 2021, and nnU-Net v2's planner; how loss and sampler
    follow from the imbalance is ours. In the early preset, what we know of no other rule for is
    v2's.
    """
    reasons: dict[str, str] = {}
    rules = _RULES[preset, found.spatial_dims]
    first = 3 - found.spatial_dims
    axes = _axes(
        target_spacing([s[first:] for s in found.spacings_mm], [s[first:] for s in found.shapes])
    )
    spacings = [tuple(s[first:][axis] for axis in axes) for s in found.spacings_mm]
    shapes = [tuple(s[first:][axis] for axis in axes) for s in found.shapes]
    spacing = tuple(spacing_mm or target_spacing(spacings, shapes))
    if len(spacing) != len(axes):
        raise InputError(
            "spacing-axes",
            f"A spacing of {len(spacing)} axes does not fit images of {len(axes)}.",
            "Give one number for each axis, or leave the spacing to the plan.",
        )
    resampled = [
        tuple(
            max(1, round(n * old / new)) for n, old, new in zip(shape, olds, spacing, strict=True)
        )
        for shape, olds in zip(shapes, spacings, strict=True)
    ]
    anisotropic = found.spatial_dims == 3 and spacing[0] > 3 * max(spacing[1:])
    labels = dict(dataset.labels) or _numbered_classes(found)
    classes = len({0, *labels})
    topology = plan_topology(spacing, median_shape(resampled), classes, rules, memory_gb)
    voxels = float(sum(prod(shape) for shape in resampled))
    batch = batch_size(topology, classes, rules, voxels, memory_gb)
    reasons["spacing"] = _spacing_reason(spacing, spacings, anisotropic)
    if spacing_mm:
        reasons["spacing"] = "The recipe asks for it."
    reasons |= _topology_reasons(topology, batch, resampled, rules, voxels, memory_gb)
    if preset == "early":
        reasons["spacing"] += " Labels are resampled class by class with cubic splines."
    normalization = _normalization(dataset, found, preset, reasons)
    answer = answer_to_imbalance(found, labels)
    reasons |= {"loss": answer.loss_reason, "sampling": answer.sampling_reason}
    names = dataset.channel_names or tuple(f"channel {n}" for n in range(found.channels))
    return Plan(
        dataset=dataset.name,
        preset=preset,
        channel_names=names,
        labels=labels,
        axes=axes,
        spacing_mm=tuple(round(s, 5) for s in spacing),
        anisotropic=anisotropic,
        patch=topology.patch,
        batch=batch,
        network="nnunet",
        strides=topology.strides,
        kernels=topology.kernels,
        features=topology.features,
        normalization=normalization,
        label_interpolation="cubic" if preset == "early" else "nearest",
        loss=answer.loss,
        loss_weight=answer.weight,
        sampling=answer.sampling,
        reasons=reasons,
    )


def with_range(plan: Plan, low: float, high: float) -> Plan:
    """The plan with another normalisation: every channel from these two values to 0 and 1."""
    scaled = Normalization(scheme="range", low=low, high=high)
    return with_normalization(plan, (scaled,) * len(plan.normalization), "The recipe asks for it.")


def with_normalization(plan: Plan, normalization: tuple[Normalization, ...], why: str) -> Plan:
    """The plan with another normalisation.

    Args:
        plan: of a dataset.
        normalization: by channel.
        why: for people.
    """
    return plan.model_copy(
        update={
            "normalization": normalization,
            "reasons": plan.reasons | {"normalization": why},
        }
    )


def with_patch(plan: Plan, patch: Sequence[int]) -> Plan:
    """The plan for another patch: poolings, kernels and features follow from it by the same rules.

    Args:
        plan: of a dataset.
        patch: voxels along each axis; enlarged to what the poolings divide.

    Raises:
        InputError: ``patch-axes``.
    """
    if len(patch) != len(plan.patch):
        raise InputError(
            "patch-axes",
            f"A patch of {len(patch)} axes does not fit images of {len(plan.patch)}.",
            "Give one number of voxels for each axis, or leave the patch to the plan.",
        )
    topology = pooled(plan.spacing_mm, patch, _RULES[plan.preset, len(patch)])
    reasons = plan.reasons | {
        "patch": "The recipe asks for it.",
        "network": _network_reason(topology),
        "batch": "That of the plan's own patch.",
    }
    return plan.model_copy(
        update={
            "patch": topology.patch,
            "strides": topology.strides,
            "kernels": topology.kernels,
            "features": topology.features,
            "reasons": reasons,
        }
    )


def decisions(plan: Plan) -> dict[str, str]:
    """What was decided, for people: value by decision, each with a reason of that name."""
    kernels = ", ".join(_by(kernel) for kernel in plan.kernels)
    return {
        "spacing": f"{_by(plan.spacing_mm)} mm",
        "patch": shown_patch(plan.patch),
        "batch": str(plan.batch),
        "network": f"{plan.network}, kernels {kernels}",
        "normalization": ", ".join(one.scheme for one in plan.normalization),
        "loss": shown_loss(plan.loss, plan.loss_weight),
        "sampling": shown_sampling(plan.sampling),
    }


def shown_patch(patch: Sequence[int]) -> str:
    """A patch for people."""
    return f"{_by(patch)} {_unit(patch)}"


def shown_loss(name: str, weight: WeightName) -> str:
    """A loss and its weight map for people."""
    return name if weight == "none" else f"{name}, {weight.replace('_', ' ')} weight"


def shown_sampling(sampling: Sampling) -> str:
    """Where patches are taken, for people."""
    shares = [f"{share:.0%} {kind.replace('_', ' ')}" for kind, share in sampling if share]
    return ", ".join(shares) or "anywhere"


def _unit(size: Sequence[int]) -> str:
    return "pixels" if len(size) == 2 else "voxels"


def _by(values: Sequence[float]) -> str:
    return " x ".join(f"{value:g}" for value in values)


def _numbered_classes(found: Fingerprint) -> dict[int, str]:
    return {0: "background", **{value: f"class {value}" for value in found.classes}}


def _axes(spacing: Sequence[float]) -> tuple[int, ...]:
    """The coarsest axis first, if it is coarser than the first by more than what rounding does."""
    worst = max(range(len(spacing)), key=spacing.__getitem__)
    if spacing[worst] < 1.01 * spacing[0]:
        worst = 0
    return (worst, *(axis for axis in range(len(spacing)) if axis != worst))


def _spacing_reason(
    spacing: Sequence[float], spacings: Sequence[Sequence[float]], anisotropic: bool
) -> str:
    text = f"The median of {len(spacings)} cases, {_listed(spacing, ' x ')} mm."
    if len(set(map(tuple, spacings))) == 1:
        text = f"All cases have {_listed(spacing, ' x ')} mm."
    if anisotropic:
        text += (
            f" Slices are {spacing[0] / max(spacing[1:]):.1f} times as thick as a pixel is wide: "
            "they are resampled within the plane, and across it by the nearest slice."
        )
    return text


def _topology_reasons(
    topology: Topology,
    batch: int,
    shapes: Sequence[Sequence[int]],
    rules: Rules,
    voxels: float,
    memory_gb: float,
) -> dict[str, str]:
    median = median_shape(shapes)
    share = prod(map(min, topology.patch, median)) / prod(median)
    if all(p >= n for p, n in zip(topology.patch, median, strict=True)):
        patch = f"A median case, {_listed(median, ' x ')} {_unit(median)}, fits whole."
    else:
        patch = (
            f"The largest that fits {memory_gb:g} GB; {share:.0%} of a median case of "
            f"{_listed(median, ' x ')} {_unit(median)}."
        )
        if share < 0.25:
            patch += " The network sees little context: a coarser spacing may serve large objects."
    by_data = round(0.05 * voxels / prod(topology.patch))
    if batch == 2 and by_data < 2:
        why = "The smallest that is worth it; the dataset is small for its patch."
    elif batch == by_data:
        why = "5 % of all voxels of the dataset; a larger one would see the same cases every step."
    else:
        why = f"What {memory_gb:g} GB hold beside a patch of this size."
    return {"patch": patch, "network": _network_reason(topology), "batch": why}


def _network_reason(topology: Topology) -> str:
    poolings = _listed(topology.poolings, ", ")
    flat = sum(k[0] == 1 for k in topology.kernels) if len(topology.patch) == 3 else 0
    reason = f"Axes are halved {poolings} times, while they have 8 voxels and are fine enough."
    if flat:
        reason += (
            f" The {flat} finest stages look only within the slice (2.5D): thick slices next to "
            "each other show different anatomy."
        )
    return reason


def _normalization(
    dataset: Dataset, found: Fingerprint, preset: Preset, reasons: dict[str, str]
) -> tuple[Normalization, ...]:
    schemes, words = [], []
    for number, channel in enumerate(found.intensities):
        name = dataset.channel_names[number] if dataset.channel_names else ""
        low, high, cut = channel.low, channel.high, "half a per cent"
        if preset == "early":
            low, high, cut = channel.fifth, channel.ninety_fifth, "5 per cent"
        # Within one grey value there is no scale that all cases could share.
        if name.strip().lower() == "ct" and low < high:
            scheme = Normalization(
                scheme="ct", low=low, high=high, mean=channel.mean, std=max(channel.std, 1e-8)
            )
            words.append(
                f"CT has one scale for all: clipped to {low:.0f} to {high:.0f} HU, {cut} of the "
                "foreground on either side"
            )
        elif found.cropped_share < _CROP_MATTERS:
            scheme = Normalization(scheme="masked z-score")
            words.append(
                f"{name or 'the channel'} has no fixed scale and is 0 around the object: each "
                "image by its own voxels that are not 0"
            )
        else:
            scheme = Normalization(scheme="z-score")
            words.append(f"{name or 'the channel'} has no fixed scale: each image by its own")
        schemes.append(scheme)
    sentence = "; ".join(dict.fromkeys(words))
    reasons["normalization"] = sentence[0].upper() + sentence[1:] + "."
    if not dataset.channel_names:
        reasons["normalization"] += " If these are CT, name the channel CT in dataset.json."
    return tuple(schemes)


def _listed(values: Sequence[float], between: str) -> str:
    return between.join(f"{value:.4g}" for value in values)
