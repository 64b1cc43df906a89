"""Learning from images without labels: the teacher, the stages, interruption, what is refused."""

from __future__ import annotations

import copy
import json
from contextlib import nullcontext
from math import exp
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from imbalanceseg.cli.main import main
from imbalanceseg.errors import InputError, ModelError
from imbalanceseg.networks import create_network
from imbalanceseg.networks.levels import level_channels, run_with_levels
from imbalanceseg.planning.dataset import open_dataset, open_unlabelled
from imbalanceseg.reporting.training_report import read_log
from imbalanceseg.training import trainer
from imbalanceseg.training.action import ActionLearning, _cut_and_mixed
from imbalanceseg.training.checkpoint import load_checkpoint
from imbalanceseg.training.learning_of import learning_of
from imbalanceseg.training.mean_teacher import MeanTeacherLearning
from imbalanceseg.training.patches import PatchBatch, PatchPair
from imbalanceseg.training.pruned_agreement import PrunedAgreementLearning
from imbalanceseg.training.recipe import Action, MeanTeacher, PrunedAgreement, Recipe
from imbalanceseg.training.recipe_files import read_recipe
from imbalanceseg.training.train import start_run, train
from imbalanceseg.training.unlabelled import (
    Step,
    average_into,
    class_logits,
    class_probabilities,
)

from .balls import write_balls

WAYS = {
    "mean_teacher": MeanTeacher(kind="mean_teacher"),
    "pruned_agreement": PrunedAgreement(kind="pruned_agreement", after=0.0, sure=0.5),
    "action": Action(kind="action", anchors=6, channels=16, queries=16, negatives=8),
}


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return create_network("unet2d", features=[4, 8, 16], out_channels=3, dropout=0.0)


def learning(kind: str, network: nn.Module):
    plan = SimpleNamespace(channel_names=("MR",), patch=(32, 32), labels={1: "a", 2: "b"})
    made = learning_of(Recipe(unlabelled=WAYS[kind]), network, plan)
    assert made is not None
    return made.train()


def a_step(share: float, supervised=None) -> Step:
    draw = torch.Generator().manual_seed(1)
    image = torch.rand(2, 1, 32, 32, generator=draw)
    label = torch.randint(0, 3, (2, 1, 32, 32), generator=draw).to(torch.uint8)
    label[:, :, :4] = 255
    weak = torch.rand(2, 1, 32, 32, generator=draw)
    pair = PatchPair(weak, weak + 0.1 * torch.rand(2, 1, 32, 32, generator=draw))

    def loss(output, batch):
        finest = output if isinstance(output, torch.Tensor) else output[0]
        return nn.functional.cross_entropy(finest, batch.label[:, 0].long(), ignore_index=255)

    batch = PatchBatch(image, label, (label == 1).int())
    return Step(batch, pair, share, supervised or loss, nullcontext)


class TestTeacher:
    def test_after_a_step_it_has_moved_by_a_hundredth(self):
        average, network = small_network(), small_network()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(1.0)
        before = [p.clone() for p in average.parameters()]
        average_into(average, network, 0.99)
        for old, new, own in zip(before, average.parameters(), network.parameters(), strict=True):
            torch.testing.assert_close(new, 0.99 * old + 0.01 * own)

    def test_buffers_are_copied(self):
        average, network = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        network.running_mean.fill_(5.0)
        average_into(average, network, 0.99)
        assert torch.equal(average.running_mean, network.running_mean)

    @pytest.mark.parametrize("kind", WAYS)
    @pytest.mark.parametrize("share", [0.1, 0.4, 0.9])
    def test_only_the_student_and_its_heads_learn(self, kind, share):
        network = small_network().train()
        way = learning(kind, network)
        for step in (a_step(share), a_step(share)):
            loss = way.loss(network, step)
        assert loss.shape == ()
        assert torch.isfinite(loss)
        loss.backward()
        assert any(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())
        assert all(p.grad is None for p in way.teacher.parameters())
        assert not way.teacher.training

    @pytest.mark.parametrize("kind", WAYS)
    def test_it_stays_in_evaluation_mode_and_follows(self, kind):
        network = small_network().train()
        way = learning(kind, network)
        before = copy.deepcopy(way.teacher.state_dict())
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.5)
        way.after_step(network, 10_000)
        for name, value in way.teacher.state_dict().items():
            own = network.state_dict()[name]
            torch.testing.assert_close(value, 0.99 * before[name] + 0.01 * own)


