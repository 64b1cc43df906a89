"""A loss function with its constants, as a module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


class Loss(nn.Module):
    """``function(logits, target, mask, **maps, **constants)`` with the constants fixed.

    Args:
        function: one of the loss functions of this package.
        constants: its keyword-only arguments.
    """

    def __init__(self, function: Callable[..., Tensor], **constants: Any) -> None:
        super().__init__()
        self.function = function
        self.constants = constants

    def forward(
        self, logits: Tensor, target: Tensor, mask: Tensor | None = None, **maps: Any
    ) -> Tensor:
        """Scalar loss; arguments as the function says."""
        return self.function(logits, target, mask, **maps, **self.constants)

    def extra_repr(self) -> str:
        """The function's name and the constants."""
        constants = (f"{name}={value!r}" for name, value in self.constants.items())
        return ", ".join([self.function.__name__, *constants])
