"""Where and in which precision a network runs."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

from imbalanceseg.errors import InputError


def pick_device(name: str = "auto") -> torch.device:
    """The torch device for ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:<n>"``.

    Raises:
        InputError: the name is unknown, or no such CUDA device can be used.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise InputError(
            "device-unknown",
            f"{name!r} is not a device.",
            "Use auto, cpu, cuda or cuda:<number>.",
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            "device-missing",
            f"The device {name!r} is not on this computer.",
            "Use --device auto or --device cpu; `imbalanceseg doctor` says what CUDA finds.",
        )
    return device


def fast_precision(device: torch.device) -> AbstractContextManager[object]:
    """Autocast to bfloat16 where the hardware multiplies it natively, else float32."""
    if device.type == "cuda":
        return torch.autocast("cuda", torch.bfloat16, enabled=gpu_has_bf16())
    return torch.autocast("cpu", torch.bfloat16, enabled=cpu_has_bf16())


def fast_layout(device: torch.device, spatial_dims: int = 3) -> torch.memory_format:
    """The order of a network's tensors in memory that the device convolves fastest.

    Channels last, except in 3D on a processor: there it costs up to a quarter of the time, while
    in 2D it gains as much (2 cores, networks of this package, training and inference).
    """
    if spatial_dims == 2:
        return torch.channels_last
    return torch.channels_last_3d if device.type == "cuda" else torch.contiguous_format


def gpu_has_bf16() -> bool:
    """Whether the present GPU multiplies bfloat16 itself, and does not only emulate it."""
    return torch.cuda.is_bf16_supported(including_emulation=False)


def cpu_has_bf16() -> bool:
    """Whether this processor has bfloat16 instructions."""
    return bool(torch.cpu._is_avx512_bf16_supported())