class TestClasses:
    def test_one_channel_is_two_classes(self):
        logits = torch.randn(2, 1, 4, 4)
        both = class_probabilities(logits)
        torch.testing.assert_close(both[:, 1], logits[:, 0].sigmoid())
        torch.testing.assert_close(both.sum(1), torch.ones(2, 4, 4))
        torch.testing.assert_close(class_logits(logits).softmax(1), both)

    def test_several_channels_are_a_softmax(self):
        logits = torch.randn(2, 3, 4, 4)
        torch.testing.assert_close(class_probabilities(logits), logits.softmax(1))


class TestMeanTeacher:
    def test_its_weight_rises(self):
        way = MeanTeacherLearning(small_network(), MeanTeacher(kind="mean_teacher", ramp=0.4))
        assert way.weight(0.0) == pytest.approx(10 * exp(-5))
        assert way.weight(0.2) == pytest.approx(10 * exp(-5 / 4))
        assert way.weight(0.4) == way.weight(1.0) == pytest.approx(10)

    def test_a_student_that_agrees_learns_from_labels_alone(self):
        network = small_network().eval()
        way = MeanTeacherLearning(network, MeanTeacher(kind="mean_teacher"))
        step = a_step(1.0)
        same = Step(
            step.batch,
            PatchPair(step.pair.weak, step.pair.weak),
            1.0,
            step.supervised,
            step.precision,
        )
        alone = step.supervised(network(step.batch.image), step.batch)
        torch.testing.assert_close(way.loss(network, same), alone)


class TestPrunedAgreement:
    def test_before_its_time_only_labels_count(self):
        settings = PrunedAgreement(kind="pruned_agreement", after=0.5)
        network = small_network().eval()
        step = a_step(0.4)
        alone = step.supervised(network(step.batch.image), step.batch)
        found = PrunedAgreementLearning(network, settings).loss(network, step)
        torch.testing.assert_close(found, alone)

    def test_where_the_copy_disagrees_nothing_is_learned(self, monkeypatch):
        network = small_network().eval()
        settings = PrunedAgreement(kind="pruned_agreement", after=0.0, sure=0.0)
        way = PrunedAgreementLearning(network, settings)
        monkeypatch.setattr(way, "_refresh", lambda share: None)
        step = a_step(0.9)
        alone = step.supervised(network(step.batch.image), step.batch)
        assert way.loss(network, step) > alone
        with torch.no_grad():
            # A copy that always says another class than the teacher.
            says = way.teacher(step.pair.weak).argmax(1)
        other = nn.functional.one_hot((says + 1) % 3, 3).float().movedim(-1, 1) * 9
        way.weakened.forward = lambda x: other
        torch.testing.assert_close(way.loss(network, step), alone)

    def test_the_copy_is_made_anew_on_schedule(self):
        network = small_network()
        way = PrunedAgreementLearning(network, PrunedAgreement(kind="pruned_agreement", every=0.1))
        seen = []
        for share in (0.0, 0.05, 0.1, 0.19, 0.25):
            way._refresh(share)
            seen.append(int(way.looks))
        assert seen == [1, 1, 2, 2, 3]


