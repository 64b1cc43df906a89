"""Losses of overlap and of distance: limiting cases, and values worked out by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from imbalanceseg.errors import InputError
from imbalanceseg.losses import (
    boundary_loss,
    boundary_schedule,
    create_loss,
    hardness_weighted_dice_loss,
    hausdorff_dt_loss,
    voxel_hardness,
)
from imbalanceseg.losses.lovasz import lovasz_extension

from .catalogue import ball, case, quick, random_mask, random_masks, seeds, sure


class TestOverlap:
    @given(seed=seeds)
    @quick
    def test_dice_of_a_binary_prediction_is_one_minus_f1(self, seed):
        label, found = random_masks(seed)
        hit = int((label & found).sum())
        f1 = 2 * hit / int(label.sum() + found.sum())
        jaccard = hit / int((label | found).sum())
        logits = sure(found)
        for name in ("dice", "dice_squared"):
            assert float(create_loss(name)(logits, label)) == pytest.approx(1 - f1, abs=1e-5)
        exact = float(create_loss("dice", smooth=0.0)(logits, label))
        iou = float(create_loss("iou", smooth=0.0)(logits, label))
        assert iou == pytest.approx(1 - jaccard, abs=1e-12)
        d = 1 - exact
        assert 1 - iou == pytest.approx(d / (2 - d), abs=1e-12)

    @given(seed=seeds)
    @quick
    def test_tversky_holds_dice_recall_and_precision(self, seed):
        logits, target = case(seed, 1)
        half = create_loss("tversky", miss_weight=0.5, smooth=0.5)(logits, target)
        assert abs(half - create_loss("dice", smooth=1.0)(logits, target)) < 1e-12
        label, found = random_masks(seed)
        hit = int((label & found).sum())
        recall = create_loss("tversky", miss_weight=1.0, smooth=0.0)(sure(found), label)
        assert float(recall) == pytest.approx(1 - hit / int(label.sum()), abs=1e-12)
        precision = create_loss("tversky", miss_weight=0.0, smooth=0.0)(sure(found), label)
        assert float(precision) == pytest.approx(1 - hit / int(found.sum()), abs=1e-12)

    def test_misses_cost_more_than_false_positives_by_default(self):
        label, _ = random_masks(1)
        more, fewer = label.clone(), label.clone()
        more.view(-1)[(label.view(-1) == 0).nonzero()[:3]] = 1
        fewer.view(-1)[(label.view(-1) == 1).nonzero()[:3]] = 0
        loss = create_loss("tversky")
        assert loss(sure(fewer), label) > loss(sure(more), label)

    @given(seed=seeds)
    @quick
    def test_squared_dice_has_the_derived_slope(self, seed):
        logits, target = case(seed, 1, batch=1)
        z = logits.clone().requires_grad_()
        create_loss("dice_squared", smooth=0.0)(z, target).backward()
        p, g = torch.sigmoid(logits), target.double()
        whole, both = (p**2).sum() + (g**2).sum(), (p * g).sum()
        by_p = -2 * (g * whole - 2 * p * both) / whole**2
        torch.testing.assert_close(z.grad, by_p * p * (1 - p), atol=1e-12, rtol=1e-9)

    def test_squared_dice_is_zero_only_for_the_label_itself(self):
        label, found = random_masks(2)
        loss = create_loss("dice_squared", smooth=0.0)
        assert float(loss(sure(label), label)) == pytest.approx(0, abs=1e-12)
        assert float(loss(sure(found), label)) > 0
        assert float(loss(sure(label) / 1e4, label)) > 0

    def test_batch_and_samples_differ_as_told(self):
        logits, target = case(3, 1)
        target[1] = 0
        p, g = torch.sigmoid(logits), target.double()
        s = 1e-5

        def dice(p: Tensor, g: Tensor) -> Tensor:
            return 1 - (2 * (p * g).sum() + s) / (p.sum() + g.sum() + s)

        each = (dice(p[0], g[0]) + dice(p[1], g[1])) / 2
        assert abs(create_loss("dice")(logits, target) - each) < 1e-12
        assert abs(create_loss("dice", batch=True)(logits, target) - dice(p, g)) < 1e-12

    def test_background_is_no_class_of_the_mean(self):
        logits, target = case(4, 3)
        p = torch.softmax(logits, 1)
        terms = []
        for n in range(2):
            for c in (1, 2):
                q, g = p[n, c], (target[n, 0] == c).double()
                terms.append(1 - (2 * (q * g).sum() + 1e-5) / (q.sum() + g.sum() + 1e-5))
        assert abs(create_loss("dice")(logits, target) - torch.stack(terms).mean()) < 1e-12

    def test_sums_are_the_sums_of_their_parts(self):
        logits, target = case(5, 3)
        mask = random_mask(logits, 5)
        parts = [create_loss(name)(logits, target, mask) for name in ("dice", "ce")]
        total = create_loss("dice_ce", dice_weight=2.0, ce_weight=0.5)(logits, target, mask)
        assert abs(total - 2 * parts[0] - 0.5 * parts[1]) < 1e-13
        binary, label = case(5, 1)
        jaccard = 1 - create_loss("iou", batch=True)(binary, label)
        expected = create_loss("bce")(binary, label) - torch.log(jaccard)
        assert abs(create_loss("iou_bce")(binary, label) - expected) < 1e-13

    def test_iou_bce_is_zero_when_right_and_bounded_when_all_is_missed(self):
        label, _ = random_masks(3)
        assert float(create_loss("iou_bce")(sure(label), label)) == pytest.approx(0, abs=1e-6)
        missed = create_loss("iou_bce")(torch.full(label.shape, -30.0), label)
        assert float(missed) < 30 + 12


class TestLovasz:
    @given(seed=seeds)
    @quick
    def test_binary_predictions_give_exactly_one_minus_iou(self, seed):
        label, found = random_masks(seed)
        expected = 1 - int((label & found).sum()) / int((label | found).sum())
        both = torch.cat([-sure(found), sure(found)], 1)
        loss = create_loss("lovasz")(both, label)
        background = 1 - int((1 - (label | found)).sum()) / int((1 - (label & found)).sum())
        assert float(loss) == pytest.approx((expected + background) / 2, abs=1e-14)
        errors = (label != found).double().flatten()
        exact = lovasz_extension(errors, label.flatten())
        assert float(exact) == pytest.approx(expected, abs=1e-14)

    @given(seed=seeds, where=st.floats(0, 1))
    @quick
    def test_is_convex_in_the_errors(self, seed, where):
        generator = torch.Generator().manual_seed(seed)
        truth = (torch.rand(40, generator=generator) < 0.3).long()
        one, two = torch.rand((2, 40), generator=generator, dtype=torch.float64)
        between = lovasz_extension(where * one + (1 - where) * two, truth)
        chord = where * lovasz_extension(one, truth) + (1 - where) * lovasz_extension(two, truth)
        assert between <= chord + 1e-12

    def test_hinge_vanishes_beyond_the_margin_and_absent_classes_do_not_count(self):
        label, _ = random_masks(4)
        assert float(create_loss("lovasz")(sure(label, size=1.0), label)) == 0
        logits, target = case(5, 3)
        target[target == 2] = 0
        merged = lovasz_mean(logits, target, classes=(0, 1))
        assert abs(create_loss("lovasz")(logits, target) - merged) < 1e-13


def lovasz_mean(logits: Tensor, target: Tensor, classes: tuple[int, ...]) -> Tensor:
    p = torch.softmax(logits, 1)
    terms = []
    for n in range(len(logits)):
        for c in classes:
            g = (target[n, 0] == c).double().flatten()
            terms.append(lovasz_extension((g - p[n, c].flatten()).abs(), g))
    return torch.stack(terms).mean()


class TestDistances:
    @given(seed=seeds)
    @quick
    def test_the_label_itself_is_the_best_binary_prediction(self, seed):
        label, found = random_masks(seed)
        assert boundary_loss(sure(label), label) <= boundary_loss(sure(found), label) + 1e-12

    def test_a_false_positive_costs_its_distance_over_n(self):
        label = ball((8, 8, 8), 3)
        more = label.clone()
        more[0, 0, 8, 8, 14] = 1
        for spacing, distance in (((1, 1, 1), 3.0), ((1, 1, 0.5), 1.5)):
            rise = boundary_loss(sure(more), label, spacing_mm=spacing) - boundary_loss(
                sure(label), label, spacing_mm=spacing
            )
            assert float(rise) == pytest.approx(distance / 16**3, abs=1e-9)

    def test_an_absent_class_does_not_push(self):
        z = torch.randn(1, 1, 4, 4, 4, requires_grad=True)
        boundary_loss(z, torch.zeros(1, 1, 4, 4, 4)).backward()
        assert torch.all(z.grad == 0)

    def test_schedule_moves_weight_from_overlap_to_boundary(self):
        assert boundary_schedule(0) == (1.0, 0.01)
        assert boundary_schedule(30) == pytest.approx((0.7, 0.31))
        assert boundary_schedule(500) == (0.1, 1.0)

    def test_hausdorff_is_zero_for_the_label_alone(self):
        label, far = ball((8, 8, 8), 3), ball((8, 8, 9), 3)
        assert float(hausdorff_dt_loss(sure(label), label)) == 0
        near = float(hausdorff_dt_loss(sure(far), label))
        assert near > 0
        farther = float(hausdorff_dt_loss(sure(ball((8, 8, 12), 3)), label))
        assert farther > 2 * near
        wide = float(hausdorff_dt_loss(sure(far), label, spacing_mm=(2, 2, 2)))
        assert wide == pytest.approx(4 * near)

    def test_hausdorff_has_no_surface_to_measure_when_both_are_empty(self):
        z = torch.full((1, 1, 4, 4, 4), -1.0, requires_grad=True)
        hausdorff_dt_loss(z, torch.zeros(1, 1, 4, 4, 4)).backward()
        assert torch.all(z.grad == 0)

    @given(seed=seeds)
    @quick
    def test_hausdorff_is_monai_s_on_cubic_voxels(self, seed):
        from monai.losses import HausdorffDTLoss

        label, _ = random_masks(seed)
        z = torch.randn(label.shape, generator=torch.Generator().manual_seed(seed))
        expected = HausdorffDTLoss(sigmoid=True)(z, label.float())
        assert float(hausdorff_dt_loss(z, label)) == pytest.approx(float(expected), rel=1e-5)

    def test_a_missed_single_voxel_pulls_although_nothing_was_found(self):
        label = torch.zeros(1, 1, 7, 7, 7, dtype=torch.uint8)
        label[0, 0, 3, 3, 3] = 1
        z = torch.full(label.shape, -3.0, requires_grad=True)
        hausdorff_dt_loss(z, label).backward()
        assert float(z.grad[0, 0, 3, 3, 3]) < 0

    def test_spacing_has_to_fit(self):
        label = ball((8, 8, 8), 3)
        for spacing in ((1.0, 1.0), (1.0, 0.0, 1.0)):
            with pytest.raises(InputError) as caught:
                boundary_loss(sure(label), label, spacing_mm=spacing)
            assert caught.value.code == "spacing-invalid"


class TestHardnessWeightedDice:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_without_emphasis_it_is_soft_dice(self, channels):
        logits, target = case(1, channels)
        p = torch.sigmoid(logits) if channels == 1 else torch.softmax(logits, 1)
        g = (
            target.double()
            if channels == 1
            else F.one_hot(target[:, 0].long(), channels).movedim(-1, 1).double()
        )
        axes = (0, 2, 3, 4)
        dice = 1 - (2 * (p * g).sum(axes) + 1e-5) / ((p + g).sum(axes) + 1e-5)
        loss = hardness_weighted_dice_loss(logits, target, emphasis=0.0)
        assert abs(loss - dice.mean()) < 1e-12

    def test_right_gives_zero(self):
        label, _ = random_masks(5)
        loss = hardness_weighted_dice_loss(sure(label), label)
        assert float(loss) == pytest.approx(0, abs=1e-12)

    def test_detached_gradient_is_that_of_dice_with_constant_weights(self):
        logits, target = case(2, 1)
        z = logits.clone().requires_grad_()
        hardness_weighted_dice_loss(z, target).backward()
        p, g = torch.sigmoid(logits), target.double()
        w = 0.6 * (p - g).abs() + 0.4
        y = logits.clone().requires_grad_()
        q = torch.sigmoid(y)
        (1 - (2 * (w * q * g).sum() + 1e-5) / ((w * (q + g)).sum() + 1e-5)).backward()
        torch.testing.assert_close(z.grad, y.grad, atol=1e-15, rtol=1e-10)

    @given(seed=seeds, size=st.floats(0.1, 20))
    @quick
    def test_detached_gradient_never_pushes_foreground_down(self, seed, size):
        logits, target = case(seed, 1)
        z = (size * logits).requires_grad_()
        hardness_weighted_dice_loss(z, target).backward()
        assert torch.all(z.grad[target > 0] <= 0)

    def test_the_attached_gradient_does_beyond_0_83_while_the_overlap_is_poor(self):
        target = torch.zeros(1, 1, 40, dtype=torch.uint8)
        target[..., :4] = 1
        p = torch.full((1, 1, 40), 0.6, dtype=torch.float64)
        for sure_p, upwards in ((0.97, True), (0.80, False)):
            p[..., :4] = sure_p
            z = torch.logit(p).requires_grad_()
            hardness_weighted_dice_loss(z, target, detach=False).backward()
            assert torch.all((z.grad[..., :4] > 0) == upwards)

    def test_hardness_is_the_missing_probability_of_the_true_class(self):
        logits, target = case(3, 1)
        expected = (torch.sigmoid(logits) - target).abs()
        torch.testing.assert_close(voxel_hardness(logits, target).double(), expected)
        several, label = case(3, 3)
        label[0, 0, 0] = 255
        hardness = voxel_hardness(several, label)
        assert torch.all(hardness[0, 0, 0] == 0)
        p = torch.softmax(several, 1)[1, int(label[1, 0, 1, 1, 1]), 1, 1, 1]
        assert float(hardness[1, 0, 1, 1, 1]) == pytest.approx(1 - float(p), abs=1e-6)
