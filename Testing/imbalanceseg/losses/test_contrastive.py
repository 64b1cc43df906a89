"""The identities of ACTION's losses, METHODS.md 11.8."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from imbalanceseg.errors import InputError
from imbalanceseg.losses.contrastive import (
    AnchorQueue,
    anatomical_contrast,
    cyclic_temperature,
    relation_distillation,
)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


class TestRelations:
    def test_alike_at_one_temperature_there_is_nothing_to_learn(self):
        z, anchors = torch.randn(4, 16), torch.randn(9, 16)
        assert relation_distillation(z, z, anchors, 0.2, 0.2).item() == pytest.approx(0, abs=1e-6)

    def test_it_is_the_divergence_by_hand(self):
        s, t, anchors = torch.randn(3, 8), torch.randn(3, 8), torch.randn(5, 8)

        def softmax(z, temperature):
            cosine = F.cosine_similarity(z[:, None], anchors[None], dim=2)
            return torch.softmax(cosine / temperature, dim=1)

        p, q = softmax(t, 0.3), softmax(s, 0.5)
        by_hand = (p * (p / q).log()).sum(1).mean()
        assert torch.allclose(relation_distillation(s, t, anchors, 0.5, 0.3), by_hand, atol=1e-6)

    def test_the_order_of_anchors_does_not_matter(self):
        s, t, anchors = torch.randn(4, 16), torch.randn(4, 16), torch.randn(9, 16)
        turned = anchors[torch.randperm(9)]
        one, other = (relation_distillation(s, t, a) for a in (anchors, turned))
        assert torch.allclose(one, other, atol=1e-6)

    @pytest.mark.parametrize("anchors", [0, 1])
    def test_nothing_follows_from_one_anchor_or_none(self, anchors):
        s = torch.randn(4, 16, requires_grad=True)
        loss = relation_distillation(s, torch.randn(4, 16), torch.randn(anchors, 16))
        loss.backward()
        assert loss.item() == pytest.approx(0, abs=1e-6)
        assert s.grad.abs().max() < 1e-6

    def test_a_cold_teacher_leaves_the_nearest_anchor(self):
        s, t, anchors = torch.randn(6, 16), torch.randn(6, 16), torch.randn(9, 16)
        nearest = (F.normalize(t, dim=1) @ F.normalize(anchors, dim=1).T).argmax(1)
        logits = F.normalize(s, dim=1) @ F.normalize(anchors, dim=1).T / 0.1
        info_nce = F.cross_entropy(logits, nearest)
        found = relation_distillation(s, t, anchors, 0.1, 1e-5)
        assert torch.allclose(found, info_nce, atol=1e-4)

    def test_only_the_student_learns(self):
        s, t, anchors = (torch.randn(n, 16, requires_grad=True) for n in (4, 4, 9))
        relation_distillation(s, t, anchors).backward()
        assert s.grad.abs().max() > 0
        assert t.grad is None
        assert anchors.grad is None


class TestQueue:
    def test_it_begins_empty_and_fills(self):
        queue = AnchorQueue(5, 3)
        assert queue.anchors().shape == (0, 3)
        queue.push(torch.randn(2, 3))
        assert queue.anchors().shape == (2, 3)
        queue.push(torch.randn(4, 3))
        assert queue.anchors().shape == (5, 3)

    def test_the_oldest_goes_first(self):
        queue, rows = AnchorQueue(3, 4), F.normalize(torch.randn(8, 4), dim=1)
        for row in rows:
            queue.push(row[None])
        kept = {tuple(row.tolist()) for row in queue.anchors()}
        assert kept == {tuple(row.tolist()) for row in rows[-3:]}

    def test_more_than_it_holds_leaves_the_latest(self):
        queue, rows = AnchorQueue(3, 4), F.normalize(torch.randn(8, 4), dim=1)
        queue.push(rows)
        assert {tuple(r.tolist()) for r in queue.anchors()} == {
            tuple(r.tolist()) for r in rows[-3:]
        }

    def test_every_anchor_has_length_one_and_no_gradient(self):
        queue, rows = AnchorQueue(4, 6), 7 * torch.randn(4, 6, requires_grad=True)
        queue.push(rows)
        assert torch.allclose(queue.anchors().norm(dim=1), torch.ones(4))
        assert not queue.anchors().requires_grad

    def test_it_is_kept_with_the_weights(self):
        queue, other = AnchorQueue(4, 6), AnchorQueue(4, 6)
        queue.push(torch.randn(3, 6))
        other.load_state_dict(queue.state_dict())
        assert torch.equal(other.anchors(), queue.anchors())


def apart(classes: torch.Tensor, channels: int) -> torch.Tensor:
    """Representations of which each class has a direction of its own."""
    return F.one_hot(classes, channels).float().movedim(-1, 1)


class TestAnatomy:
    def inputs(self, classes=3):
        labels = torch.randint(0, classes, (2, 6, 6, 6))
        return labels, torch.rand(2, 6, 6, 6) * 0.9, torch.ones(2, 6, 6, 6, dtype=torch.bool)

    def test_classes_that_lie_apart_cost_nothing_when_cold(self):
        labels, sure, valid = self.inputs()
        loss = anatomical_contrast(apart(labels, 8), labels, sure, valid, temperature=0.02)
        assert loss.item() < 1e-3

    def test_alike_classes_cost_as_much_as_guessing(self):
        labels, sure, valid = self.inputs()
        alike = torch.ones(2, 8, 6, 6, 6)
        loss = anatomical_contrast(alike, labels, sure, valid, negatives=31)
        assert loss.item() == pytest.approx(torch.log(torch.tensor(32.0)).item(), rel=1e-4)

    def test_the_mean_of_a_class_gets_no_gradient(self):
        # One hard query of class 0; easy voxels of its class make the mean and get nothing.
        labels = torch.tensor([[0, 0, 0, 1, 1]])
        sure = torch.tensor([[0.5, 1.0, 1.0, 1.0, 1.0]])
        features = torch.randn(1, 4, 5, requires_grad=True)
        valid = torch.ones(1, 5, dtype=torch.bool)
        anatomical_contrast(features, labels, sure, valid, negatives=64).backward()
        moved = features.grad[0].abs().sum(0)
        assert (moved[[0, 3, 4]] > 0).all()
        assert (moved[[1, 2]] == 0).all()

    def test_what_is_not_to_be_trusted_has_no_part(self):
        labels, sure, valid = self.inputs()
        valid[1] = False
        features = torch.randn(2, 8, 6, 6, 6, requires_grad=True)
        anatomical_contrast(features, labels, sure, valid).backward()
        assert features.grad[0].abs().max() > 0
        assert features.grad[1].abs().max() == 0

    def test_a_rare_class_counts_as_much_as_a_common_one(self):
        labels = torch.zeros(1, 1000, dtype=torch.int64)
        labels[0, :2] = 1
        features = apart(labels, 4)
        features[0, :, :2] = torch.tensor([1.0, 0, 0, 0])[:, None]
        sure, valid = torch.zeros(1, 1000), torch.ones(1, 1000, dtype=torch.bool)
        # All look alike: both classes are as wrong, whatever their size.
        loss = anatomical_contrast(features, labels, sure, valid, negatives=3)
        assert loss.item() == pytest.approx(torch.log(torch.tensor(4.0)).item(), rel=1e-4)

    @pytest.mark.parametrize("case", ["one class", "all easy", "nothing valid"])
    def test_without_contrast_it_is_nothing(self, case):
        labels, sure, valid = self.inputs()
        if case == "one class":
            labels = torch.zeros_like(labels)
        elif case == "all easy":
            sure = torch.ones_like(sure)
        else:
            valid = torch.zeros_like(valid)
        features = torch.randn(2, 8, 6, 6, 6, requires_grad=True)
        loss = anatomical_contrast(features, labels, sure, valid)
        loss.backward()
        assert loss.item() == 0
        assert features.grad.abs().max() == 0

    def test_classes_that_look_alike_are_compared_more_often(self, monkeypatch):
        seen = []
        original = torch.multinomial

        def listened(weights, *rest, **named):
            seen.append(weights.clone())
            return original(weights, *rest, **named)

        monkeypatch.setattr(torch, "multinomial", listened)
        labels = torch.tensor([[0, 0, 1, 1, 2, 2]])
        features = torch.tensor([[1.0, 0], [1, 0], [0.9, 0.1], [0.9, 0.1], [-1, 0], [-1, 0]])
        valid = torch.ones(1, 6, dtype=torch.bool)
        anatomical_contrast(features.T[None], labels, torch.zeros(1, 6), valid)
        assert seen[0][0] == 0
        assert seen[0][1] > seen[0][2]

    def test_shapes_that_do_not_fit_are_refused(self):
        labels, sure, valid = self.inputs()
        with pytest.raises(InputError, match="do not fit"):
            anatomical_contrast(torch.randn(2, 8, 6, 6, 5), labels, sure, valid)


def test_the_temperature_comes_and_goes():
    assert cyclic_temperature(0, 100) == pytest.approx(1.0)
    assert cyclic_temperature(50, 100) == pytest.approx(0.1)
    assert cyclic_temperature(100, 100) == pytest.approx(1.0)
    assert cyclic_temperature(25, 100) == pytest.approx(0.55)