class TestAction:
    def test_the_first_stage_needs_no_labels_and_trains_no_decoder(self):
        def never(output, batch):
            raise AssertionError("no label is learned from")

        network = small_network().train()
        way = learning("action", network)
        way.loss(network, a_step(0.0, never))
        way.loss(network, a_step(0.1, never)).backward()
        assert all(p.grad is not None for p in network.down.parameters())
        rest = (*network.merge.parameters(), *network.head.parameters())
        assert all(p.grad is None for p in rest)

    def test_queues_fill_with_what_the_teacher_says(self):
        network = small_network().train()
        way = learning("action", network)
        way.loss(network, a_step(0.0))
        assert (len(way.images.anchors()), len(way.windows.anchors())) == (2, 0)
        way.loss(network, a_step(0.3))
        assert (len(way.images.anchors()), len(way.windows.anchors())) == (4, 6)

    def test_windows_are_half_the_patch_and_overlap(self):
        way = ActionLearning(small_network(), WAYS["action"], 1, 2, 2)
        assert way._window_parts(torch.randn(2, 3, 32, 32)).shape == (2 * 9, 3, 8, 8)

    def test_cut_and_mixed_keeps_image_and_class_together(self):
        says = torch.stack([torch.full((16, 16), n) for n in range(3)])
        image, sure = says[:, None].float(), says.float() / 10
        mixed, classes, confidence = _cut_and_mixed(image, says, sure)
        assert torch.equal(mixed[:, 0], classes.float())
        torch.testing.assert_close(confidence, classes.float() / 10)
        assert 0 < (classes != says).float().mean() < 0.3

    @pytest.mark.parametrize(
        ("name", "settings", "axes"),
        [
            ("unet2d", {"features": [4, 8, 16]}, 2),
            ("unet2d5", {"features": 4}, 3),
            ("nnunet", {"kernels": [[3] * 3] * 3, "strides": [[1] * 3, [2] * 3, [2] * 3],
                        "features": [4, 8, 8], "deep_supervision": True}, 3),
        ],
    )  # fmt: skip
    def test_every_stage_of_2d_and_25d_networks(self, name, settings, axes):
        network = create_network(name, out_channels=1, **settings).train()
        way = ActionLearning(network, WAYS["action"], 1, 1, axes).train()
        sides = [2 * n for n in network.multiples()]
        shape = (2, 1, *sides)
        label = torch.randint(0, 2, shape).to(torch.uint8)
        label[..., 0] = 255
        batch = PatchBatch(torch.rand(shape), label, label.int())
        pair = PatchPair(torch.rand(shape), torch.rand(shape))

        def supervised(output, batch):
            logits = output if isinstance(output, torch.Tensor) else output[0]
            return logits.float().square().mean()

        for share in (0.0, 0.1, 0.3, 0.4, 0.6, 0.99):
            loss = way.loss(network, Step(batch, pair, share, supervised, nullcontext))
            assert torch.isfinite(loss)
            loss.backward()

    def test_a_network_without_levels_is_refused(self):
        with pytest.raises(ModelError, match="no encoder and decoder"):
            level_channels(nn.Conv2d(1, 1, 1), 1)

    def test_levels_are_what_the_network_makes(self):
        network = small_network().eval()
        x = torch.rand(1, 1, 16, 16)
        seen = run_with_levels(network, x)
        assert torch.equal(seen.output, network(x))
        assert [tuple(one.shape[1:]) for one in seen.decoded] == [(8, 8, 8), (4, 16, 16)]
        assert level_channels(network, 1) == (16, [8, 4])
        assert not network.down[0]._forward_hooks


@pytest.fixture(scope="module")
def few_and_many(tmp_path_factory) -> tuple[Path, Path]:
    """Three labelled flat balls, and six images without labels."""
    folder = tmp_path_factory.mktemp("data")
    labelled = write_balls(folder / "few", cases=3, flat=True)
    many = write_balls(folder / "many", cases=6, flat=True) / "imagesTr"
    return labelled, many


SMALL = """
network: {{name: unet2d, settings: {{features: [4, 8, 16], dropout: 0.0}}}}
supervision: {{kind: output}}
optimizer: {{name: adamw, learning_rate: 3e-3}}
unlabelled: {{kind: {kind}}}
ema: 0.9
batch: 2
validate_every: 5
{more}
"""


def recipe_of(folder: Path, kind: str, more: str = "") -> Recipe:
    path = folder / f"{kind}.yaml"
    path.write_text(SMALL.format(kind=kind, more=more))
    return read_recipe(path)


