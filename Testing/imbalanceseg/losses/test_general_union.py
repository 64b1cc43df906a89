"""General Union loss against its derivation, and the promises made for unlabelled voxels."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imbalanceseg.errors import InputError
from imbalanceseg.losses import GroupSupervision, create_loss, general_union_loss
from imbalanceseg.networks.wingsnet import WingsNetOutput

SHAPE = (2, 1, 4, 5, 3)


def case(seed: int, share: float = 0.2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits, target and weight in float64."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    target = (torch.rand(SHAPE, generator=generator) < share).to(torch.uint8)
    target.flatten()[0] = 1
    weight = torch.rand(SHAPE, generator=generator, dtype=torch.float64) + 0.1
    return logits, target, weight


def analytic_gradient(
    p: torch.Tensor, g: torch.Tensor, w: torch.Tensor, a: float, r: float, s: float, e: float
) -> torch.Tensor:
    """dL/dp by the quotient rule, with w already 1 on background."""
    i = (w * (p + s) ** r * g).sum() + e
    u = (w * (a * p + (1 - a) * g)).sum() + e
    slope = torch.where(g > 0, r * (p + s) ** (r - 1) * u, torch.zeros(()).to(p))
    return -w * (slope - a * i) / u**2


@pytest.mark.parametrize(("a", "r"), [(0.1, 0.7), (0.2, 0.7), (0.5, 1.0)])
def test_gradient_is_the_derived_one(a: float, r: float) -> None:
    logits, target, weight = case(0)
    logits.requires_grad_()
    general_union_loss(logits, target, weight=weight, alpha=a, exponent=r).backward()
    p = torch.sigmoid(logits.detach())
    g = target.to(p)
    w = torch.where(g > 0, weight, torch.ones_like(weight))
    expected = analytic_gradient(p, g, w, a, r, 1e-4, 1.0) * p * (1 - p)
    assert (logits.grad - expected).abs().max() < 1e-12


def test_gradient_is_the_finite_difference() -> None:
    logits, target, weight = case(1)
    logits.requires_grad_()
    general_union_loss(logits, target, weight=weight).backward()
    step = 1e-5
    for voxel in range(0, logits.numel(), 7):
        shift = torch.zeros(logits.numel(), dtype=torch.float64)
        shift[voxel] = step
        shift = shift.reshape(SHAPE)
        up = general_union_loss(logits.detach() + shift, target, weight=weight)
        down = general_union_loss(logits.detach() - shift, target, weight=weight)
        assert abs((up - down) / (2 * step) - logits.grad.flatten()[voxel]) < 1e-8


@given(seed=st.integers(0, 1000), smooth=st.floats(0.01, 10))
@settings(max_examples=25, deadline=None)
def test_is_soft_dice_at_half(seed: int, smooth: float) -> None:
    logits, target, _ = case(seed)
    loss = general_union_loss(logits, target, alpha=0.5, exponent=1.0, shift=0.0, smooth=smooth)
    p, g = torch.sigmoid(logits), target.to(logits)
    dice = 1 - (2 * (p * g).sum() + 2 * smooth) / (p.sum() + g.sum() + 2 * smooth)
    assert abs(loss - dice) < 1e-12


@given(seed=st.integers(0, 1000), factor=st.floats(0.1, 50))
@settings(max_examples=25, deadline=None)
def test_weight_scale_cancels_where_all_is_foreground(seed: int, factor: float) -> None:
    logits, _, weight = case(seed)
    target = torch.ones(SHAPE)
    one = general_union_loss(logits, target, weight=weight, smooth=0.0)
    scaled = general_union_loss(logits, target, weight=factor * weight, smooth=0.0)
    assert abs(one - scaled) < 1e-10


def test_background_weight_is_forced_to_one() -> None:
    logits, target, weight = case(3)
    other = torch.where(target > 0, weight, weight * 17 + 3)
    assert torch.equal(
        general_union_loss(logits, target, weight=weight),
        general_union_loss(logits, target, weight=other),
    )


def gradient_ratio(probability: float, alpha: float) -> float:
    """|dL/dp_fg| / |dL/dp_bg| with one probed foreground voxel of the given probability."""
    logits, target, _ = case(4)
    p = torch.sigmoid(logits)
    p.flatten()[0] = probability
    logits = torch.logit(p).requires_grad_()
    general_union_loss(logits, target, alpha=alpha, smooth=1.0).backward()
    by_p = (logits.grad / (p * (1 - p))).flatten()
    background = by_p[target.flatten() == 0]
    assert (background > 0).all()
    return float(-by_p[0] / background[0])


def test_ratio_grows_as_alpha_falls_and_as_the_voxel_is_missed() -> None:
    by_alpha = [gradient_ratio(0.3, a) for a in (0.05, 0.1, 0.2, 0.5)]
    assert by_alpha == sorted(by_alpha, reverse=True)
    assert len(set(by_alpha)) == 4
    by_p = [gradient_ratio(p, 0.2) for p in (1e-4, 1e-2, 0.1, 0.5, 0.9)]
    assert by_p == sorted(by_p, reverse=True)
    assert len(set(by_p)) == 5


def test_slope_at_zero_probability_is_capped_by_the_shift() -> None:
    target = torch.ones(1, 1, 1, dtype=torch.float64)
    p = torch.tensor([[[1e-12]]], dtype=torch.float64)
    logits = torch.logit(p).requires_grad_()
    general_union_loss(logits, target, smooth=1e12).backward()
    alpha_term = 0.2  # alpha * I / U, which is alpha where smooth outweighs both sums
    slope = -1e12 * float(logits.grad / (p * (1 - p))) + alpha_term
    assert slope == pytest.approx(0.7 * 1e-4**-0.3, rel=1e-6)
    assert slope == pytest.approx(11.1, abs=0.1)


@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_nothing_labelled_gives_zero_and_no_gradient(smooth: float) -> None:
    logits = torch.randn(SHAPE, requires_grad=True)
    loss = general_union_loss(logits, torch.full(SHAPE, 255), smooth=smooth)
    loss.backward()
    assert loss == 0
    assert torch.all(logits.grad == 0)


def test_empty_target_pushes_every_probability_down() -> None:
    logits = torch.randn(SHAPE, dtype=torch.float64, requires_grad=True)
    loss = general_union_loss(logits, torch.zeros(SHAPE))
    loss.backward()
    p = torch.sigmoid(logits.detach())
    assert loss.item() == pytest.approx(1 - 1 / (1 + 0.2 * p.sum().item()), abs=1e-12)
    assert torch.all(logits.grad > 0)


def test_perfect_prediction_is_slightly_below_zero() -> None:
    _, target, _ = case(8)
    perfect = torch.where(target > 0, 1000.0, -1000.0).double()
    assert -1e-4 < general_union_loss(perfect, target) < 0


def test_no_gradient_through_the_weight() -> None:
    logits, target, weight = case(10)
    weight.requires_grad_()
    logits.requires_grad_()
    general_union_loss(logits, target, weight=weight).backward()
    assert weight.grad is None


def test_module_is_the_function() -> None:
    logits, target, weight = case(11)
    module = create_loss("general_union", alpha=0.1)
    assert torch.equal(
        module(logits, target, weight=weight),
        general_union_loss(logits, target, weight=weight, alpha=0.1),
    )


def test_group_supervision_adds_the_weighted_heads() -> None:
    logits, target, weight = case(12)
    output = WingsNetOutput(decoding=logits, encoding=-logits)
    loss = create_loss("general_union")
    total = GroupSupervision(loss, encoding_weight=0.5)(output, target, weight=weight)
    expected = loss(logits, target, weight=weight) + 0.5 * loss(-logits, target, weight=weight)
    assert torch.equal(total, expected)
    alone = GroupSupervision(loss, encoding_weight=0.0)(output, target, weight=weight)
    assert torch.equal(alone, loss(logits, target, weight=weight))


def test_several_channels_are_refused() -> None:
    logits, target, _ = case(13)
    with pytest.raises(InputError) as caught:
        general_union_loss(logits.repeat(1, 2, 1, 1, 1), target)
    assert caught.value.code == "loss-shape"
