"""General Union loss: an overlap loss whose pull on missed voxels grows as they get rarer.

Source: Zheng et al., "Alleviating Class-wise Gradient Imbalance for Pulmonary Airway Segmentation",
IEEE TMI 40(9), 2021.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from imbalanceseg.errors import InputError
from imbalanceseg.labels import UNLABELLED


def general_union_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    alpha: float = 0.2,
    exponent: float = 0.7,
    shift: float = 1e-4,
    smooth: float = 1.0,
) -> Tensor:
    """General Union loss of a binary segmentation.

    ``1 - (sum w (p + shift)^exponent g + smooth) / (sum w (alpha p + (1 - alpha) g) + smooth)``
    with ``p = sigmoid(logits)``, each sum running once over batch and space. ``w`` is ``weight``
    where ``g`` is 1, and 1 where ``g`` is 0; no gradient flows through it. A perfect prediction
    gives a value slightly below 0 because of ``shift``. Computed in float32 (float64 for float64
    logits).

    Args:
        logits: ``[B, 1, ...]``.
        target: ``[B, 1, ...]``, 0 or 1; 255 where unlabelled.
        mask: ``[B, 1, ...]``, non-zero where labelled; None where only ``target`` says so.
        weight: ``[B, 1, ...]``, weight of foreground voxels; None for 1.
        alpha: share of the prediction in the union: smaller forgives false positives more.
        exponent: below 1, missed voxels pull harder; 1 gives a Tversky loss.
        shift: keeps the slope finite where ``p`` is 0.
        smooth: added to numerator and denominator, in (weighted) voxels.

    Returns:
        Scalar. Exactly 0 with zero gradient when nothing is labelled.

    Raises:
        InputError: ``loss-shape`` when a shape differs from that of ``logits``,
            ``loss-constant`` when a constant lies outside its range.
    """
    _require_constants(alpha, exponent, shift, smooth)
    _require_shapes(logits, target=target, mask=mask, weight=weight)
    with torch.autocast(logits.device.type, enabled=False):
        dtype = torch.promote_types(logits.dtype, torch.float32)
        labelled = target != UNLABELLED
        if mask is not None:
            labelled = labelled & (mask != 0)
        foreground = (target > 0) & labelled
        truth = foreground.to(dtype)
        # where(), not a product: logits under the mask may be infinite, and inf * 0 is NaN.
        p = torch.sigmoid(torch.where(labelled, logits, logits.new_zeros(())).to(dtype))
        inside = labelled.to(dtype)
        if weight is not None:
            known = torch.where(foreground, weight.detach().to(dtype), inside.new_ones(()))
            truth, inside = truth * known, inside * known
        intersection = (truth * (p + shift) ** exponent).sum() + smooth
        union = (alpha * inside * p + (1.0 - alpha) * truth).sum() + smooth
        if smooth == 0:
            union = union.clamp_min(torch.finfo(dtype).tiny)
        loss = 1.0 - intersection / union
        return torch.where(labelled.any(), loss, (p * inside).sum())


class GeneralUnionLoss(nn.Module):
    """:func:`general_union_loss` with fixed constants.

    Args:
        alpha: share of the prediction in the union; the paper trains with 0.1, then with 0.2.
        exponent: as in :func:`general_union_loss`.
        shift: as in :func:`general_union_loss`.
        smooth: as in :func:`general_union_loss`.

    Raises:
        InputError: ``loss-constant`` when a constant lies outside its range.
    """

    def __init__(
        self,
        alpha: float = 0.2,
        exponent: float = 0.7,
        shift: float = 1e-4,
        smooth: float = 1.0,
    ) -> None:
        super().__init__()
        _require_constants(alpha, exponent, shift, smooth)
        self.alpha = alpha
        self.exponent = exponent
        self.shift = shift
        self.smooth = smooth

    def forward(
        self,
        logits: Tensor,
        target: Tensor,
        mask: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        """Scalar loss; arguments as in :func:`general_union_loss`."""
        return general_union_loss(
            logits, target, mask, weight, self.alpha, self.exponent, self.shift, self.smooth
        )


def _require_constants(alpha: float, exponent: float, shift: float, smooth: float) -> None:
    steep = exponent < 1 and shift == 0
    if 0 < alpha < 1 and 0 < exponent <= 1 and shift >= 0 and smooth >= 0 and not steep:
        return
    raise InputError(
        "loss-constant",
        f"General Union loss cannot use alpha {alpha}, exponent {exponent}, shift {shift}, "
        f"smooth {smooth}.",
        "alpha lies in (0, 1), exponent in (0, 1], shift and smooth are not negative, and shift "
        "is positive where exponent is below 1.",
    )


def _require_shapes(logits: Tensor, **others: Tensor | None) -> None:
    for name, tensor in others.items():
        if tensor is not None and tensor.shape != logits.shape:
            raise InputError(
                "loss-shape",
                f"The {name} of shape {tuple(tensor.shape)} does not fit logits of shape "
                f"{tuple(logits.shape)}.",
                "The General Union loss is binary: one channel, the same shape everywhere.",
            )