class TestTraining:
    @pytest.mark.slow
    @pytest.mark.parametrize("kind", WAYS)
    def test_it_trains_and_goes_on_after_an_interruption(
        self, few_and_many, tmp_path, monkeypatch, kind
    ):
        labelled, many = few_and_many
        recipe = recipe_of(tmp_path, kind, "hard_samples: {sparsities: [0.5], after: 0.4}")
        whole, cut = tmp_path / "whole", tmp_path / "cut"
        for folder in (whole, cut):
            folder.mkdir()
            start_run(labelled, folder, recipe, unlabelled=many, iterations=15)
        train(whole, "cpu")
        original, steps = trainer.Trainer._step, []

        def stopping(self, batch, pair):
            steps.append(1)
            if len(steps) == 12:
                raise KeyboardInterrupt
            return original(self, batch, pair)

        with monkeypatch.context() as patch:
            patch.setattr(trainer.Trainer, "_step", stopping)
            with pytest.raises(KeyboardInterrupt):
                train(cut, "cpu")
        train(cut, "cpu")
        one, other = (load_file(f / "fold_0" / "checkpoint.safetensors") for f in (whole, cut))
        assert one.keys() == other.keys()
        assert any(name.startswith("learning.teacher.") for name in one)
        for name, value in one.items():
            # Two whole trainings differ by a tenth of this, by rounding.
            torch.testing.assert_close(value, other[name], atol=1e-4, rtol=0)
        assert np.isfinite(read_log(whole / "fold_0" / "log.csv")["loss"]).all()

    def test_without_unlabelled_images_it_is_told(self, few_and_many, tmp_path):
        with pytest.raises(InputError) as caught:
            start_run(few_and_many[0], tmp_path, recipe_of(tmp_path, "action"), "action")
        assert caught.value.code == "unlabelled-missing"

    def test_unlabelled_images_that_no_recipe_uses_are_told(self, few_and_many, tmp_path):
        labelled, many = few_and_many
        with pytest.raises(InputError) as caught:
            start_run(labelled, tmp_path, read_recipe("default"), unlabelled=many)
        assert caught.value.code == "unlabelled-unused"

    def test_the_command_takes_their_folder(self, few_and_many, tmp_path, capsys):
        labelled, many = few_and_many
        recipe_of(tmp_path, "mean_teacher")
        run = tmp_path / "run"
        given = ["train", str(labelled), "-o", str(run), "--progress", "none"]
        given += ["--recipe", str(tmp_path / "mean_teacher.yaml"), "--iterations", "5"]
        assert main([*given, "--unlabelled", str(tmp_path / "nowhere")]) == 2
        assert "error[dataset-missing]" in capsys.readouterr().err
        assert main([*given, "--unlabelled", str(many)]) == 0
        assert json.loads((run / "run.json").read_text())["unlabelled"] == str(many.resolve())

    @pytest.mark.parametrize("name", ["action", "mean-teacher"])
    def test_the_shipped_recipes_learn_from_them(self, name):
        assert read_recipe(name).unlabelled is not None

    def test_a_checkpoint_of_another_way_is_refused(self, few_and_many, tmp_path):
        labelled, many = few_and_many
        run = tmp_path / "run"
        run.mkdir()
        start_run(labelled, run, recipe_of(tmp_path, "mean_teacher"), unlabelled=many, iterations=5)
        train(run, "cpu")
        network = small_network()
        state = trainer.TrainingState(
            network,
            copy.deepcopy(network),
            torch.optim.AdamW(network.parameters()),
            trainer.Standing(),
            learning=learning("action", network),
        )
        with pytest.raises(InputError) as caught:
            load_checkpoint(state, run / "fold_0" / "checkpoint.safetensors")
        assert caught.value.code == "checkpoint-damaged"


class TestImages:
    def test_labels_beside_them_are_not_looked_at(self, few_and_many):
        labelled, _ = few_and_many
        found = open_unlabelled(labelled, open_dataset(labelled))
        assert len(found.cases) == 3
        assert all(case.label is None for case in found.cases)

    def test_a_folder_of_images_will_do(self, few_and_many):
        labelled, many = few_and_many
        assert len(open_unlabelled(many, open_dataset(labelled)).cases) == 6

    def test_an_empty_folder_is_told(self, few_and_many, tmp_path):
        with pytest.raises(InputError) as caught:
            open_unlabelled(tmp_path, open_dataset(few_and_many[0]))
        assert caught.value.code == "dataset-empty"
