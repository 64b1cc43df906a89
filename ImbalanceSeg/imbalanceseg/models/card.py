"""The model card: what a model is, what it was trained on, what it measured, how to feed it.

A card lives inside the bundle's ``configs/metadata.json``, under the key ``imbalanceseg``; the rest
of that file is what MONAI asks of a bundle and is derived from the card when it is written.
Everything spatial in a card is in SimpleITK order (x, y, z) of an image oriented LPS, unless it
says that it speaks of the network's axes.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from imbalanceseg.errors import ModelError
from imbalanceseg.labels import SegmentInfo
from imbalanceseg.networks.factory import network_class
from imbalanceseg.preprocessing.intensity import Normalization

FORMAT_VERSION = 2
"""Version of the card's layout; a card with a higher one asks for newer software."""

WEIGHTS_FILE = "models/model.safetensors"
"""Where every bundle keeps its weights, or those of its first network."""

_MOST_FAULTS_SHOWN = 5

Text = Annotated[str, Field(min_length=1, max_length=20_000)]
Length = Annotated[float, Field(gt=0, le=100)]
TileSide = Annotated[int, Field(ge=1, le=4096)]
Modality = Literal["CT", "MR", "other"]
HardnessKind = Literal["pruning", "entropy", "tta", "ensemble"]
_Single = bool | int | float | str | None
_Plain = _Single | tuple[_Single, ...] | tuple[tuple[_Single, ...], ...]
_Network = _Plain | dict[str, _Plain | dict[str, _Plain]]
NetworkArgument = _Network | dict[str, _Network | dict[str, _Network]]
"""Of an adapted network, the network behind it is an argument with arguments of its own; and one
that looks coarser may have another behind it."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class NetworkSpec(_Part):
    """Which network, in the words of ``imbalanceseg.networks.create_network``."""

    name: Text
    kwargs: dict[str, NetworkArgument] = {}


class Channel(_Part):
    """One channel of the input, and how its intensities are scaled."""

    name: Text = "image"
    unit: str = ""
    normalization: Normalization


class DisplayWindow(_Part):
    """Display window of the input, as DICOM writes it."""

    center: float
    width: Annotated[float, Field(gt=0)]


class HardnessSettings(_Part):
    """How the hardness map is made when nothing else is asked for.

    Attributes:
        kind: see :mod:`imbalanceseg.inference.hardness`.
        sparsity: of ``"pruning"``, share of the smallest weights set to zero.
    """

    kind: HardnessKind = "pruning"
    sparsity: Annotated[float, Field(gt=0, lt=1)] = 0.3


class GateSettings(_Part):
    """The coarse pass that says where the fine one is worth it.

    Attributes:
        factor: by which each axis of the network's grid is coarsened, along the network's axes.
        threshold: of the coarse foreground probability; chosen on validation cases so that at most
            0.1 % of the foreground is lost.
        reach: voxels of the network's grid around coarse foreground that are looked at too.
    """

    factor: Annotated[tuple[Annotated[int, Field(ge=1, le=8)], ...], Field(min_length=2)]
    threshold: Annotated[float, Field(gt=0, lt=1)]
    reach: Annotated[int, Field(ge=0, le=64)] = 8


class TrainingData(_Part):
    """One source of training data."""

    name: Text
    license: Text
    source: str = ""
    cases: Annotated[int, Field(ge=0)] | None = None
    note: str = ""


class Adaptation(_Part):
    """What a model was adapted from and to.

    Attributes:
        parent: name and version of the model it began as; empty where it began from nothing.
        parent_sha256: of that model's weights.
        annotation_sha256: of the labels it learned.
        labelled_voxels: of the scan.
        slices: that were confirmed.
        depth: how deep it was trained, see :mod:`imbalanceseg.training.finetune`.
        seed: of everything random.
        seconds: that it took.
        held_out_dice: of a confirmed slice, by the same training without that slice, or None.
    """

    parent: str = ""
    parent_sha256: str = ""
    annotation_sha256: str
    labelled_voxels: int
    slices: int
    depth: str
    seed: int
    seconds: float
    held_out_dice: float | None = None


class Weights(_Part):
    """A weights file and its checksum."""

    file: Annotated[str, Field(pattern=r"^models/model(_fold[1-9][0-9]?)?\.safetensors$")] = (
        WEIGHTS_FILE
    )
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ModelCard(_Part):
    """Everything the engine and a careful reader must know about a model.

    Cards of format 1 are read too: one ``intensity`` that is clipped to a range, one ``weights``
    object, ``keep_largest_component`` for label 1.

    Attributes:
        name: short name, also the folder's and the command line's: lower case, digits, hyphens.
        version: of these weights, ``major.minor.patch``.
        network: one channel of logits (sigmoid) for one segment, or background and every segment
            (softmax).
        spacing_mm: grid the network works on, (x, y, z), or (x, y) of a 2D network; None takes
            voxels as they are.
        channels: of the input, in their order.
        window: for display; None takes it from the image.
        tile_voxels: sliding-window tile, (x, y, z); two sides for a 2D network, which segments
            every axial slice, or a 2D image.
        tile_overlap: share of a tile, along each axis, that its neighbour covers too.
        whole_tiles: smaller images are padded to a tile, whose sides are the network's; otherwise
            the tile shrinks, and its sides are multiples of 8 from 16 on.
        axes: the array's axis (0 Z, 1 Y, 2 X; in 2D 0 Y, 1 X) that each axis of the network is.
        resampling: ``"linear"``; or ``"spline"``, cubic, as training cases are prepared: thick
            slices, those of the network's first axis, are not mixed.
        anisotropic: with ``"spline"``, slices are never mixed.
        crop: part of the image that is computed; ``"lungs"`` is the box of lungs and trachea,
            ``"nonzero"`` that of the voxels that are not 0.
        mirrored_axes: the network's axes along which copies are mirrored at test time.
        segments: what the labels mean.
        threshold: of one segment, probability above which a voxel is foreground. Of several the
            likeliest is taken, or background.
        high_threshold: of one segment, probability that a component must exceed somewhere to be
            kept (hysteresis): what is found lies above ``threshold``, what is certain above this.
        fill_holes: labels that take the background they enclose, one after the other.
        cut_leaks: remove what gets suddenly wider further from the ``root``, as airways do not.
        largest_component_of: labels of which only the largest component is kept.
        connectivity: of components: voxels that share a face (6), or a corner too (26).
        root: keep what is 6-connected to this instead, where it is found; it counts as found too.
        smallest_mm3: smaller components of any label are removed.
        hardness: how the hardness map is made.
        gate: the coarse pass before the fine one; None looks everywhere.
        metrics: test set -> metric -> measured figure.
        adaptation: to one patient, or None.
        weights: one file a network, whose probabilities are averaged; empty until the bundle is
            written.
    """

    format_version: Literal[2] = 2
    name: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)]
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    title: Text
    description: Text
    intended_use: Text
    modality: Modality
    body_part: Text
    network: NetworkSpec
    spacing_mm: Annotated[tuple[Length, ...], Field(min_length=2, max_length=3)] | None
    channels: Annotated[tuple[Channel, ...], Field(min_length=1)]
    window: DisplayWindow | None = None
    tile_voxels: Annotated[tuple[TileSide, ...], Field(min_length=2, max_length=3)]
    tile_overlap: Annotated[float, Field(ge=0, lt=1)] = 0.25
    whole_tiles: bool = False
    axes: tuple[int, ...] = (0, 1, 2)
    resampling: Literal["linear", "spline"] = "linear"
    anisotropic: bool = False
    crop: Literal["none", "lungs", "nonzero"] = "none"
    mirrored_axes: tuple[int, ...] = (1, 2)
    segments: Annotated[tuple[SegmentInfo, ...], Field(min_length=1, max_length=254)]
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    high_threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    fill_holes: tuple[int, ...] = ()
    cut_leaks: bool = False
    largest_component_of: tuple[int, ...] = ()
    connectivity: Literal[6, 26] = 6
    root: Literal["none", "trachea"] = "none"
    smallest_mm3: Annotated[float, Field(ge=0)] = 0
    hardness: HardnessSettings = HardnessSettings()
    gate: GateSettings | None = None
    training_data: Annotated[tuple[TrainingData, ...], Field(min_length=1)]
    metrics: dict[str, dict[str, float]] = {}
    adaptation: Adaptation | None = None
    limitations: Annotated[tuple[Text, ...], Field(min_length=1)]
    references: tuple[str, ...] = ()
    authors: Text = "ImbalanceSeg contributors"
    copyright: Text = "Copyright (c) ImbalanceSeg contributors"
    license: Text = "Apache-2.0"
    not_for_clinical_use: Literal[True] = True
    weights: tuple[Weights, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _of_format_1(cls, values: Any) -> Any:
        return _upgraded(values) if isinstance(values, Mapping) else values

    @field_validator("segments")
    @classmethod
    def _usable_labels(cls, segments: tuple[SegmentInfo, ...]) -> tuple[SegmentInfo, ...]:
        if [segment.label for segment in segments] != list(range(1, len(segments) + 1)):
            raise ValueError("labels must be 1, 2, 3 ... in this order")
        if any(not 0 <= part <= 255 for segment in segments for part in segment.color):
            raise ValueError("colours must lie in 0..255")
        return segments

    @field_validator("weights")
    @classmethod
    def _in_order(cls, weights: tuple[Weights, ...]) -> tuple[Weights, ...]:
        if [one.file for one in weights] != [weights_file(n) for n in range(len(weights))]:
            raise ValueError(f"files must be {weights_file(0)}, {weights_file(1)}, ...")
        return weights

    @model_validator(mode="after")
    def _consistent(self) -> ModelCard:
        axes = tuple(range(self.spatial_dims))
        if self.spacing_mm is not None and len(self.spacing_mm) != self.spatial_dims:
            raise ValueError("spacing_mm and tile_voxels must have the same number of axes")
        if tuple(sorted(self.axes)) != axes:
            raise ValueError(f"axes must be {axes} in some order")
        if len(set(self.mirrored_axes)) < len(self.mirrored_axes) or not set(
            self.mirrored_axes
        ) <= set(axes):
            raise ValueError(f"mirrored_axes must be some of {axes}")
        if not self.whole_tiles and any(side < 16 or side % 8 for side in self.tile_voxels):
            raise ValueError("tile_voxels must be multiples of 8 from 16 on, or whole_tiles true")
        labels = {segment.label for segment in self.segments}
        for name in ("fill_holes", "largest_component_of"):
            if not set(getattr(self, name)) <= labels:
                raise ValueError(f"{name} names a label that no segment has")
        if self.spatial_dims == 2 and self.crop == "lungs":
            raise ValueError("crop: lungs are found in volumes only")
        if self.gate is not None and len(self.gate.factor) != self.spatial_dims:
            raise ValueError("gate: factor and tile_voxels must have the same number of axes")
        if self.high_threshold is not None and not (
            len(self.segments) == 1 and self.high_threshold > self.threshold
        ):
            raise ValueError("high_threshold: of one segment only, and above threshold")
        if self.root != "none" and len(self.segments) > 1:
            raise ValueError("root: of one segment only")
        if self.cut_leaks and self.root != "trachea":
            raise ValueError("cut_leaks: of airways only, with the trachea as their root")
        return self

    @property
    def spatial_dims(self) -> int:
        """Axes of the network, 3 or 2."""
        return len(self.tile_voxels)

    @property
    def network_tile(self) -> tuple[int, ...]:
        """Sides of a tile along the network's axes."""
        return tuple(self.tile_voxels[-1 - axis] for axis in self.axes)

    @property
    def network_spacing(self) -> tuple[float, ...] | None:
        """Spacing in mm along the network's axes, or None."""
        if self.spacing_mm is None:
            return None
        return tuple(self.spacing_mm[-1 - axis] for axis in self.axes)


