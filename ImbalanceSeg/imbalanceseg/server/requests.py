"""What a client may ask for, checked field by field."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Address = Annotated[
    str,
    Field(
        pattern=r"^[0-9a-f]{64}$",
        description="SHA-256 in hexadecimal digits.",
        examples=["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"],
    ),
]
JobId = Annotated[
    str, Field(pattern=r"^[0-9a-f]{32}$", examples=["0123456789abcdef0123456789abcdef"])
]
MODEL_NAME = r"^[a-z0-9]+(-[a-z0-9]+)*$"
LONGEST_MODEL_NAME = 80
ModelName = Annotated[
    str,
    Field(
        pattern=MODEL_NAME,
        max_length=LONGEST_MODEL_NAME,
        description="One of `GET /v1/info`.",
        examples=["airway"],
    ),
]
Device = Annotated[
    str, Field(pattern=r"^(auto|cpu|cuda(:[0-9]{1,2})?)$", description="What to compute on.")
]
Label = Annotated[int, Field(ge=0, le=254)]
Point = Annotated[
    tuple[float, float, float], Field(description="LPS, in mm.", examples=[[12.5, -40.0, 118.0]])
]
MemoryGb = Annotated[
    float | None, Field(gt=0, le=4096, description="Memory that may be taken, in GiB.")
]
Metric = Annotated[str, Field(max_length=64, examples=["dice", "hd95_mm"])]


class Part(BaseModel):
    """Base of all bodies: unknown fields, NaN and infinity are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SegmentParameters(Part):
    """Find the structures of a model in a scan."""

    model: ModelName
    maps: Annotated[
        tuple[Literal["hardness", "attention", "attention-levels"], ...], Field(max_length=3)
    ] = ("hardness",)
    hardness: Literal["pruning", "entropy", "tta", "ensemble"] | None = None
    tta: bool = False
    exact: bool = False
    without: Annotated[
        tuple[Literal["hysteresis", "fill_holes", "cut_leaks", "largest", "small"], ...],
        Field(max_length=5),
    ] = ()
    roi: Annotated[
        tuple[Point, Point] | None, Field(description="Two opposite corners; only inside.")
    ] = None
    memory_gb: MemoryGb = None
    device: Device = "auto"
    prepare_clicks: Annotated[
        bool, Field(description="Make ready for clicks, once the result is there.")
    ] = False


class FinetuneParameters(Part):
    """Teach a model, or none, this patient from what was painted.

    The annotation is the one named; else that of `base` with its clicks; else the latest of the
    case.
    """

    model: Annotated[ModelName | None, Field(description="None begins from the slices alone.")]
    annotation: Address | None = None
    base: JobId | None = None
    depth: Literal["auto", "head", "decoder", "all"] = "auto"
    seconds: Annotated[float, Field(gt=0, le=86_400)] = 60.0
    iterations: Annotated[int | None, Field(ge=1, le=1_000_000)] = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    names: Annotated[
        dict[Annotated[int, Field(ge=1, le=254)], Annotated[str, Field(max_length=64)]] | None,
        Field(description="Of the classes, where there is no model."),
    ] = None
    memory_gb: MemoryGb = None
    device: Device = "auto"
    prepare_clicks: bool = False
    preview: Annotated[
        bool, Field(description="Show what there is on the way, see `GET /v1/jobs/{job}/preview`.")
    ] = False


class ClickParameters(Part):
    """Say what is at a point; the labels around it follow.

    A click goes on from the result of `base`, a segmentation, an adaptation or a click. To take a
    click back, go on from the job before it.
    """

    base: JobId
    point_mm: Point
    label: Annotated[Label, Field(description="1..K for what was missed, 0 for what is wrong.")]
    radius_mm: Annotated[float, Field(ge=0, le=1000)] = 1.5
    device: Device = "auto"


class SuggestParameters(Part):
    """Which slices are best painted next."""

    base: JobId
    annotation: Address | None = None
    n: Annotated[int, Field(ge=1, le=100)] = 5


class EvaluateParameters(Part):
    """Compare labels with a reference: those of `base`, or labels that were sent."""

    reference: Annotated[Address, Field(description="An annotation of the case.")]
    base: JobId | None = None
    labels: Annotated[Address | None, Field(description="An annotation of the case.")] = None
    metrics: Annotated[tuple[Metric, ...] | None, Field(max_length=64)] = None
    values: Annotated[
        tuple[Annotated[int, Field(ge=1, le=254)], ...] | None, Field(max_length=254)
    ] = None
    tolerance_mm: Annotated[float, Field(ge=0, le=1000)] = 1.0

    @model_validator(mode="after")
    def _one_of_both(self) -> EvaluateParameters:
        if (self.base is None) == (self.labels is None):
            raise ValueError("give either base or labels")
        return self


class DicomSegParameters(Part):
    """Write a DICOM Segmentation that refers to the series the case came from.

    Its files are sent before, see `PUT /v1/cases/{case}/dicom/{number}`. The segments are those of
    the model of `base`; the labels too, unless corrected ones are named.
    """

    base: JobId
    labels: Annotated[Address | None, Field(description="An annotation of the case.")] = None
    corrected: Annotated[
        bool,
        Field(
            description="A person had a hand in the labels: the segments are called semi-automatic."
            " Those of clicks and adaptations are anyway."
        ),
    ] = False


class _Request(Part):
    case: Address
    id: Annotated[
        JobId | None,
        Field(description="Chosen by the client, so that asking twice makes one job."),
    ] = None


class SegmentRequest(_Request):
    """A segmentation."""

    kind: Literal["segment"]
    parameters: SegmentParameters


class FinetuneRequest(_Request):
    """An adaptation to one patient."""

    kind: Literal["finetune"]
    parameters: FinetuneParameters


class ClickRequest(_Request):
    """A click."""

    kind: Literal["click"]
    parameters: ClickParameters


class SuggestRequest(_Request):
    """Suggestions of slices."""

    kind: Literal["suggest"]
    parameters: SuggestParameters


class EvaluateRequest(_Request):
    """A comparison."""

    kind: Literal["evaluate"]
    parameters: EvaluateParameters


class DicomSegRequest(_Request):
    """A DICOM Segmentation."""

    kind: Literal["dicom-seg"]
    parameters: DicomSegParameters


JobRequest = Annotated[
    SegmentRequest
    | FinetuneRequest
    | ClickRequest
    | SuggestRequest
    | EvaluateRequest
    | DicomSegRequest,
    Field(discriminator="kind"),
]
