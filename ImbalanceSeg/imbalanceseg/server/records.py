"""What the store says of a job, a case, an annotation and a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from imbalanceseg.errors import ImbalanceSegError


class JobKind(StrEnum):
    """What a job does."""

    SEGMENT = "segment"
    FINETUNE = "finetune"
    CLICK = "click"
    SUGGEST = "suggest"
    EVALUATE = "evaluate"
    DICOM_SEG = "dicom-seg"


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing will happen to the job any more."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


@dataclass(frozen=True)
class Fault:
    """Why a job failed: what an :class:`~imbalanceseg.errors.ImbalanceSegError` says."""

    code: str
    message: str
    hint: str = ""

    @classmethod
    def of(cls, error: ImbalanceSegError) -> Fault:
        """Of an error that was raised."""
        return cls(error.code, error.message, error.hint)


@dataclass(frozen=True)
class Job:
    """A job as it stands.

    Attributes:
        id: random, 32 hexadecimal digits.
        client: who asked for it.
        kind: what it does.
        case: address of the scan.
        parameters: as they were checked.
        state: where it stands.
        base: the job whose result it goes on from, or None.
        created, started, finished: seconds since 1970, or None.
        fault: why it failed, or None.
        outcome: figures of the result; empty before.
        files: names and bytes of the results that are still there.
        last_event: number of its last event.
    """

    id: str
    client: str
    kind: JobKind
    case: str
    parameters: Mapping[str, Any]
    created: float
    state: JobState = JobState.QUEUED
    base: str | None = None
    started: float | None = None
    finished: float | None = None
    fault: Fault | None = None
    outcome: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, int] = field(default_factory=dict)
    last_event: int = 0

    def but(self, **changes: Any) -> Job:
        """The same job with changes."""
        return replace(self, **changes)


@dataclass(frozen=True)
class StoredCase:
    """A scan that was sent.

    Attributes:
        id: its address.
        channels: how many volumes.
        size: voxels along (i, j, k).
        pixel_type: numpy's name.
        bytes: on disk.
        created: seconds since 1970.
    """

    id: str
    channels: int
    size: tuple[int, int, int]
    pixel_type: str
    bytes: int
    created: float


@dataclass(frozen=True)
class StoredAnnotation:
    """What was painted on a case, as it was at one moment.

    Attributes:
        id: of its content, 64 hexadecimal digits.
        case: address of the scan.
        bytes: on disk.
        created: seconds since 1970.
    """

    id: str
    case: str
    bytes: int
    created: float


@dataclass(frozen=True)
class StoredModel:
    """A model that was adapted here.

    Attributes:
        id: ``"adapted-"`` and hexadecimal digits.
        case: the scan it was adapted to.
        job: that adapted it.
        bytes: on disk.
        created: seconds since 1970.
    """

    id: str
    case: str
    job: str
    bytes: int
    created: float