def output_channels(card: ModelCard) -> int:
    """Channels of logits that the network of a card gives."""
    parameters = inspect.signature(network_class(card.network.name)).parameters
    default = parameters["out_channels"].default if "out_channels" in parameters else 1
    found = card.network.kwargs.get("out_channels", default)
    return found if isinstance(found, int) else len(card.segments) + 1


def weights_file(number: int) -> str:
    """Where a bundle keeps the weights of its network ``number``, counted from 0."""
    return f"models/model_fold{number}.safetensors" if number else WEIGHTS_FILE


def parse_card(values: Mapping[str, Any], where: str) -> ModelCard:
    """A card from the decoded JSON of the key ``imbalanceseg``.

    Args:
        values: the fields.
        where: file the card came from, named in the error.

    Raises:
        ModelError: ``model-newer`` when the card's layout is from the future, ``model-invalid``
            with the faults by field.
    """
    version = values.get("format_version", FORMAT_VERSION)
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise ModelError(
            "model-newer",
            f"{where} has model format {version}; this version of ImbalanceSeg reads up to "
            f"{FORMAT_VERSION}.",
            "Update ImbalanceSeg.",
        )
    try:
        return ModelCard.model_validate(values)
    except ValidationError as error:
        raise _invalid(where, error) from error


