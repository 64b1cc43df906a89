"""Adaptation to painted slices: from nothing, from a model, and from what cannot be used."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from imbalanceseg.annotation.annotation import Annotation
from imbalanceseg.errors import Cancelled, GeometryError, ImbalanceSegError, InputError
from imbalanceseg.inference.segment import segment
from imbalanceseg.inference.segmentation import Segmentation
from imbalanceseg.labels import UNLABELLED
from imbalanceseg.models.bundle import Model, load_model
from imbalanceseg.models.write import write_bundle
from imbalanceseg.networks.adapted import PatientHead
from imbalanceseg.progress import ProgressEvent
from imbalanceseg.training import finetune_network, finetune_rounds, finetune_run, learner
from imbalanceseg.training.finetune import FineTuned, finetune
from imbalanceseg.training.finetune_network import Begun
from imbalanceseg.training.patient import Patient

from . import painted as phantoms

QUICK = {"seconds": 600.0, "iterations": 60, "device": "cpu", "memory_gb": 2.0}


def array(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image)


@pytest.fixture(scope="module")
def scan() -> sitk.Image:
    return phantoms.phantom()[0]


@pytest.fixture(scope="module")
def truth() -> sitk.Image:
    return phantoms.phantom()[1]


@pytest.fixture(scope="module")
def annotation(truth) -> Annotation:
    return phantoms.painted(truth)


@pytest.fixture(scope="module")
def tuned(scan, annotation) -> FineTuned:
    return finetune(scan, annotation, depth="head", **QUICK)


@pytest.fixture(scope="module")
def dark_parent(tmp_path_factory, make_card) -> Model:
    """A model that is sure of the wrong thing: it finds what is dark."""
    card = make_card(name="dark-things", **phantoms.CARD)
    return write_bundle(tmp_path_factory.mktemp("parent") / "model", phantoms.dark_network(), card)


class TestFromNothing:
    def test_three_slices_show_the_rest(self, tuned, truth, annotation) -> None:
        assert phantoms.dice_elsewhere(tuned.segmentation.labels, truth, annotation) > 0.8

    def test_the_result_lies_on_the_scan(self, tuned, scan) -> None:
        for image in (tuned.segmentation.labels, tuned.segmentation.hardness):
            assert image.GetSize() == scan.GetSize()
            assert image.GetOrigin() == scan.GetOrigin()
            assert image.GetSpacing() == scan.GetSpacing()

    def test_the_child_is_a_bundle_that_says_the_same(self, tuned, scan, tmp_path) -> None:
        tuned.save(tmp_path / "child")
        child = load_model(tmp_path / "child")
        again = segment(scan, child, device="cpu", maps=())
        agreeing = array(again.labels) == array(tuned.segmentation.labels)
        assert agreeing.mean() > 0.995
        assert child.card.adaptation is not None
        assert child.card.adaptation.slices == 3
        assert child.card.adaptation.parent == ""

    def test_what_was_painted_stands_and_its_hardness_is_the_error_there(
        self, tuned, annotation
    ) -> None:
        known = annotation.known
        labels = array(tuned.segmentation.labels)
        assert np.array_equal(labels[known], annotation.labels[known])
        wrong = abs(array(tuned.segmentation.probability) - (annotation.labels == 1))
        hardness = array(tuned.segmentation.hardness)
        np.testing.assert_allclose(hardness[known], wrong[known], atol=1e-6)

    def test_two_classes(self) -> None:
        scan, truth = phantoms.phantom(1, classes=2)
        annotation = phantoms.painted(truth, (4, 9, 14, 19, 24))
        tuned = finetune(scan, annotation, depth="head", names={1: "Low", 2: "High"}, **QUICK)
        assert [s.name for s in tuned.segmentation.segments] == ["Low", "High"]
        assert phantoms.dice_elsewhere(tuned.segmentation.labels, truth, annotation) > 0.7

    def test_the_same_seed_gives_the_same_labels(self, scan, annotation, tuned) -> None:
        again = finetune(scan, annotation, depth="head", **QUICK)
        assert np.array_equal(array(again.segmentation.labels), array(tuned.segmentation.labels))

    def test_a_network_can_be_trained_from_nothing(self, scan, truth, annotation) -> None:
        tuned = finetune(scan, annotation, depth="all", **QUICK | {"iterations": 15})
        assert {step.stage for step in tuned.history} >= {"network", "round 1"}
        assert tuned.model.card.network.kwargs["base"]["name"] == "unet3d"
        assert phantoms.dice_elsewhere(tuned.segmentation.labels, truth, annotation) > 0.7


def test_what_is_not_labelled_is_not_looked_at(scan, truth, annotation, tuned) -> None:
    """Under 255 nothing can leak: the labels come from an image whose other voxels are random."""
    noise = np.random.default_rng(3).integers(0, 2, annotation.labels.shape)
    labels = np.where(annotation.known, annotation.labels, noise).astype(np.uint8)
    other = Annotation.of(scan)
    for one in annotation.confirmed:
        other.paint_slice(one.axis, one.index, labels[one.index])
    again = finetune(scan, other, depth="head", **QUICK)
    assert np.array_equal(array(again.segmentation.labels), array(tuned.segmentation.labels))


@pytest.mark.parametrize("depth", ["head", "decoder", "all"])
def test_a_model_that_starts_wrong_is_put_right(
    depth, scan, truth, annotation, dark_parent
) -> None:
    before = segment(scan, dark_parent, device="cpu", maps=())
    tuned = finetune(scan, annotation, dark_parent, depth=depth, **QUICK)
    start = phantoms.dice_elsewhere(before.labels, truth, annotation)
    assert phantoms.dice_elsewhere(tuned.segmentation.labels, truth, annotation) > start + 0.5


def test_the_parent_stays_as_it_is(scan, annotation, dark_parent) -> None:
    weights = {k: v.clone() for k, v in dark_parent.network.state_dict().items()}
    tuned = finetune(scan, annotation, dark_parent, depth="all", **QUICK)
    assert all((dark_parent.network.state_dict()[k] == v).all() for k, v in weights.items())
    load_model(dark_parent.path).verify()
    adaptation = tuned.model.card.adaptation
    assert adaptation.parent.startswith("dark-things ")
    assert adaptation.parent_sha256 == dark_parent.card.weights[0].sha256


def test_a_threshold_far_from_half_does_not_cut_off_what_was_painted(
    scan, truth, annotation, dark_parent
) -> None:
    strict = Model(dark_parent.path, dark_parent.card.model_copy(update={"threshold": 0.97}))
    tuned = finetune(scan, annotation, model=strict, depth="head", **QUICK)
    assert tuned.model.card.threshold == 0.5
    assert phantoms.dice_elsewhere(tuned.segmentation.labels, truth, annotation) > 0.8
    assert strict.card.threshold == 0.97


@pytest.mark.parametrize("with_parent", [False, True])
def test_what_is_not_kept_in_memory_is_computed_again(
    with_parent, scan, annotation, dark_parent, monkeypatch
) -> None:
    parent = dark_parent if with_parent else None
    kept = finetune(scan, annotation, parent, depth="head", **QUICK)
    monkeypatch.setattr(learner, "_CACHE_SHARE", 0.0)
    again = finetune(scan, annotation, parent, depth="head", **QUICK)
    same = array(kept.segmentation.labels) == array(again.segmentation.labels)
    assert same.mean() > 0.999


def test_one_click_changes_little_of_what_a_model_is_sure_of(scan, dark_parent) -> None:
    before = segment(scan, dark_parent, device="cpu", maps=())
    annotation = Annotation.of(scan)
    annotation.click(scan.TransformContinuousIndexToPhysicalPoint((20.0, 20.0, 14.0)), 0, 1.0)
    tuned = finetune(scan, annotation, dark_parent, depth="head", **QUICK)
    agreeing = array(before.labels) == array(tuned.segmentation.labels)
    assert agreeing.mean() > 0.9


@pytest.mark.parametrize("depth", ["head", "all"])
def test_previews_come_before_the_end_and_change_nothing(
    depth, scan, truth, annotation, dark_parent, tuned
) -> None:
    parent = dark_parent if depth == "all" else None
    told: list[str] = []
    shown: list[sitk.Image] = []

    def show(segmentation: Segmentation) -> None:
        told.append("preview")
        shown.append(segmentation.labels)

    again = finetune(
        scan, annotation, parent, depth, progress=lambda e: told.append(e.stage), preview=show,
        **QUICK,
    )  # fmt: skip
    assert len(shown) > 1
    assert told.index("preview") < len(told) - 1 - told[::-1].index("finetune")
    for labels in shown:
        assert labels.GetSize() == scan.GetSize()
        assert phantoms.dice_elsewhere(labels, truth, annotation) > 0.6
    without = tuned if parent is None else finetune(scan, annotation, parent, depth, **QUICK)
    assert np.array_equal(array(again.segmentation.labels), array(without.segmentation.labels))


class TestHeldOut:
    """From four slices on, one judges a second head that never sees it."""

    SLICES = (5, 10, 15, 20)

    @pytest.fixture
    def judged(self, monkeypatch):
        monkeypatch.setattr(finetune_rounds, "FOREGROUND_TO_JUDGE_BY", 20)

    def test_its_dice_is_told_and_what_is_learned_does_not_change(
        self, scan, truth, judged, monkeypatch
    ) -> None:
        annotation = phantoms.painted(truth, self.SLICES)
        told: list[ProgressEvent] = []
        tuned = finetune(scan, annotation, depth="head", progress=told.append, **QUICK)
        dice = tuned.model.card.adaptation.held_out_dice
        assert 0.7 < dice <= 1
        known = [e.metrics["held_out_dice"] for e in told if "held_out_dice" in e.metrics]
        assert all(0 <= one <= 1 for one in known)
        assert len(set(known)) > 1
        assert all("loss" in e.metrics for e in told if e.stage == "finetune")
        assert any(step.held_out_dice is not None for step in tuned.history)
        monkeypatch.setattr(finetune_rounds, "FOREGROUND_TO_JUDGE_BY", 10**6)
        without = finetune(scan, annotation, depth="head", **QUICK)
        assert without.model.card.adaptation.held_out_dice is None
        rounds = len(tuned.model.network.head.rounds)
        assert rounds <= len(without.model.network.head.rounds)
        some = tuned.model.network.head.rounds.state_dict()
        others = without.model.network.head.rounds.state_dict()
        assert all(torch.equal(value, others[name]) for name, value in some.items())

    def test_rounds_that_are_clearly_worse_go(self, scan, truth, judged, monkeypatch) -> None:
        dice = iter([0.5, 0.8, 0.6, 0.65])
        monkeypatch.setattr(learner.Learner, "held_out_dice", lambda self, number: next(dice))
        tuned = finetune(scan, phantoms.painted(truth, self.SLICES), depth="head", **QUICK)
        assert len(tuned.model.network.head.rounds) == 2
        assert tuned.model.card.adaptation.held_out_dice == 0.8

    def test_three_slices_spare_none(self, scan, annotation, judged) -> None:
        settings = QUICK | {"iterations": 2}
        tuned = finetune(scan, annotation, depth="head", **settings)
        assert tuned.model.card.adaptation.held_out_dice is None

    def test_a_network_never_sees_it(self, scan, truth, judged, monkeypatch) -> None:
        seen: list[torch.Tensor] = []

        def train_network(network, painted, **settings):
            seen.append(painted.labels)
            return Begun(0, 0.0, {})

        monkeypatch.setattr(finetune_run, "train_network", train_network)
        slices = (4, 8, 12, 16, 20, 24)
        settings = QUICK | {"iterations": 2}
        finetune(scan, phantoms.painted(truth, slices), depth="all", **settings)
        axis = int(np.argmin(np.abs(np.array(seen[0].shape) - len(array(scan)))))
        known = (seen[0] != UNLABELLED).movedim(axis, 0).flatten(1).any(1)
        assert int(known.sum()) == len(slices) - 1


def test_a_tiled_scan_is_answered_as_a_whole(scan, dark_parent) -> None:
    """And without a copy of what the network sees of it."""
    large = sitk.GetImageFromArray(np.tile(array(scan), (3, 1, 1))[:-3, 2:])
    patient = Patient(large, dark_parent, 2**31)
    spec = dark_parent.card.network
    patient.look(dark_parent.network, spec, "cpu", lambda event: None)
    head = PatientHead(1, patient.features, 1, patient.spacing_mm, rounds=2).eval()
    draw = torch.Generator().manual_seed(3)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=draw)
    whole = patient.probabilities(head)
    assert whole.shape[1:] == patient.volume.shape[2:]
    patient.budget = 1
    assert len(patient.tiles(head)) > 1
    assert patient.padded_shape(head)[0] != tuple(patient.volume.shape[2:])
    torch.testing.assert_close(patient.probabilities(head), whole, atol=2e-3, rtol=0)


def test_time_ends_it(scan, annotation) -> None:
    tuned = finetune(scan, annotation, depth="head", seconds=0.5, device="cpu", memory_gb=2.0)
    assert tuned.segmentation.labels.GetSize() == scan.GetSize()


def test_it_can_be_cancelled(scan, annotation) -> None:
    def stop(event: ProgressEvent) -> None:
        if event.stage == "finetune":
            raise Cancelled()

    with pytest.raises(Cancelled):
        finetune(scan, annotation, depth="head", progress=stop, **QUICK)


def test_what_is_cancelled_late_keeps_the_best_so_far(scan, annotation) -> None:
    def stop(event: ProgressEvent) -> None:
        if event.stage == "finetune" and event.done == 1:
            raise Cancelled()

    tuned = finetune(scan, annotation, depth="head", progress=stop, **QUICK)
    assert len(tuned.model.network.head.rounds) == 1
    assert array(tuned.segmentation.labels).any()


def test_enough_keeps_what_the_first_round_brings(scan, annotation, monkeypatch) -> None:
    monkeypatch.setattr(finetune_network, "_FEATURES", (2, 2))
    told: list[str] = []

    def tell(event: ProgressEvent) -> None:
        told.append(event.message)

    tuned = finetune(
        scan,
        annotation,
        depth="all",
        progress=tell,
        enough=lambda: True,
        **QUICK | {"iterations": 10},
    )
    assert len(tuned.model.network.head.rounds) == 1
    assert array(tuned.segmentation.labels).any()
    assert [message for message in told if "network" in message] == told[:1]


def test_enough_later_drops_the_round_that_goes_on(scan, annotation) -> None:
    done: list[int] = []

    def tell(event: ProgressEvent) -> None:
        done.append(event.done)

    tuned = finetune(
        scan,
        annotation,
        depth="head",
        progress=tell,
        enough=lambda: done[-1:] == [2],
        **QUICK,
    )
    assert len(tuned.model.network.head.rounds) == 2
    assert done.count(2) == 1


class TestRefused:
    def refused(self, scan, annotation, code, model=None, **settings) -> ImbalanceSegError:
        with pytest.raises(ImbalanceSegError) as caught:
            finetune(scan, annotation, model, **QUICK | settings)
        assert caught.value.code == code
        assert caught.value.hint
        return caught.value

    def test_nothing_labelled(self, scan) -> None:
        self.refused(scan, Annotation.of(scan), "annotation-empty")

    def test_background_alone_without_a_model(self, scan) -> None:
        annotation = Annotation.of(scan)
        annotation.confirm(2, 3)
        assert "background" in str(self.refused(scan, annotation, "annotation-one-class"))

    def test_foreground_alone_without_a_model(self, scan) -> None:
        annotation = Annotation.of(scan)
        annotation.labels[3, 4, 5] = 1
        assert "foreground" in str(self.refused(scan, annotation, "annotation-one-class"))

    def test_a_class_that_the_model_does_not_know(self, scan, dark_parent) -> None:
        annotation = Annotation.of(scan)
        annotation.labels[3, 4, 5] = 2
        self.refused(scan, annotation, "annotation-class-unknown", dark_parent)

    def test_another_grid(self, scan, annotation) -> None:
        moved = sitk.Image(scan)
        moved.SetOrigin((0.0, 0.0, 0.0))
        with pytest.raises(GeometryError) as caught:
            finetune(moved, annotation, **QUICK)
        assert caught.value.code == "grid-mismatch"

    def test_another_depth(self, scan, annotation) -> None:
        self.refused(scan, annotation, "depth-unknown", depth="deeper")

    @pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
    def test_no_time(self, scan, annotation, seconds) -> None:
        self.refused(scan, annotation, "time-invalid", seconds=seconds)

    def test_a_2d_model(self, scan, annotation, tmp_path, make_card) -> None:
        from imbalanceseg.networks import create_network

        card = make_card(
            network={"name": "unet2d", "kwargs": {"features": (4, 8)}},
            spacing_mm=(1.0, 1.0),
            tile_voxels=(32, 32),
            axes=(0, 1),
            mirrored_axes=(),
            crop="none",
        )
        model = write_bundle(tmp_path / "flat", create_network("unet2d", features=(4, 8)), card)
        with pytest.raises(InputError):
            finetune(scan, annotation, model, **QUICK)


def test_everything_labelled_is_learned_too(scan, truth) -> None:
    annotation = phantoms.painted(truth, range(phantoms.SHAPE[0]))
    assert (annotation.labels != UNLABELLED).all()
    tuned = finetune(scan, annotation, depth="head", **QUICK)
    p, g = array(tuned.segmentation.labels), array(truth)
    assert 2 * ((p > 0) & (g > 0)).sum() / ((p > 0).sum() + (g > 0).sum()) > 0.8
