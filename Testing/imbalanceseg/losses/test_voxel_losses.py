"""Losses of single voxels: limiting cases, and values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from imbalanceseg.losses import (
    create_loss,
    mse_heatmap_loss,
)

from .catalogue import ball, case, quick, seeds


class TestCrossEntropy:
    @given(seed=seeds)
    @quick
    def test_slope_is_p_minus_g_over_n(self, seed):
        logits, target = case(seed, 3)
        z = logits.clone().requires_grad_()
        create_loss("ce")(z, target).backward()
        g = F.one_hot(target[:, 0].long(), 3).movedim(-1, 1)
        expected = (torch.softmax(logits, 1) - g) / target.numel()
        torch.testing.assert_close(z.grad, expected, atol=1e-15, rtol=1e-12)

    @pytest.mark.parametrize("channels", [2, 3, 7])
    def test_uniform_logits_give_log_of_the_classes(self, channels):
        target = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
        loss = create_loss("ce")(torch.zeros(1, channels, 4, 4, dtype=torch.float64), target)
        assert float(loss) == pytest.approx(math.log(channels), abs=1e-14)

    def test_one_channel_is_two_channels_with_a_zero(self):
        logits, target = case(1, 1)
        both = torch.cat([torch.zeros_like(logits), logits], 1)
        for name in ("ce", "focal", "ohem", "weighted_ce"):
            loss = create_loss(name)
            assert abs(loss(logits, target) - loss(both, target)) < 1e-14

    def test_is_what_torch_computes(self):
        logits, target = case(2, 3)
        expected = F.cross_entropy(logits, target[:, 0].long())
        assert abs(create_loss("ce")(logits, target) - expected) < 1e-14
        binary, label = case(2, 1)
        expected = F.binary_cross_entropy_with_logits(binary, label.double())
        for name in ("ce", "bce"):
            assert abs(create_loss(name)(binary, label) - expected) < 1e-14

    @given(seed=seeds, weight=st.floats(0.01, 100))
    @quick
    def test_constant_weights_change_nothing(self, seed, weight):
        logits, target = case(seed, 3)
        flat = torch.full_like(target, 1, dtype=torch.float64) * weight
        loss = create_loss("weighted_ce", class_weight=(weight,) * 3)
        assert abs(loss(logits, target, weight=flat) - create_loss("ce")(logits, target)) < 1e-13

    def test_zero_weight_gives_zero_gradient_there(self):
        logits, target = case(3, 3)
        weight = torch.ones(target.shape)
        weight[..., :2] = 0
        z = logits.clone().requires_grad_()
        create_loss("weighted_ce")(z, target, weight=weight).backward()
        assert torch.all(z.grad[..., :2] == 0)
        assert torch.all(z.grad[..., 2:] != 0)
        z.grad = None
        create_loss("weighted_ce")(z, target, weight=0 * weight).backward()
        assert torch.all(z.grad == 0)

    def test_positive_weight_scales_the_positives_alone(self):
        logits, target = case(4, 1)
        heavy = create_loss("bce", positive_weight=3.0)(logits, target)
        positive = F.softplus(-logits[target > 0]).sum() / logits.numel()
        assert abs(heavy - create_loss("bce")(logits, target) - 2 * positive) < 1e-13


class TestFocal:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_gamma_zero_is_cross_entropy(self, channels):
        logits, target = case(5, channels)
        expected = create_loss("ce")(logits, target)
        assert abs(create_loss("focal", gamma=0.0)(logits, target) - expected) < 1e-14

    @pytest.mark.parametrize("gamma", [0.5, 2.0])
    def test_is_the_formula(self, gamma):
        logits, target = case(6, 1)
        p = torch.sigmoid(logits)
        p_true = torch.where(target > 0, p, 1 - p)
        a = torch.where(target > 0, 0.7, 0.3)
        expected = (-a * (1 - p_true) ** gamma * torch.log(p_true)).mean()
        loss = create_loss("focal", gamma=gamma, foreground_weight=0.7)
        assert abs(loss(logits, target) - expected) < 1e-13

    @pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_gradient_is_finite_for_sure_logits(self, gamma, dtype):
        logits = torch.tensor([50.0, -50.0, 50.0, -50.0, 0.0, 500.0], dtype=dtype)[None, None]
        target = torch.tensor([1, 1, 0, 0, 1, 1])[None, None]
        z = logits.requires_grad_()
        create_loss("focal", gamma=gamma)(z, target).backward()
        assert torch.isfinite(z.grad).all()
        assert z.grad[0, 0, 1] < -0.1, "a voxel that is surely wrong pulls with full force"


class TestOhem:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_keeping_everything_is_cross_entropy(self, channels):
        logits, target = case(1, channels)
        loss = create_loss("ohem", negatives_per_positive=1e9)
        assert abs(loss(logits, target) - create_loss("ce")(logits, target)) < 1e-13

    def test_chosen_are_all_positives_and_the_worst_negatives(self):
        logits = torch.tensor([[[-1.0, 3.0, 2.0, -4.0, 1.0, -9.0]]])
        target = torch.tensor([[[1, 0, 0, 0, 0, 0]]])
        z = logits.clone().requires_grad_()
        loss = create_loss("ohem", negatives_per_positive=2.0)(z, target)
        chosen = [F.softplus(torch.tensor(v)) for v in (1.0, 3.0, 2.0)]
        assert float(loss.detach()) == pytest.approx(float(sum(chosen) / 3), abs=1e-6)
        loss.backward()
        assert (z.grad != 0)[0, 0].tolist() == [True, True, True, False, False, False]

    def test_without_positives_the_worst_share_is_taught(self):
        logits, target = case(2, 1)
        z = logits.clone().requires_grad_()
        create_loss("ohem", least_share=0.1)(z, torch.zeros_like(target)).backward()
        assert int((z.grad != 0).sum()) == round(0.1 * target.numel())


class TestHeatmap:
    def test_best_is_the_heatmap_itself(self):
        label = ball((5, 5), 1.5) | ball((11, 10), 2)
        grid = np.indices((16, 16))
        heat = np.max(
            [
                np.exp(-((grid[0] - y) ** 2 + (grid[1] - x) ** 2) / (2 * 2.0**2))
                for y, x in ((5, 5), (11, 10))
            ],
            axis=0,
        )
        z = torch.logit(torch.from_numpy(heat).clip(1e-9, 1 - 1e-9))[None, None]
        assert float(mse_heatmap_loss(z, label)) < 1e-6
        assert float(mse_heatmap_loss(-z, label)) > 0.1
