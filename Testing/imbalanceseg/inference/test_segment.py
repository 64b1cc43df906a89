from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from imbalanceseg.errors import Cancelled, InputError, ModelError
from imbalanceseg.geometry import Grid, image_from_array, resample
from imbalanceseg.inference import predict
from imbalanceseg.inference.maps import maps_of_tile
from imbalanceseg.inference.segment import segment
from imbalanceseg.io import read_image
from imbalanceseg.labels import AIRWAY_TREE
from imbalanceseg.networks import create_network

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
TURN = np.deg2rad(20)
OBLIQUE = (np.cos(TURN), -np.sin(TURN), 0.0, np.sin(TURN), np.cos(TURN), 0.0, 0.0, 0.0, 1.0)
BALLS = (((14.0, 15.0, 12.0), 7.0), ((24.0, 22.0, 23.0), 4.0))
"""Centres (LPS mm) and radii of what is dark."""


def dark(grid: Grid, balls=BALLS) -> np.ndarray:
    """Where a voxel's centre lies in a ball; bool ``[Z, Y, X]``."""
    index = np.stack(np.indices(grid.size[::-1])[::-1], axis=-1)
    points = grid.index_to_physical(index)
    return np.any([np.linalg.norm(points - c, axis=-1) < r for c, r in balls], axis=0)


def picture(grid: Grid, balls=BALLS) -> sitk.Image:
    """200 everywhere, 0 in the balls; int16."""
    return image_from_array(np.where(dark(grid, balls), 0, 200).astype(np.int16), grid)


def upright(side: int = 32) -> Grid:
    return Grid((side,) * 3, (1.0,) * 3, (0.0,) * 3, IDENTITY)


