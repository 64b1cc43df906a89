"""Which backends to try, in order."""

from __future__ import annotations

import torch

from imbalanceseg.inference.backends.backend import Backend
from imbalanceseg.inference.backends.openvino import OpenVINOBackend, has_openvino
from imbalanceseg.inference.backends.pytorch import PyTorchBackend
from imbalanceseg.inference.device import pick_device


def backends_for(device: str = "auto") -> tuple[list[Backend], list[str]]:
    """Backends for a device, the fastest first, and sentences on those that cannot be used.

    Behind a GPU stands the processor, for what does not fit; on the processor OpenVINO comes first
    where it is installed.

    Args:
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:<n>"``.

    Raises:
        InputError: as :func:`~imbalanceseg.inference.device.pick_device`.
    """
    chosen = pick_device(device)
    found: list[Backend] = []
    notes: list[str] = []
    if chosen.type == "cuda":
        found.append(PyTorchBackend(chosen))
    if has_openvino():
        try:
            found.append(OpenVINOBackend())
        # A half-installed or foreign OpenVINO fails in ways of its own; PyTorch does the same work.
        except Exception as error:
            notes.append(f"OpenVINO cannot be used ({_short(error)}); PyTorch computes instead.")
    found.append(PyTorchBackend(torch.device("cpu")))
    return found, notes


def _short(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:120] if lines else type(error).__name__
