"""How a job ended."""

from __future__ import annotations

from enum import Enum


class RunStatus(Enum):
    """How a job ended."""

    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"
