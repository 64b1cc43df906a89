"""Where the engine computes."""

from __future__ import annotations

from enum import Enum

from slicer.i18n import tr as _


class ComputeDevice(Enum):
    """Where the engine computes. Scenes store the member's name: keep it."""

    AUTO = "auto"
    CUDA = "cuda"
    CPU = "cpu"

    def label(self) -> str:
        """What the list of devices shows."""
        return {
            ComputeDevice.AUTO: _("Automatic"),
            ComputeDevice.CUDA: _("NVIDIA GPU"),
            ComputeDevice.CPU: _("CPU"),
        }[self]
