"""Adaptation to painted slices: from nothing, from a model, and from what cannot be used."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from imbalanceseg.annotation.annotation import Annotation
from imbalanceseg.errors import Cancelled, GeometryError, ImbalanceSegError, InputError
from imbalanceseg.inference.segment import segment
from imbalanceseg.labels import UNLABELLED
from imbalanceseg.models.bundle import Model, load_model
from imbalanceseg.models.write import write_bundle
from imbalanceseg.progress import ProgressEvent
from imbalanceseg.training import learner
from imbalanceseg.training.finetune import FineTuned, finetune

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
    network = phantoms.silent_network()
    first, second = network.down[0][0], network.down[0][3]
    first.weight.data[0, 0, 1, 1, 1], first.bias.data[0] = -1, 1
    second.weight.data[0, 0, 1, 1, 1] = 1
    network.merge[0][0].weight.data[0, 2, 1, 1, 1] = 1
    network.merge[0][3].weight.data[0, 0, 1, 1, 1] = 1
    network.head.weight.data[0, 0], network.head.bias.data[0] = 20, -10
    card = make_card(name="dark-things", **phantoms.CARD)
    return write_bundle(tmp_path_factory.mktemp("parent") / "model", network, card)


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
        tuned = finetune(scan, annotation, depth="all", **QUICK)
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


def test_a_preview_comes_before_the_end(scan, annotation) -> None:
    shown: list[sitk.Image] = []
    finetune(scan, annotation, depth="head", preview=lambda s: shown.append(s.labels), **QUICK)
    assert shown
    assert shown[0].GetSize() == scan.GetSize()


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