def _upgraded(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a card with those of format 1 put into the words of format 2."""
    card = dict(values)
    if card.get("format_version") == 1:
        card["format_version"] = FORMAT_VERSION
    clip = card.get("intensity")
    if isinstance(clip, Mapping) and "channels" not in card:
        scaling = {"scheme": "range", "low": clip.get("clip_low"), "high": clip.get("clip_high")}
        channel = {"unit": clip.get("unit", "HU"), "normalization": scaling}
        card["channels"] = [channel]
        del card["intensity"]
    if isinstance(card.get("weights"), Mapping):
        card["weights"] = [card["weights"]]
    elif "weights" in card and card["weights"] is None:
        card["weights"] = []
    if isinstance(card.get("keep_largest_component"), bool):
        card["largest_component_of"] = [1] if card.pop("keep_largest_component") else []
    return card


def _invalid(where: str, error: ValidationError) -> ModelError:
    faults = [
        f"{'.'.join(str(part) for part in fault['loc']) or 'card'}: {fault['msg']}"
        for fault in error.errors(include_url=False, include_input=False)
    ]
    shown = "; ".join(faults[:_MOST_FAULTS_SHOWN])
    if len(faults) > _MOST_FAULTS_SHOWN:
        shown += f" and {len(faults) - _MOST_FAULTS_SHOWN} more"
    return ModelError(
        "model-invalid",
        f"The model card in {where} is not valid: {shown}.",
        "Get the model again, or correct these fields.",
    )
