"""The model card: what a model is, what it was trained on, what it measured, how to feed it.

A card lives inside the bundle's ``configs/metadata.json``, under the key ``imbalanceseg``; the rest
of that file is what MONAI asks of a bundle and is derived from the card when it is written.
Everything spatial in a card is in SimpleITK order (x, y, z) of an image oriented LPS.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from imbalanceseg.errors import ModelError
from imbalanceseg.labels import SegmentInfo

FORMAT_VERSION = 1
"""Version of the card's layout; a card with a higher one asks for newer software."""

WEIGHTS_FILE = "models/model.safetensors"
"""Where every bundle keeps its weights."""

_MOST_FAULTS_SHOWN = 5

Text = Annotated[str, Field(min_length=1, max_length=20_000)]
Length = Annotated[float, Field(gt=0, le=100)]
TileSide = Annotated[int, Field(ge=16, le=1024, multiple_of=8)]
NetworkArgument = bool | int | float | str


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class NetworkSpec(_Part):
    """Which network, in the words of ``imbalanceseg.networks.create_network``."""

    name: Text
    kwargs: dict[str, NetworkArgument] = {}


class Intensity(_Part):
    """Input intensities are clipped to these values, then scaled linearly to [0, 1]."""

    clip_low: float
    clip_high: float
    unit: str = "HU"

    @model_validator(mode="after")
    def _ordered(self) -> Intensity:
        if self.clip_low >= self.clip_high:
            raise ValueError("clip_low must lie below clip_high")
        return self


class DisplayWindow(_Part):
    """Display window of the input, as DICOM writes it."""

    center: float
    width: Annotated[float, Field(gt=0)]


class HardnessSettings(_Part):
    """How the hardness map is made: share of the smallest weights set to zero."""

    sparsity: Annotated[float, Field(gt=0, lt=1)] = 0.3


class TrainingData(_Part):
    """One source of training data."""

    name: Text
    license: Text
    source: str = ""
    cases: Annotated[int, Field(ge=0)] | None = None
    note: str = ""


class Weights(_Part):
    """The weights file and its checksum."""

    file: Literal["models/model.safetensors"] = "models/model.safetensors"
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ModelCard(_Part):
    """Everything the engine and a careful reader must know about a model.

    Attributes:
        name: short name, also the folder's and the command line's: lower case, digits, hyphens.
        version: of these weights, ``major.minor.patch``.
        spacing_mm: grid the network works on, (x, y, z).
        tile_voxels: sliding-window tile, (x, y, z), multiples of 8.
        crop: part of the image that is computed; ``"lungs"`` is the box of lungs and trachea.
        segments: what the labels mean; label 1 is the network's foreground.
        threshold: probability above which a voxel is foreground.
        keep_largest_component: keep only the largest 6-connected component.
        root: keep what is 6-connected to this instead, where it is found; it counts as found too.
        metrics: test set -> metric -> measured figure.
        weights: None only until the bundle is written.
    """

    format_version: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)]
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    title: Text
    description: Text
    intended_use: Text
    modality: Literal["CT", "MR"]
    body_part: Text
    network: NetworkSpec
    spacing_mm: tuple[Length, Length, Length]
    intensity: Intensity
    window: DisplayWindow
    tile_voxels: tuple[TileSide, TileSide, TileSide]
    crop: Literal["none", "lungs"] = "none"
    segments: Annotated[tuple[SegmentInfo, ...], Field(min_length=1, max_length=254)]
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    keep_largest_component: bool = False
    root: Literal["none", "trachea"] = "none"
    hardness: HardnessSettings = HardnessSettings()
    training_data: Annotated[tuple[TrainingData, ...], Field(min_length=1)]
    metrics: dict[str, dict[str, float]] = {}
    limitations: Annotated[tuple[Text, ...], Field(min_length=1)]
    references: tuple[str, ...] = ()
    authors: Text = "ImbalanceSeg contributors"
    copyright: Text = "Copyright (c) ImbalanceSeg contributors"
    license: Text = "Apache-2.0"
    not_for_clinical_use: Literal[True] = True
    weights: Weights | None = None

    @field_validator("segments")
    @classmethod
    def _usable_labels(cls, segments: tuple[SegmentInfo, ...]) -> tuple[SegmentInfo, ...]:
        if [segment.label for segment in segments] != list(range(1, len(segments) + 1)):
            raise ValueError("labels must be 1, 2, 3 ... in this order")
        if any(not 0 <= part <= 255 for segment in segments for part in segment.color):
            raise ValueError("colours must lie in 0..255")
        return segments


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
