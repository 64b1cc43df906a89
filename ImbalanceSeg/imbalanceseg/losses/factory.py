"""Losses by name, for recipes and the command line."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import TYPE_CHECKING, Any

from imbalanceseg.errors import InputError

if TYPE_CHECKING:
    from imbalanceseg.losses.loss import Loss

_HOME_OF = {
    "bce": ("cross_entropy", "binary_cross_entropy_loss"),
    "blob": ("blob", "blob_loss"),
    "boundary": ("distances", "boundary_loss"),
    "ce": ("cross_entropy", "cross_entropy_loss"),
    "dice": ("overlap", "dice_loss"),
    "dice_ce": ("overlap", "dice_ce_loss"),
    "dice_squared": ("overlap", "dice_squared_loss"),
    "focal": ("cross_entropy", "focal_loss"),
    "general_union": ("general_union", "general_union_loss"),
    "hardness_weighted_dice": ("hardness_weighted", "hardness_weighted_dice_loss"),
    "hausdorff_dt": ("distances", "hausdorff_dt_loss"),
    "iou": ("overlap", "iou_loss"),
    "iou_bce": ("overlap", "iou_bce_loss"),
    "lovasz": ("lovasz", "lovasz_loss"),
    "mse_heatmap": ("heatmap", "mse_heatmap_loss"),
    "ohem": ("hard_mining", "ohem_loss"),
    "partial_label": ("partial_label", "partial_label_loss"),
    "tversky": ("overlap", "tversky_loss"),
    "weighted_ce": ("cross_entropy", "weighted_cross_entropy_loss"),
}


def loss_names() -> list[str]:
    """Names that :func:`create_loss` knows, sorted."""
    return sorted(_HOME_OF)


def create_loss(name: str, **constants: Any) -> Loss:
    """A loss module, called as ``loss(logits, target, mask=None, **maps)``.

    ``logits`` are ``[B, C, ...]`` (one channel for a binary segmentation), ``target`` is
    ``[B, 1, ...]`` with classes and 255 where unlabelled. The function that the module wraps says
    which maps it takes.

    Args:
        name: one of :func:`loss_names`.
        constants: keyword-only arguments of the loss function.

    Raises:
        InputError: ``loss-unknown``, or ``loss-arguments`` when a constant does not exist. Values
            out of range are refused when the loss is first called.
    """
    from imbalanceseg.losses.loss import Loss

    if name not in _HOME_OF:
        raise InputError(
            "loss-unknown",
            f"There is no loss named {name!r}.",
            f"Known losses: {', '.join(loss_names())}.",
        )
    module, attribute = _HOME_OF[name]
    function = getattr(import_module(f"imbalanceseg.losses.{module}"), attribute)
    parameters = inspect.signature(function).parameters.values()
    known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    unknown = [argument for argument in constants if argument not in known]
    if unknown:
        raise InputError(
            "loss-arguments",
            f"The loss {name!r} has no constant {unknown[0]!r}.",
            f"Its constants are {', '.join(known)}." if known else "It has none.",
        )
    return Loss(function, **constants)
