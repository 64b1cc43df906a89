"""Clicks: what was meant changes, and nothing else does."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from imbalanceseg.errors import InputError
from imbalanceseg.models.write import write_bundle
from imbalanceseg.session import Session

from . import painted as phantoms


@pytest.fixture(scope="module")
def nothing_model(tmp_path_factory, make_card):
    """A model that finds nothing anywhere."""
    network = phantoms.silent_network()
    network.head.bias.data[0] = -3.0
    card = make_card(name="nothing", **phantoms.CARD)
    return write_bundle(tmp_path_factory.mktemp("parent") / "model", network, card)


@pytest.fixture
def session(nothing_model) -> Session:
    scan, _ = phantoms.phantom(rods=0)
    session = Session(scan)
    session.segment(nothing_model, device="cpu", maps=())
    return session


@pytest.fixture(scope="module")
def balls() -> np.ndarray:
    """Numbers of the connected balls, ``[z, y, x]``."""
    import cc3d

    return cc3d.connected_components(
        sitk.GetArrayFromImage(phantoms.phantom(rods=0)[1]) > 0, connectivity=26
    )


def point_in(scan: sitk.Image, mask: np.ndarray) -> tuple[float, ...]:
    from scipy.ndimage import distance_transform_edt

    z, y, x = np.unravel_index(distance_transform_edt(mask).argmax(), mask.shape)
    return scan.TransformIndexToPhysicalPoint((int(x), int(y), int(z)))


def test_a_click_finds_the_ball_that_was_missed(session, balls) -> None:
    largest = balls == np.bincount(balls[balls > 0]).argmax()
    assert not sitk.GetArrayViewFromImage(session.result.labels).any()
    clicked = session.click(point_in(session.image, largest), 1)
    found = sitk.GetArrayFromImage(session.result.labels) > 0
    assert clicked.changed_voxels == found.sum()
    dice = 2 * (found & largest).sum() / (found.sum() + largest.sum())
    assert dice > 0.6


def test_undo_takes_it_back(session, balls) -> None:
    before = sitk.GetArrayFromImage(session.result.labels)
    session.click(point_in(session.image, balls == 1), 1)
    assert session.annotation.known.any()
    assert session.undo()
    assert np.array_equal(sitk.GetArrayFromImage(session.result.labels), before)
    assert not session.annotation.known.any()
    assert not session.undo()


def test_a_click_on_background_takes_away_what_was_found(session, balls) -> None:
    point = point_in(session.image, balls == 1)
    session.click(point, 1)
    found = sitk.GetArrayFromImage(session.result.labels)
    session.click(point, 0)
    left = sitk.GetArrayFromImage(session.result.labels)
    assert left.sum() < found.sum()
    index = session.image.TransformPhysicalPointToIndex(point)
    assert session.result.labels[index] == 0


def test_confirmed_slices_stay(session, balls) -> None:
    mask = balls == np.bincount(balls[balls > 0]).argmax()
    point = point_in(session.image, mask)
    k = session.image.TransformPhysicalPointToIndex(point)[2]
    session.annotation.confirm(2, k + 1)
    session.click(point, 1)
    assert not sitk.GetArrayViewFromImage(session.result.labels)[k + 1].any()


def test_a_click_in_a_confirmed_slice_changes_nothing(session, balls) -> None:
    point = point_in(session.image, balls == 1)
    session.annotation.confirm(2, session.image.TransformPhysicalPointToIndex(point)[2])
    assert session.click(point, 1, radius_mm=0.1).changed_voxels == 0


def test_the_clicked_voxel_gets_its_label_even_in_plain_background(session, balls) -> None:
    free = balls == 0
    point = point_in(session.image, free)
    session.click(point, 1)
    index = session.image.TransformPhysicalPointToIndex(point)
    assert session.result.labels[index] == 1


def test_the_same_click_gives_the_same_labels(nothing_model, balls) -> None:
    found = []
    for _ in range(2):
        session = Session(phantoms.phantom(rods=0)[0])
        session.segment(nothing_model, device="cpu", maps=())
        session.click(point_in(session.image, balls == 2), 1)
        found.append(sitk.GetArrayFromImage(session.result.labels))
    assert np.array_equal(*found)


@pytest.mark.parametrize("point", [(1e6, 0.0, 0.0), (float("nan"), 0.0, 0.0)])
def test_a_click_outside_is_refused_and_changes_nothing(session, point) -> None:
    with pytest.raises(InputError) as caught:
        session.click(point, 1)
    assert caught.value.code == "click-outside"
    assert not session.annotation.known.any()
    assert not session.undo()


def test_without_a_result_there_is_nothing_to_click() -> None:
    with pytest.raises(RuntimeError):
        Session(phantoms.phantom(rods=0)[0]).click((0.0, 0.0, 0.0), 1)
