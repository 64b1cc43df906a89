"""General Union loss: an overlap loss whose pull on missed voxels grows as they get rarer.

Source: Zheng et al., "Alleviating Class-wise Gradient Imbalance for Pulmonary Airway Segmentation",
IEEE TMI 40(9), 2021.
"""

from __future__ import annotations

import torch
from torch import Tensor

from imbalanceseg.errors import InputError
from imbalanceseg.losses.voxels import labelled_voxels, pooled


def general_union_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    *,
    alpha: float = 0.2,
    exponent: float = 0.7,
    shift: float = 1e-4,
    smooth: float = 1.0,
) -> Tensor:
    """General Union loss of a binary segmentation.

    ``1 - (sum w (p + shift)^exponent g + smooth) / (sum w (alpha p + (1 - alpha) g) + smooth)``
    with ``p = sigmoid(logits)``, each sum running once over batch and space. ``w`` is ``weight``
    where ``g`` is 1, and 1 where ``g`` is 0; no gradient flows through it. A perfect prediction
    gives a value slightly below 0 because of ``shift``.

    Args:
        logits: ``[B, 1, ...]``.
        target: ``[B, 1, ...]``, 0 or 1; 255 where unlabelled.
        mask: ``[B, 1, ...]``, non-zero where labelled; None where only ``target`` says so.
        weight: ``[B, 1, ...]``, weight of foreground voxels; None for 1.
        alpha: share of the prediction in the union: smaller forgives false positives more. The
            paper trains with 0.1, then with 0.2.
        exponent: below 1, missed voxels pull harder; 1 gives a Tversky loss.
        shift: keeps the slope finite where ``p`` is 0.
        smooth: added to numerator and denominator, in (weighted) voxels.

    Returns:
        Scalar. Exactly 0 with zero gradient when nothing is labelled.

    Raises:
        InputError: ``loss-shape`` when a shape differs from that of ``logits``,
            ``loss-constant`` when a constant lies outside its range.
    """
    _require(alpha, exponent, shift, smooth)
    if logits.ndim > 1 and logits.shape[1] != 1:
        raise InputError(
            "loss-shape",
            f"Logits of shape {tuple(logits.shape)} have more than one channel.",
            "The General Union loss is binary: give one channel.",
        )
    voxels = pooled(labelled_voxels(logits, target, mask, {"weight": weight}))
    if not voxels.count:
        return voxels.nothing()
    p, truth = voxels.probability()[0], voxels.truth()[0]
    inside: Tensor | float = 1.0
    if weight is not None:
        inside = torch.where(voxels.target > 0, voxels.maps["weight"][0].detach().to(p), 1.0)
        truth = truth * inside
    intersection = (truth * (p + shift) ** exponent).sum() + smooth
    union = (alpha * inside * p + (1.0 - alpha) * truth).sum() + smooth
    if smooth == 0:
        union = union.clamp_min(torch.finfo(p.dtype).tiny)
    return 1.0 - intersection / union


def _require(alpha: float, exponent: float, shift: float, smooth: float) -> None:
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
