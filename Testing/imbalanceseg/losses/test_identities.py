"""The formula of each loss: limiting cases, and values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from imbalanceseg.errors import InputError
from imbalanceseg.losses import (
    AttentionSupervision,
    blob_loss,
    boundary_loss,
    boundary_schedule,
    create_loss,
    hardness_weighted_dice_loss,
    hausdorff_dt_loss,
    label_components,
    mse_heatmap_loss,
    partial_label_loss,
    voxel_hardness,
)
from imbalanceseg.losses.attention_supervision import pooled_label
from imbalanceseg.losses.lovasz import lovasz_extension

from .catalogue import case, random_mask

seeds = st.integers(0, 10_000)
quick = settings(max_examples=15, deadline=None)


def sure(target: Tensor, channels: int = 1, size: float = 1e4) -> Tensor:
    """Logits that predict exactly ``target``."""
    if channels == 1:
        return torch.where(target > 0, size, -size).double()
    one_hot = F.one_hot(target[:, 0].long(), channels).movedim(-1, 1)
    return (2 * one_hot - 1).double() * size


def random_masks(seed: int, share: float = 0.3) -> tuple[Tensor, Tensor]:
    """A label and a binary prediction, both with foreground, ``[1, 1, 5, 6, 7]``."""
    generator = torch.Generator().manual_seed(seed)
    label, found = (torch.rand((2, 1, 1, 5, 6, 7), generator=generator) < share).to(torch.uint8)
    for mask in (label, found):
        mask.view(-1)[3] = 1
    return label, found


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


def ball(center: tuple[float, ...], radius: float, size: int = 16) -> Tensor:
    offsets = np.indices((size,) * len(center)).T - np.array(center)
    inside = (offsets**2).sum(-1) <= radius**2
    return torch.from_numpy(inside.T.astype(np.uint8))[None, None]


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

    def test_spacing_has_to_fit(self):
        label = ball((8, 8, 8), 3)
        for spacing in ((1.0, 1.0), (1.0, 0.0, 1.0)):
            with pytest.raises(InputError) as caught:
                boundary_loss(sure(label), label, spacing_mm=spacing)
            assert caught.value.code == "spacing-invalid"


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


def naive_blob(logits: Tensor, target: Tensor, base: str) -> Tensor:
    """The definition, one pass over the sample an instance; mean over samples with instances."""
    components = label_components(target)
    whole, samples = [], []
    for z, comp in zip(logits[:, 0], components[:, 0], strict=True):
        whole.append(on_voxels(z.flatten(), (comp > 0).flatten(), base))
        terms = []
        for n in range(1, int(comp.max()) + 1):
            seen = (comp == 0) | (comp == n)
            terms.append(on_voxels(z[seen], (comp == n)[seen], base))
        if terms:
            samples.append(torch.stack(terms).mean())
    return 2 * torch.stack(whole).mean() + torch.stack(samples).mean()


def on_voxels(z: Tensor, g: Tensor, base: str) -> Tensor:
    return create_loss(base)(z[None, None], g[None, None].to(torch.uint8))


class TestBlob:
    @pytest.mark.parametrize("base", ["dice", "bce", "tversky"])
    @given(seed=seeds)
    @quick
    def test_one_scatter_is_the_loop(self, base, seed):
        generator = torch.Generator().manual_seed(seed)
        target = (torch.rand((2, 1, 7, 8, 9), generator=generator) < 0.04).to(torch.uint8)
        target[:, :, 2, 2, 2] = 1
        logits = torch.randn(target.shape, generator=generator, dtype=torch.float64)
        expected = naive_blob(logits, target, base)
        assert abs(blob_loss(logits, target, base=base) - expected) < 1e-12

    @pytest.mark.parametrize("base", ["dice", "bce", "tversky"])
    def test_one_blob_is_the_base_loss(self, base):
        label = ball((8, 8, 8), 3)
        logits = torch.randn(label.shape, dtype=torch.float64)
        loss = blob_loss(logits, label, base=base, global_weight=0.0)
        assert abs(loss - create_loss(base)(logits, label)) < 1e-12

    def test_two_equal_blobs_of_which_one_is_missed_cost_a_half(self):
        one, two = ball((4, 4, 4), 2), ball((11, 11, 11), 2)
        loss = blob_loss(sure(one), one | two, global_weight=0.0)
        assert float(loss) == pytest.approx(0.5, abs=1e-5)

    def test_a_small_miss_costs_more_than_under_dice(self):
        label = torch.zeros(1, 1, 16, 16, 16, dtype=torch.uint8)
        label[..., 2:4, 2:4, 2:4] = 1
        label[..., 8:12, 8:14, 8:11] = 1
        found = label.clone()
        found[..., 2:4, 2:4, 2:4] = 0
        blob = float(blob_loss(sure(found), label, global_weight=0.0))
        dice = float(create_loss("dice")(sure(found), label))
        assert dice == pytest.approx(1 - 144 / 152, abs=1e-5)
        assert blob == pytest.approx(0.5, abs=1e-5)

    def test_a_term_does_not_see_the_other_blobs(self):
        one, two = ball((4, 4, 4), 2), ball((11, 11, 11), 2)
        numbers = torch.where(one > 0, 1, 0).long()  # only one is an instance
        z = torch.randn(one.shape, dtype=torch.float64, requires_grad=True)
        blob_loss(z, one | two, components=numbers, global_weight=0.0).backward()
        assert torch.all(z.grad[two > 0] == 0)
        assert torch.all(z.grad[two == 0] != 0)

    @given(seed=seeds)
    @quick
    def test_the_numbers_of_the_components_do_not_matter(self, seed):
        rng = np.random.default_rng(seed)
        target = torch.from_numpy((rng.random((2, 1, 6, 6, 6)) < 0.05).astype(np.uint8))
        target[:, :, 0, 0, 0] = 1
        logits = torch.from_numpy(rng.normal(size=target.shape))
        numbers = label_components(target)
        names = torch.from_numpy(np.append(0, 1 + rng.permutation(int(numbers.max()) + 5)))
        renamed = blob_loss(logits, target, components=names[numbers])
        assert abs(blob_loss(logits, target, components=numbers) - renamed) < 1e-12

    def test_a_batch_without_instances_keeps_the_global_part(self):
        z = torch.randn(2, 1, 4, 4, 4, dtype=torch.float64, requires_grad=True)
        target = torch.zeros(2, 1, 4, 4, 4)
        expected = 2 * create_loss("dice")(z, target)
        assert abs(blob_loss(z, target) - expected) < 1e-12
        nothing = blob_loss(z, target, global_weight=0.0)
        nothing.backward()
        assert nothing == 0
        assert torch.all(z.grad == 0)

    def test_components_touch_at_corners_and_are_of_one_class(self):
        target = torch.zeros(1, 1, 5, 5, 5, dtype=torch.uint8)
        target[0, 0, 1, 1, 1] = 1
        target[0, 0, 2, 2, 2] = 2
        target[0, 0, 4, 4, 4] = 255
        assert int(label_components(target).max()) == 1
        assert int(label_components(target, binary=False).max()) == 2
        assert int(label_components(target, smallest_voxels=3).max()) == 0
        assert int(label_components(target[..., 0, :, :][..., None, :, :]).max()) == 0


class TestPartialLabel:
    def test_labelled_everywhere_it_is_cross_entropy_plus_batch_dice(self):
        logits, target = case(1, 3)
        expected = create_loss("ce")(logits, target)
        expected = expected + create_loss("dice", batch=True)(logits, target)
        assert abs(partial_label_loss(logits, target) - expected) < 1e-12

    @pytest.mark.parametrize("label", [0, 2])
    def test_one_voxel_gives_minus_log_p(self, label):
        logits, _ = case(2, 3)
        target = torch.full((2, 1, 3, 5, 4), 255, dtype=torch.uint8)
        target[1, 0, 1, 2, 3] = label
        log_p = torch.log_softmax(logits, 1)[1, label, 1, 2, 3]
        loss = partial_label_loss(logits, target, dice_weight=0.0)
        assert abs(loss + log_p) < 1e-13

    def test_scaling_the_class_weights_changes_nothing(self):
        logits, target = case(3, 3)
        one = partial_label_loss(logits, target, class_weight=(0.5, 1.0, 2.0))
        many = partial_label_loss(logits, target, class_weight=(50.0, 100.0, 200.0))
        assert abs(one - many) < 1e-12
        assert abs(one - partial_label_loss(logits, target)) > 1e-3

    def test_all_classes_annotated_is_no_merge(self):
        logits, target = case(4, 4)
        merged = partial_label_loss(logits, target, annotated_classes=(1, 2, 3))
        assert abs(merged - partial_label_loss(logits, target)) < 1e-12

    def test_the_marginal_loss_leaves_the_unannotated_class_free(self):
        logits, _ = case(5, 3)
        target = torch.zeros(2, 1, 3, 5, 4, dtype=torch.uint8)
        target[..., 0, 0] = 1
        p = torch.softmax(logits, 1)
        merged = torch.where(target[:, 0] == 1, p[:, 1], p[:, 0] + p[:, 2])
        loss = partial_label_loss(logits, target, annotated_classes=(1,), dice_weight=0.0)
        assert abs(loss + torch.log(merged).mean()) < 1e-13
        # A voxel that is surely the class nobody looked for counts as right where it is unpainted.
        sure_of_it = torch.full((2, 3, 3, 5, 4), -40.0)
        sure_of_it[:, 2] = 40.0
        target[:] = 0
        assert float(partial_label_loss(sure_of_it, target, annotated_classes=(1,))) < 1e-6

    def test_a_class_absent_from_the_slices_is_not_pushed_down_by_dice(self):
        logits, target = case(6, 3)
        target[target == 2] = 0
        z = logits.clone().requires_grad_()
        partial_label_loss(z, target, dice_weight=1.0).backward()
        with_dice = z.grad.clone()
        p, g = torch.softmax(logits, 1)[:, 1], (target[:, 0] == 1).double()
        y = logits.clone().requires_grad_()
        q = torch.softmax(y, 1)[:, 1]
        dice = 1 - (2 * (q * g).sum() + 1e-5) / (q.sum() + g.sum() + 1e-5)
        (create_loss("ce")(y, target) + dice).backward()
        torch.testing.assert_close(with_dice, y.grad, atol=1e-14, rtol=1e-9)
        assert p.shape == g.shape

    def test_classes_that_do_not_exist_are_refused(self):
        logits, target = case(7, 3)
        for wrong in ((0,), (3,), (1, 5)):
            with pytest.raises(InputError) as caught:
                partial_label_loss(logits, target, annotated_classes=wrong)
            assert caught.value.code == "loss-constant"


class TestAttentionSupervision:
    def test_maps_equal_to_the_pooled_label_cost_nothing(self):
        label = ball((8, 8, 8), 3)
        maps = [pooled_label(label, (16 // s,) * 3) for s in (1, 2, 4)]
        loss = AttentionSupervision(create_loss("dice"))
        right = loss((sure(label), maps), label)
        assert float(right) == pytest.approx(0, abs=1e-6)
        wrong = loss((sure(label), [1 - m for m in maps]), label)
        assert float(wrong) == pytest.approx(1, abs=1e-5)

    def test_a_single_voxel_survives_every_level(self):
        label = torch.zeros(1, 1, 16, 32, 32, dtype=torch.uint8)
        label[0, 0, 5, 17, 3] = 1
        for size in ((16, 16, 16), (16, 8, 8), (8, 4, 4), (2, 1, 1)):
            pooled = pooled_label(label, size)
            assert pooled.shape[2:] == size
            assert float(pooled.sum()) == 1

    def test_unlabelled_voxels_say_nothing(self):
        label = ball((8, 8, 8), 3)
        mask = torch.zeros(label.shape)
        mask[..., :8] = 1
        attention = torch.rand(label.shape, requires_grad=True)
        logits = torch.randn(label.shape, requires_grad=True)
        loss = AttentionSupervision(create_loss("dice"))
        loss((logits, [attention]), label, mask).backward()
        assert torch.all(attention.grad[..., 8:] == 0)
        assert torch.any(attention.grad[..., :8] != 0)
