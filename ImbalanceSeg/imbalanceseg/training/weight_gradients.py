"""Weight gradients of 3D convolutions, which oneDNN computes slowly on many processors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


def fast_weight_gradients(device: torch.device) -> AbstractContextManager[Any]:
    """A context for the forward pass in which 3D convolutions get their weight gradients sooner.

    On processors without AVX-512 oneDNN has no kernel of its own for the weight gradient of a
    convolution that is padded along its first axis, and falls back to unfolding the image. What is
    padded beforehand, it computes several times as fast; the sums are the same, in another order.

    Args:
        device: that the network is on; elsewhere than on such processors nothing is changed.
    """
    if device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX2":
        return _PaddedFirst()
    return nullcontext()


class _PaddedFirst(TorchFunctionMode):
    """``conv3d`` with the padding of its first axis taken out of it."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if function is torch.conv3d and len(args) == 7 and not kwargs:
            return _padded_first(*args)
        return function(*args, **(kwargs or {}))


def _padded_first(
    image: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int] | str,
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    if not isinstance(padding, str) and padding[0] > 0 and weight.requires_grad:
        image = F.pad(image, (0, 0, 0, 0, padding[0], padding[0]))
        padding = (0, *padding[1:])
    return torch.conv3d(image, weight, bias, stride, padding, dilation, groups)
