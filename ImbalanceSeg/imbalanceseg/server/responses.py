"""What a client gets to read."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from imbalanceseg.server.records import JobKind, JobState

_ADDRESS = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


class _View(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class ErrorView(_View):
    """Why a request was refused, or a job failed."""

    code: Annotated[str, Field(description="Stable, never translated.", examples=["case-unknown"])]
    message: Annotated[str, Field(examples=["There is no case of this address here."])]
    hint: Annotated[str, Field(examples=["Send the scan first."])] = ""


class CaseView(_View):
    """A scan that is here."""

    id: Annotated[str, Field(examples=[_ADDRESS])]
    channels: Annotated[int, Field(examples=[1])]
    size: Annotated[tuple[int, int, int], Field(examples=[[512, 512, 600]])]
    pixel_type: Annotated[str, Field(examples=["int16"])]
    bytes: int
    created: Annotated[float, Field(description="Seconds since 1970.")]


class AnnotationView(_View):
    """What was painted on a case."""

    id: Annotated[str, Field(examples=[_ADDRESS])]
    case: str
    bytes: int
    created: float


class JobView(_View):
    """A job as it stands."""

    id: Annotated[str, Field(examples=["0123456789abcdef0123456789abcdef"])]
    client: str
    kind: JobKind
    case: str
    parameters: dict[str, Any]
    created: float
    state: JobState
    base: str | None
    started: float | None
    finished: float | None
    fault: ErrorView | None
    outcome: Annotated[dict[str, Any], Field(description="Figures; see Docs/server.md.")]
    files: Annotated[
        dict[str, int],
        Field(description="Names and bytes.", examples=[{"labels.nrrd": 48213, "report.json": 3}]),
    ]
    last_event: int
    progress: Annotated[dict[str, Any] | None, Field(description="The last step told.")]
    waiting: Annotated[int | None, Field(description="How many jobs go first.")]


class ConceptView(_View):
    """A term of a coding scheme, as DICOM writes it."""

    value: Annotated[str, Field(examples=["110726009"])]
    meaning: Annotated[str, Field(examples=["Trachea and bronchus"])]
    scheme: Annotated[str, Field(description="`SCT` is SNOMED CT.", examples=["SCT"])]


class AdaptedView(_View):
    """What a model was adapted from and to."""

    parent: Annotated[
        str,
        Field(description="Empty where it began from nothing.", examples=["airway 0.1.0"]),
    ]
    parent_sha256: str
    annotation_sha256: str
    labelled_voxels: int
    slices: Annotated[int, Field(description="That were confirmed.", examples=[3])]
    depth: Annotated[str, Field(examples=["head"])]
    seed: int
    seconds: Annotated[float, Field(description="That it took.", examples=[58.3])]
    held_out_dice: Annotated[
        float | None, Field(description="Of a slice held out.", examples=[0.91])
    ]


class SegmentView(_View):
    """What a label stands for."""

    label: int
    name: str
    color: tuple[int, int, int]
    category: ConceptView
    type: ConceptView
    region: ConceptView | None = None


class ModelView(_View):
    """What a person needs to choose a model."""

    id: Annotated[str, Field(examples=["airway"])]
    name: str
    version: str
    title: str
    description: str
    intended_use: str
    modality: str
    body_part: str
    channels: list[str]
    spatial_dims: int
    segments: list[SegmentView]
    limitations: list[str]
    license: str
    disclaimer: Annotated[str, Field(examples=["Not for clinical use."])]
    case: Annotated[str | None, Field(description="The only case it was adapted to.")]
    measured: Annotated[
        dict[str, float] | None,
        Field(
            description="Typical segmentation here.",
            examples=[{"seconds": 41.2, "memory_mib": 3100, "jobs": 12}],
        ),
    ]
    measured_on: Annotated[
        dict[str, dict[str, float]],
        Field(
            description="The same by device; empty before the first segmentation.",
            examples=[
                {
                    "cpu": {"seconds": 41.2, "memory_mib": 3100, "jobs": 11},
                    "cuda": {
                        "seconds": 5.1,
                        "memory_mib": 2900,
                        "device_memory_mib": 4200,
                        "jobs": 1,
                    },
                }
            ],
        ),
    ]
    sha256: Annotated[
        list[str],
        Field(description="Of its weights, one file a network.", examples=[[_ADDRESS]]),
    ]
    adapted: Annotated[AdaptedView | None, Field(description="None where it was not adapted.")]


class InfoView(_View):
    """The engine."""

    name: str
    disclaimer: str
    protocol: Annotated[int, Field(examples=[1])]
    version: Annotated[str, Field(examples=["0.1.0"])]
    versions: dict[str, str | None]
    device: Annotated[
        dict[str, Any] | None, Field(description="None until the worker has started.")
    ]
    models: list[ModelView]
    limits: dict[str, int]
    queue: dict[str, int]
    disk: dict[str, int]
    workers: list[int]
    uptime_seconds: float
