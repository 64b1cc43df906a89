"""Losses by name, for recipes and the command line."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import TYPE_CHECKING, Any

from imbalanceseg.errors import InputError

if TYPE_CHECKING:
    from torch import nn

_HOME_OF = {"general_union": ("imbalanceseg.losses.general_union", "GeneralUnionLoss")}


def loss_names() -> list[str]:
    """Names that :func:`create_loss` knows, sorted."""
    return sorted(_HOME_OF)


def create_loss(name: str, **kwargs: Any) -> nn.Module:
    """A loss module, called as ``loss(logits, target, mask=None, **maps)``.

    Args:
        name: one of :func:`loss_names`.
        kwargs: arguments of the loss's class.

    Raises:
        InputError: ``loss-unknown``, or ``loss-arguments`` when an argument does not exist.
    """
    if name not in _HOME_OF:
        raise InputError(
            "loss-unknown",
            f"There is no loss named {name!r}.",
            f"Known losses: {', '.join(loss_names())}.",
        )
    module, attribute = _HOME_OF[name]
    cls = getattr(import_module(module), attribute)
    try:
        inspect.signature(cls).bind(**kwargs)
    except TypeError as error:
        raise InputError(
            "loss-arguments",
            f"The loss {name!r} cannot be built: {error}.",
            f"Its arguments are {', '.join(inspect.signature(cls).parameters)}.",
        ) from error
    loss: nn.Module = cls(**kwargs)
    return loss
