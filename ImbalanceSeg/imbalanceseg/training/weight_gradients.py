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
    convolution that is padded along its first axis, and falls back to unfolding the image. From an
    image that is padded beforehand it computes the gradient several times as fast; the sums are the
    same, in another order.

    Args:
        device: that the network is on; elsewhere than on such processors nothing is changed.
    """
    if device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX2":
        return _PaddedFirst()
    return nullcontext()


class _PaddedFirst(TorchFunctionMode):
    """``conv3d`` whose weight gradient is that of an image padded along its first axis."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if function is torch.conv3d and len(args) == 7 and not kwargs:
            weight, padding = args[1], args[4]
            if not isinstance(padding, str) and padding[0] > 0 and weight.requires_grad:
                return _Convolution.apply(*args)
        return function(*args, **(kwargs or {}))


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        image: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        groups: int,
    ) -> Tensor:
        ctx.save_for_backward(image, weight)
        ctx.geometry = stride, padding, dilation, groups
        return torch.conv3d(image, weight, bias, stride, padding, dilation, groups)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        image, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.geometry
        of_image, of_weight, of_bias = ctx.needs_input_grad[:3]

        def gradients(source: Tensor, around: Sequence[int], wanted: list[bool]) -> list[Tensor]:
            return torch.ops.aten.convolution_backward(
                gradient, source, weight, [len(weight)], stride, around, dilation,
                False, [0, 0, 0], groups, wanted,
            )  # fmt: skip

        # Only here, and not in the forward pass, where every padded copy would be kept.
        padded = F.pad(image, (0, 0, 0, 0, padding[0], padding[0]))
        around = (0, *padding[1:])
        _, weights, biases = gradients(padded, around, [False, of_weight, of_bias])
        images = gradients(image, padding, [True, False, False])[0] if of_image else None
        return images, weights, biases, None, None, None, None
