"""blob loss, partial labels and supervised attention: limiting cases by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from torch import Tensor

from imbalanceseg.errors import InputError
from imbalanceseg.losses import (
    AttentionSupervision,
    blob_loss,
    create_loss,
    label_components,
    partial_label_loss,
)
from imbalanceseg.losses.attention_supervision import pooled_label

from .catalogue import ball, case, quick, seeds, sure


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
        g = (target[:, 0] == 1).double()
        y = logits.clone().requires_grad_()
        q = torch.softmax(y, 1)[:, 1]
        dice = 1 - (2 * (q * g).sum() + 1e-5) / (q.sum() + g.sum() + 1e-5)
        (create_loss("ce")(y, target) + dice).backward()
        torch.testing.assert_close(with_dice, y.grad, atol=1e-14, rtol=1e-9)

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
