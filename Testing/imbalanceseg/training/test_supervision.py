"""Each output is supervised as the paper says, and painted slices reach the coarse ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from imbalanceseg.losses import create_loss
from imbalanceseg.networks.nnunet import supervision_weights
from imbalanceseg.networks.unet2d5 import UNet2d5
from imbalanceseg.networks.wingsnet import WingsNet
from imbalanceseg.training.patches import PatchBatch
from imbalanceseg.training.recipe import LossChoice, Supervision
from imbalanceseg.training.supervision import DeepSupervision, StepLoss, thinned_label


def batch(label: torch.Tensor) -> PatchBatch:
    return PatchBatch(torch.zeros(label.shape), label, (label == 1).int())


class TestDeepSupervision:
    def test_equals_the_weighted_sum_by_hand(self):
        target = torch.randint(0, 2, (2, 1, 8, 8, 8))
        outputs = [torch.randn(2, 2, n, n, n) for n in (8, 4, 2)]
        loss = create_loss("dice_ce")
        weights = supervision_weights(3)
        by_hand = weights[0] * loss(outputs[0], target) + weights[1] * loss(
            outputs[1], target[:, :, ::2, ::2, ::2]
        )
        assert torch.allclose(DeepSupervision(loss)(outputs, target), by_hand)

    def test_one_output_is_the_plain_loss(self):
        target = torch.randint(0, 2, (1, 1, 4, 4))
        logits = torch.randn(1, 1, 4, 4)
        loss = create_loss("bce")
        assert torch.equal(DeepSupervision(loss)([logits], target), loss(logits, target))

    @pytest.mark.parametrize("painted", range(8))
    def test_a_painted_slice_is_seen_by_every_stage(self, painted):
        label = torch.full((1, 1, 8, 8, 8), 255, dtype=torch.uint8)
        label[:, :, painted] = 0
        label[:, :, painted, 2:6, 2:6] = 1
        for side in (8, 4, 2):
            coarse = thinned_label(label, torch.zeros(1, 2, side, side, side))
            known = coarse != 255
            assert known.any(dim=(3, 4)).sum() == 1
            assert set(coarse[known].tolist()) == {0, 1}

    def test_without_unlabelled_voxels_every_second_one_is_taken(self):
        label = torch.randint(0, 3, (1, 1, 8, 8), dtype=torch.uint8)
        assert torch.equal(thinned_label(label, torch.zeros(1, 1, 4, 4)), label[:, :, ::2, ::2])


class TestStepLoss:
    @pytest.mark.parametrize("kind", ["output", "deep"])
    def test_importance_makes_a_weighted_mean(self, kind):
        label = torch.randint(0, 2, (3, 1, 8, 8, 8)).to(torch.uint8)
        outputs = [torch.randn(3, 1, n, n, n) for n in (8, 4)]
        outputs = outputs if kind == "deep" else outputs[0]
        loss = StepLoss(LossChoice(name="dice_ce"), Supervision(kind=kind))
        plain = batch(label)
        alone = [
            loss([o[n : n + 1] for o in outputs] if kind == "deep" else outputs[n : n + 1],
                 plain.alone(n))
            for n in range(3)
        ]  # fmt: skip
        weighed = replace(plain, importance=torch.tensor([1.0, 0.0, 3.0]))
        expected = (alone[0] + 3 * alone[2]) / 4
        assert torch.allclose(loss(outputs, weighed), expected)

    def test_equal_importance_is_none(self):
        label = torch.randint(0, 2, (2, 1, 8, 8, 8)).to(torch.uint8)
        logits = torch.randn(2, 1, 8, 8, 8)
        loss = StepLoss(LossChoice(name="bce"), Supervision())
        weighed = replace(batch(label), importance=torch.full((2,), 1.0))
        assert torch.allclose(loss(logits, weighed), loss(logits, batch(label)))

    @pytest.mark.parametrize("channels", [1, 3])
    def test_cross_entropy_is_added_over_what_is_labelled(self, channels):
        label = torch.randint(0, max(2, channels), (1, 1, 6, 6, 6)).to(torch.uint8)
        label[:, :, :2] = 255
        logits = torch.randn(1, channels, 6, 6, 6)
        whole = StepLoss(LossChoice(name="dice", cross_entropy=0.5), Supervision())
        entropy = create_loss("bce" if channels == 1 else "ce")(logits, label)
        by_hand = create_loss("dice")(logits, label) + 0.5 * entropy
        assert torch.allclose(whole(logits, batch(label)), by_hand)

    def test_it_reaches_maps_and_attention_too(self):
        label = torch.zeros(1, 1, 4, 32, 32, dtype=torch.uint8)
        label[..., 8:16, 8:16] = 1
        output = UNet2d5(features=4, out_channels=1)(torch.randn(label.shape))
        choices = [LossChoice(name="dice", cross_entropy=weight) for weight in (0.0, 1.0)]
        alone, both = (
            StepLoss(c, Supervision(kind="attention"))(output, batch(label)) for c in choices
        )
        entropy = create_loss("bce")(output.logits, label)
        assert torch.allclose(both, alone + entropy)

    def test_group_supervision_takes_the_two_heads_of_wingsnet(self):
        network = WingsNet().train()
        label = torch.randint(0, 2, (1, 1, 16, 16, 16), dtype=torch.uint8)
        output = network(torch.randn(1, 1, 16, 16, 16))
        plain = LossChoice(name="dice")
        alone = StepLoss(plain, Supervision())(output, batch(label))
        both = StepLoss(plain, Supervision(kind="group", weight=0.5))(output, batch(label))
        encoding = create_loss("dice")(output.encoding, label)
        assert torch.allclose(both, alone + 0.5 * encoding)

    def test_attention_supervision_takes_the_maps(self):
        network = UNet2d5(features=4).train()
        label = torch.zeros((1, 1, 8, 32, 32), dtype=torch.uint8)
        label[:, :, 4, 10:20, 10:20] = 1
        output = network(torch.randn(1, 1, 8, 32, 32))
        plain = LossChoice(name="hardness_weighted_dice")
        alone = StepLoss(plain, Supervision())(output, batch(label))
        both = StepLoss(plain, Supervision(kind="attention"))(output, batch(label))
        assert both > alone

    def test_components_reach_the_loss_that_takes_them(self):
        label = torch.zeros((1, 1, 8, 8), dtype=torch.uint8)
        label[..., :3, :3] = 1
        label[..., :3, 3:6] = 1
        numbered = label.int()
        numbered[..., 3:6] *= 2
        logits = torch.randn(1, 1, 8, 8)
        loss = StepLoss(LossChoice(name="blob"), Supervision())
        one = loss(logits, PatchBatch(logits, label, label.int()))
        two = loss(logits, PatchBatch(logits, label, numbered))
        assert not torch.allclose(one, two)

    def test_logits_in_half_precision_are_computed_in_full(self):
        label = torch.randint(0, 2, (1, 1, 8, 8), dtype=torch.uint8)
        logits = torch.randn(1, 1, 8, 8).bfloat16()
        loss = StepLoss(LossChoice(name="dice_ce"), Supervision())
        assert loss(logits, batch(label)).dtype == torch.float32