def voxels(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


@pytest.fixture(scope="module")
def image() -> sitk.Image:
    return picture(upright())


@pytest.fixture(scope="module")
def result(image, dark_model):
    return segment(image, dark_model, device="cpu", maps=())


@pytest.fixture(scope="module")
def textured() -> sitk.Image:
    """Noise that random weights have something to say about."""
    values = np.random.default_rng(0).uniform(0, 200, (32, 32, 32))
    return image_from_array(values.astype(np.float32), upright())


def test_dark_voxels_are_segmented(result, image):
    assert dice(voxels(result.labels) == 1, dark(upright())) == 1.0
    assert set(np.unique(voxels(result.labels))) == {0, 1}
    assert result.labels.GetPixelID() == sitk.sitkUInt8
    assert Grid.of(result.labels) == Grid.of(image)


def test_the_result_says_what_made_it(result, dark_model):
    assert result.segments == (AIRWAY_TREE,)
    assert (result.model_name, result.model_version) == ("dark-things", "0.1.0")
    assert result.device == "cpu"
    assert result.backend.startswith(("OpenVINO", "PyTorch"))
    stages = ["crop", "resample", "load", "blend", "fine", "restore", "post-process"]
    assert list(result.seconds) == stages
    assert all(value >= 0 for value in result.seconds.values())
    assert result.notes == ()


@pytest.mark.parametrize(
    "grid",
    [
        Grid((32, 32, 32), (1.0, 1.0, 1.0), (6.0, -6.0, 0.0), OBLIQUE),
        Grid((44, 46, 13), (0.72, 0.7, 2.5), (0.0, 0.0, 0.0), IDENTITY),
        Grid((24, 26, 22), (1.3, 1.3, 1.5), (0.0, 0.0, 0.0), IDENTITY),
    ],
    ids=["oblique", "anisotropic", "coarse"],
)
def test_the_result_lies_on_the_image_s_own_grid(grid, dark_model):
    found = segment(picture(grid), dark_model, maps=())
    for made in (found.labels, found.probability):
        assert Grid.of(made) == grid
    assert dice(voxels(found.labels) == 1, dark(grid)) > 0.9


@pytest.mark.parametrize("order", ["RAS", "PIR", "SLA", "LPI"])
def test_flipped_and_permuted_copies_get_the_same_voxels(order, image, result, dark_model):
    copy = sitk.DICOMOrient(image, order)
    assert Grid.of(copy) != Grid.of(image)
    found = segment(copy, dark_model, maps=())
    assert Grid.of(found.labels).same_as(Grid.of(copy))
    back = voxels(resample(found.labels, Grid.of(image), "nearest"))
    assert dice(back == 1, voxels(result.labels) == 1) > 0.99


@pytest.mark.parametrize("order", ["RAS", "PIR", "SLA"])
def test_flipped_and_turned_copies_get_the_same_labels_bit_for_bit(order, textured, random_model):
    first = segment(textured, random_model)
    found = segment(sitk.DICOMOrient(textured, order), random_model)
    for name in ("labels", "probability", "hardness", "attention"):
        back = resample(getattr(found, name), Grid.of(textured), "nearest")
        np.testing.assert_array_equal(voxels(back), voxels(getattr(first, name)))


def test_a_copy_that_is_only_tagged_oblique_gets_the_same_voxels(textured, random_model):
    first = segment(textured, random_model)
    tagged = sitk.Image(textured)
    tagged.SetDirection(OBLIQUE)
    found = segment(tagged, random_model)
    assert Grid.of(found.labels) == Grid.of(tagged)
    np.testing.assert_array_equal(voxels(found.labels), voxels(first.labels))
    np.testing.assert_allclose(voxels(found.probability), voxels(first.probability), atol=1e-4)


@pytest.mark.slow
def test_a_real_ct_is_segmented_alike_however_it_is_stored(data_folder):
    ct = read_image(data_folder / "ct_dicom_20_slices" / "example_ct_sm.nii.gz")
    grid = Grid.of(ct)
    middle = grid.index_to_physical((np.array(grid.size) - 1) / 2)
    # Around the bronchi of these slices.
    middle = middle + np.array((-10, 20, 15))
    roi = (middle - 30, middle + 30)
    first, again = (segment(ct, "airway", maps=(), roi=roi) for _ in range(2))
    np.testing.assert_array_equal(voxels(again.labels), voxels(first.labels))
    np.testing.assert_array_equal(voxels(again.probability), voxels(first.probability))
    assert voxels(first.probability).max() > 0.1
    for order in ("RAS", "SLA"):
        found = segment(sitk.DICOMOrient(ct, order), "airway", maps=(), roi=roi)
        back = resample(found.labels, grid, "nearest")
        np.testing.assert_array_equal(voxels(back), voxels(first.labels))


def test_several_tiles_join_without_a_seam(dark_model):
    grid = upright(44)
    balls = (((22.0, 22.0, 22.0), 9.0), ((8.0, 34.0, 20.0), 5.0))
    found = segment(picture(grid, balls), dark_model, maps=())
    assert dice(voxels(found.labels) == 1, dark(grid, balls)) > 0.98


def test_an_image_smaller_than_a_tile_is_segmented(dark_model):
    grid = Grid((29, 27, 30), (1.0,) * 3, (0.0,) * 3, IDENTITY)
    found = segment(picture(grid), dark_model, maps=())
    assert Grid.of(found.labels) == grid
    assert dice(voxels(found.labels) == 1, dark(grid)) > 0.98


def test_a_very_thin_image_is_segmented(dark_model):
    grid = Grid((32, 32, 2), (1.0,) * 3, (0.0, 0.0, 12.0), IDENTITY)
    found = segment(picture(grid), dark_model, maps=("hardness",))
    assert Grid.of(found.labels) == grid
    assert np.isfinite(voxels(found.probability)).all()


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_every_pixel_type_gives_the_same_labels(kind, image, result, dark_model):
    typed = image_from_array(voxels(image).astype(kind), Grid.of(image))
    found = segment(typed, dark_model, maps=())
    np.testing.assert_array_equal(voxels(found.labels), voxels(result.labels))


def test_the_image_is_left_alone(image, dark_model):
    before, grid = sitk.Hash(image), Grid.of(image)
    segment(image, dark_model)
    assert sitk.Hash(image) == before
    assert Grid.of(image) == grid


def test_intensities_beyond_the_window_do_not_matter(image, result, dark_model):
    loud = voxels(image).astype(np.float64)
    loud[loud == 0], loud[loud == 200] = -30_000, 30_000
    found = segment(image_from_array(loud, Grid.of(image)), dark_model, maps=())
    np.testing.assert_array_equal(voxels(found.labels), voxels(result.labels))


def test_only_the_maps_asked_for_are_made(textured, random_model, result):
    assert result.hardness is None
    assert result.attention is None
    assert result.probability is not None
    attention = segment(textured, random_model, maps=("attention",))
    assert attention.hardness is None
    assert attention.attention is not None
    hardness = segment(textured, random_model, maps=("hardness",))
    assert hardness.attention is None
    assert hardness.hardness is not None


def test_maps_are_shares_on_the_image_s_grid(textured, random_model):
    found = segment(textured, random_model)
    for made in (found.probability, found.attention, found.hardness):
        assert made.GetPixelID() == sitk.sitkFloat32
        assert Grid.of(made) == Grid.of(textured)
        assert voxels(made).min() >= 0
        assert voxels(made).max() <= 1
        assert voxels(made).std() > 1e-4
    assert found.hardness != found.probability
    np.testing.assert_array_equal(voxels(found.labels), voxels(found.probability) > 0.5)


def test_hardness_is_zero_where_nothing_is_pruned(textured, random_network, make_model):
    untouched = make_model(random_network, hardness={"sparsity": 1e-9})
    assert not voxels(segment(textured, untouched, maps=("hardness",)).hardness).any()


def test_hardness_grows_with_what_is_pruned(textured, random_network, make_model):
    means = [
        voxels(
            segment(
                textured,
                make_model(random_network, hardness={"sparsity": share}),
                maps=("hardness",),
            ).hardness
        ).mean()
        for share in (0.05, 0.8)
    ]
    assert 0 < means[0] < means[1]


def test_making_maps_does_not_change_the_probability(textured, random_model):
    alone = segment(textured, random_model, maps=())
    beside = segment(textured, random_model)
    np.testing.assert_allclose(voxels(alone.probability), voxels(beside.probability), atol=0.01)


def test_two_runs_are_the_same_bit_for_bit(textured, random_model):
    first, second = (segment(textured, random_model) for _ in range(2))
    for name in ("labels", "probability", "attention", "hardness"):
        np.testing.assert_array_equal(voxels(getattr(first, name)), voxels(getattr(second, name)))


def test_mirroring_averages_and_repeats(textured, random_model):
    plain = segment(textured, random_model, maps=())
    first, second = (segment(textured, random_model, maps=(), tta=True) for _ in range(2))
    np.testing.assert_array_equal(voxels(first.probability), voxels(second.probability))
    gap = np.abs(voxels(first.probability) - voxels(plain.probability))
    assert 0 < gap.max() < 0.5
    mirrored = sitk.GetImageFromArray(voxels(textured)[:, :, ::-1].copy())
    again = segment(mirrored, random_model, maps=(), tta=True)
    np.testing.assert_allclose(
        voxels(again.probability)[:, :, ::-1], voxels(first.probability), atol=1e-3
    )


def test_mirroring_leaves_what_is_symmetric(image, result, dark_model):
    found = segment(image, dark_model, maps=(), tta=True)
    np.testing.assert_array_equal(voxels(found.labels), voxels(result.labels))


@pytest.mark.parametrize("corners", [(0, 1), (1, 0)], ids=["rising", "falling"])
def test_a_region_restricts_the_labels(corners, image, dark_model):
    box = ((1.0, 2.0, 0.0), (30.0, 31.0, 15.0))
    found = segment(image, dark_model, maps=(), roi=tuple(box[n] for n in corners))
    labels = voxels(found.labels) == 1
    assert Grid.of(found.labels) == Grid.of(image)
    inside = np.zeros_like(labels)
    inside[0:16, 2:32, 1:31] = True
    assert not labels[~inside].any()
    assert dice(labels, dark(upright()) & inside) > 0.98


def test_a_region_reaching_beyond_the_image_is_cut(image, result, dark_model):
    found = segment(image, dark_model, maps=(), roi=((-500, -500, -500), (500, 500, 500)))
    np.testing.assert_array_equal(voxels(found.labels), voxels(result.labels))


@pytest.mark.parametrize(
    "roi",
    [
        ((100, 100, 100), (120, 120, 120)),
        ((-90, 0, 0), (-50, 30, 30)),
    ],
)
def test_a_region_outside_is_refused(roi, image, dark_model):
    with pytest.raises(InputError) as refused:
        segment(image, dark_model, roi=roi)
    assert refused.value.code == "roi-outside"


@pytest.mark.parametrize(
    "roi",
    [
        (1, 2, 3),
        ((0, 0), (9, 9)),
        ((0, 0, 0),),
        (("a", 0, 0),) * 2,
        (),
        ((np.nan, 0, 0), (10, 10, 10)),
        ((0, 0, 0), (np.inf, 10, 10)),
    ],
    ids=str,
)
def test_what_is_no_region_is_refused(roi, image, dark_model):
    with pytest.raises(InputError) as refused:
        segment(image, dark_model, roi=roi)
    assert refused.value.code == "roi-invalid"


def test_wrong_wishes_are_named(image, dark_model):
    for changes, code in (
        ({"maps": ("hardness", "beauty")}, "map-unknown"),
        ({"maps": "hardness"}, "map-unknown"),
        ({"device": "abacus"}, "device-unknown"),
        ({"device": "cuda:99"}, "device-missing"),
    ):
        with pytest.raises(InputError) as refused:
            segment(image, dark_model, **changes)
        assert refused.value.code == code


def test_wrong_images_are_refused(dark_model):
    flat = sitk.Image(32, 32, 32, sitk.sitkInt16)
    holes = voxels(picture(upright())).astype(np.float32)
    holes[3, 4, 5] = np.nan
    stretched = picture(upright())
    stretched.SetSpacing((0.8, 0.8, 2.0**32))
    for wrong, code in (
        (sitk.Image(32, 32, sitk.sitkInt16), "image-not-3d"),
        (flat, "image-constant"),
        (sitk.GetImageFromArray(holes), "image-not-finite"),
        (stretched, "image-too-large"),
    ):
        with pytest.raises(InputError) as refused:
            segment(wrong, dark_model)
        assert refused.value.code == code


def test_an_unknown_model_is_refused(image, tmp_path):
    with pytest.raises(ModelError) as refused:
        segment(image, tmp_path / "nowhere")
    assert refused.value.code == "model-unknown"


def test_a_model_can_be_given_by_its_folder(image, result, dark_model):
    for name in (dark_model.path, str(dark_model.path)):
        found = segment(image, name, maps=())
        np.testing.assert_array_equal(voxels(found.labels), voxels(result.labels))


def test_progress_counts_every_tile_once(dark_model, monkeypatch):
    events = []
    calls = 0

    def counted(*arguments):
        nonlocal calls
        calls += 1
        return maps_of_tile(*arguments)

    monkeypatch.setattr(predict, "maps_of_tile", counted)
    segment(picture(upright(40)), dark_model, maps=(), progress=events.append)
    stages = list(dict.fromkeys(event.stage for event in events))
    assert stages == ["prepare", "tiles", "restore"]
    for stage in stages:
        steps = [event for event in events if event.stage == stage]
        done = [event.done for event in steps]
        assert done == list(range(steps[0].total + 1))
        assert {event.total for event in steps} == {steps[0].total}
    assert calls == max(event.total for event in events) == 8


@pytest.mark.parametrize("stage", ["prepare", "tiles", "restore"])
@pytest.mark.parametrize("error", [Cancelled, KeyboardInterrupt])
def test_work_stops_where_it_is_cancelled(stage, error, image, dark_model):
    seen = []

    def stop(event):
        seen.append(event.stage)
        if event.stage == stage and event.done == 0:
            raise error

    with pytest.raises(error):
        segment(image, dark_model, maps=(), progress=stop)
    assert seen[-1] == stage
    assert seen.count(stage) == 1


def test_after_a_cancelled_run_the_model_still_works(image, result, dark_model):
    def stop(event):
        if event.stage == "tiles":
            raise Cancelled

    with pytest.raises(Cancelled):
        segment(image, dark_model, progress=stop)
    found = segment(image, dark_model, maps=())
    np.testing.assert_array_equal(voxels(found.labels), voxels(result.labels))


def test_finding_nothing_is_said(dark_model):
    bright = np.full((32, 32, 32), 200, np.int16)
    bright[0, 0, 0] = 190
    found = segment(image_from_array(bright, upright()), dark_model, maps=())
    assert not voxels(found.labels).any()
    assert any("found nothing" in note and "dark-things" in note for note in found.notes)


def test_without_lungs_the_whole_image_is_searched(image, result, make_model, dark_model):
    cropping = make_model(dark_model.network, crop="lungs")
    found = segment(image, cropping, maps=())
    assert any("No lungs" in note for note in found.notes)
    np.testing.assert_array_equal(voxels(found.labels), voxels(result.labels))


def test_only_the_largest_component_is_kept_when_the_card_says_so(make_model, dark_model):
    touching_at_an_edge = np.full((32, 32, 32), 200, np.int16)
    touching_at_an_edge[8:16, 8:16, 8:16] = 0
    touching_at_an_edge[8:14, 16:20, 16:20] = 0
    image = image_from_array(touching_at_an_edge, upright())
    all_of_it = voxels(segment(image, dark_model, maps=()).labels) == 1
    np.testing.assert_array_equal(all_of_it, touching_at_an_edge == 0)
    largest = make_model(dark_model.network, largest_component_of=(1,))
    kept = voxels(segment(image, largest, maps=()).labels) == 1
    expected = np.zeros_like(kept)
    expected[8:16, 8:16, 8:16] = True
    np.testing.assert_array_equal(kept, expected)


def test_the_threshold_is_the_card_s(textured, random_network, make_model):
    found = segment(textured, make_model(random_network, threshold=0.4), maps=())
    np.testing.assert_array_equal(voxels(found.labels), voxels(found.probability) > 0.4)


def test_no_gradients_are_kept(textured, random_model):
    segment(textured, random_model)
    assert all(p.grad is None for p in random_model.network.parameters())
    assert torch.is_grad_enabled()


def test_a_model_that_cannot_do_what_is_asked_says_so(image, make_model):
    plain = make_model(
        create_network("unet3d", out_channels=1),
        network={"name": "unet3d", "kwargs": {"out_channels": 1}},
    )
    without = segment(image, plain)
    assert without.attention is None
    assert without.hardness is not None
    assert any("attention" in note for note in without.notes)
    several = make_model(
        create_network("wingsnet", out_channels=3),
        network={"name": "wingsnet", "kwargs": {"out_channels": 3}},
    )
    with pytest.raises(ModelError) as refused:
        segment(image, several, maps=())
    assert refused.value.code == "model-outputs"
