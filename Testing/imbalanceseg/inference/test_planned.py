"""Models made from a plan: they see a scan as they saw their prepared cases."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from imbalanceseg.errors import InputError
from imbalanceseg.geometry import Grid, image_from_array, resample
from imbalanceseg.inference.channels import input_channels
from imbalanceseg.inference.segment import segment
from imbalanceseg.inference.tiles import tiled_probability
from imbalanceseg.inference.working_volume import working_volume
from imbalanceseg.planning.dataset import open_dataset, read_case
from imbalanceseg.planning.prepare import prepared_arrays

from .planned import brain, flat_plan, planned_model, thick_plan, turned_grid


def voxels(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image)


def written_case(folder: Path, images: list[sitk.Image], channels: tuple[str, ...]) -> Path:
    """An nnU-Net folder with one case."""
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for number, image in enumerate(images):
        sitk.WriteImage(image, str(folder / "imagesTr" / f"a_{number:04d}.nrrd"))
    label = sitk.Cast(images[0] > 300, sitk.sitkUInt8)
    sitk.WriteImage(label, str(folder / "labelsTr" / "a.nrrd"))
    names = ", ".join(f'"{n}": "{name}"' for n, name in enumerate(channels))
    (folder / "dataset.json").write_text(
        f'{{"channel_names": {{{names}}}, "labels": {{"background": 0, "a": 1}}, '
        '"file_ending": ".nrrd"}'
    )
    return folder


@pytest.fixture(scope="module")
def images() -> list[sitk.Image]:
    return [brain(seed, turned_grid()) for seed in (1, 2)]


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """A model of three classes and two channels, and its network."""
    return planned_model(tmp_path_factory.mktemp("three") / "model", thick_plan(), 4)


@pytest.fixture(scope="module")
def flat_model(tmp_path_factory):
    return planned_model(tmp_path_factory.mktemp("flat") / "model", flat_plan(), 1)[0]


@pytest.fixture
def picture() -> sitk.Image:
    values = np.random.default_rng(4).gamma(2, 30, (50, 70)).clip(0, 255).astype(np.uint8)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((0.3, 0.3))
    image.SetDirection((0, 1, 1, 0))
    return image


@pytest.fixture(scope="module")
def result(images, three):
    return segment(images, three[0], device="cpu")


def test_the_network_sees_what_training_prepared(images, three, tmp_path) -> None:
    model, (network,) = three
    dataset = open_dataset(written_case(tmp_path / "set", images, ("T1", "FLAIR")))
    case = read_case(dataset, dataset.cases[0])
    prepared = prepared_arrays(case, thick_plan()).image
    seen, notes = working_volume(images, model.card)
    assert notes == []
    assert seen.voxels.shape[1:] == prepared.shape
    assert prepared.shape[1] < prepared.shape[2]
    np.testing.assert_allclose(seen.voxels[0].numpy(), prepared, atol=1e-5)
    trained = tiled_probability([network], torch.from_numpy(prepared)[None], thick_plan().patch)
    ours = tiled_probability(
        model.networks, seen.voxels, model.card.network_tile, model.card.tile_overlap
    )
    np.testing.assert_allclose(ours.numpy(), trained.numpy(), atol=1e-3)


def test_labels_are_the_likeliest_class_on_the_scan_s_grid(images, three, result, rounding) -> None:
    model, _ = three
    seen, _ = working_volume(images, model.card)
    tile, overlap = model.card.network_tile, model.card.tile_overlap
    maps = seen.on_grid(tiled_probability(model.networks, seen.voxels, tile, overlap))
    grid = Grid.of(images[0])
    on_scan = np.stack([voxels(resample(image_from_array(m, seen.grid), grid)) for m in maps])
    for made in (result.labels, result.probability, result.hardness):
        assert Grid.of(made) == grid
    assert result.attention is None
    assert any("attention" in note for note in result.notes)
    assert result.labels.GetPixelID() == sitk.sitkUInt8
    assert [s.name for s in result.segments] == ["core", "rim", "cyst"]
    assert set(np.unique(voxels(result.labels))) == {0, 1, 2, 3}
    agreement = (voxels(result.labels) == on_scan.argmax(0)).mean()
    assert agreement > 1 - max(0.001, rounding / 5)
    np.testing.assert_allclose(
        voxels(result.probability), on_scan[1:].sum(0), atol=max(2e-3, rounding)
    )


def test_labels_overlay_the_image_in_space(tmp_path) -> None:
    """A 1x1x1 network that tells bright from dark puts its labels where the image is bright."""
    plan = thick_plan(
        kernels=((1, 1, 1), (1, 1, 1)),
        strides=((1, 1, 1), (1, 1, 1)),
        features=(2, 2),
        labels={0: "background", 1: "dark", 2: "bright"},
        channel_names=("T1",),
        normalization=thick_plan().normalization[:1],
        patch=(9, 48, 48),
    )
    model, _ = planned_model(tmp_path / "model", plan, 3)
    grid = turned_grid()
    image = brain(5, grid)
    turned = [sitk.DICOMOrient(image, order) for order in ("LPS", "RAS", "SLA", "IRP")]
    found = [segment(copy, model, maps=()) for copy in turned]
    back = [voxels(resample(f.labels, grid, "nearest")) for f in found]
    for copy, one in zip(turned, found, strict=True):
        assert Grid.of(one.labels).same_as(Grid.of(copy))
    for one in back[1:]:
        assert (one == back[0]).mean() > 0.999
    # Where all is 0 the image was not looked at.
    empty = np.zeros(grid.size[::-1], bool)
    empty[:1], empty[:, :4], empty[:, :, -6:] = True, True, True
    shrunk = resample(image_from_array(empty.astype(np.uint8), grid), grid, "nearest")
    deep = voxels(sitk.BinaryErode(shrunk, (3, 2, 0), sitk.sitkBox)) > 0
    assert back[0][~empty].any()
    assert not back[0][deep].any()


def test_channels_are_counted_and_must_share_a_grid(images, three) -> None:
    model, _ = three
    for given, code in (
        (images[0], "channels-missing"),
        (images * 2, "channels-missing"),
        ([images[0], brain(2, turned_grid((40, 44, 8)))], "grid-mismatch"),
        ([images[0], images[1] * 0], "image-constant"),
    ):
        with pytest.raises(InputError) as refused:
            segment(given, model)
        assert refused.value.code == code
        assert refused.value.hint


def test_a_region_scales_intensities_as_the_whole_image(images, tmp_path) -> None:
    own = thick_plan(spacing_mm=(4.5, 0.9, 1.1))
    card = planned_model(tmp_path / "model", own, 4)[0].card
    whole, _ = working_volume(images, card)
    ends = [Grid.of(images[0]).index_to_physical(index) for index in ((8, 8, 2), (30, 30, 6))]
    part, _ = working_volume(images, card, (ends[0], ends[1]))
    assert all(a < b for a, b in zip(part.grid.size, whole.grid.size, strict=True))
    for mine, all_of_it in zip(
        part.on_grid(part.voxels[0]), whole.on_grid(whole.voxels[0]), strict=True
    ):
        there = resample(image_from_array(all_of_it, whole.grid), part.grid, "nearest")
        np.testing.assert_allclose(mine, voxels(there), atol=1e-4)


def test_hardness_of_several_classes_is_half_the_sum_of_differences(images, three, tmp_path):
    model, _ = three
    untouched, _ = planned_model(tmp_path / "model", thick_plan(), 4, sparsity=1e-9)
    assert not voxels(segment(images, untouched, maps=("hardness",)).hardness).any()
    hardness = voxels(segment(images, model, maps=("hardness",)).hardness)
    assert 0 < hardness.max() <= 1


def test_folds_are_averaged(images, tmp_path, rounding) -> None:
    folds, networks = planned_model(tmp_path / "folds", thick_plan(), 4, count=3)
    seen, _ = working_volume(images, folds.card)
    tile, overlap = folds.card.network_tile, folds.card.tile_overlap
    each = [tiled_probability([n], seen.voxels, tile, overlap) for n in networks]
    mean = torch.stack(each).mean(0)
    assert float((each[0] - each[1]).abs().max()) > 0.05
    ours = tiled_probability(folds.networks, seen.voxels, tile, overlap)
    np.testing.assert_allclose(ours.numpy(), mean.numpy(), atol=1e-4)
    found = segment(images, folds, maps=())
    foreground = image_from_array(seen.on_grid(mean)[1:].sum(0), seen.grid)
    expected = voxels(resample(foreground, Grid.of(images[0])))
    np.testing.assert_allclose(voxels(found.probability), expected, atol=max(0.01, rounding))


def test_mirrored_copies_are_those_of_the_card(images, tmp_path, rounding) -> None:
    model, _ = planned_model(tmp_path / "model", thick_plan(), 4, mirrored_axes=(0, 2))
    seen, _ = working_volume(images, model.card)
    axes = [axis for n in range(3) for axis in combinations((2, 4), n)]
    mean = tiled_probability(
        model.networks, seen.voxels, model.card.network_tile, model.card.tile_overlap, axes
    )
    foreground = image_from_array(seen.on_grid(mean)[1:].sum(0), seen.grid)
    expected = voxels(resample(foreground, Grid.of(images[0])))
    found = segment(images, model, maps=(), tta=True)
    np.testing.assert_allclose(voxels(found.probability), expected, atol=max(0.01, rounding))


def test_the_largest_component_is_kept_of_the_classes_named(images, result, three, tmp_path):
    import cc3d

    largest, _ = planned_model(tmp_path / "m", thick_plan(), 4, largest_component_of=(1, 3))
    kept, before = voxels(segment(images, largest, maps=()).labels), voxels(result.labels)
    np.testing.assert_array_equal(kept == 2, before == 2)
    for label in (1, 3):
        assert cc3d.connected_components(before == label, connectivity=26).max() > 1
        expected = cc3d.largest_k(before == label, k=1, connectivity=26) > 0
        np.testing.assert_array_equal(kept == label, expected)


class TestFlat:
    @pytest.fixture
    def model(self, flat_model):
        return flat_model

    def test_a_picture_is_seen_as_training_prepared_it(
        self, model, picture, tmp_path, rounding
    ) -> None:
        dataset = open_dataset(written_case(tmp_path / "set", [picture], ("fluorescence",)))
        prepared = prepared_arrays(read_case(dataset, dataset.cases[0]), flat_plan()).image
        channels = input_channels(picture, model.card, model.name)
        seen, _ = working_volume(channels, model.card)
        np.testing.assert_allclose(seen.voxels[0].numpy(), prepared, atol=1e-5)
        probability = tiled_probability(
            model.networks, seen.voxels, model.card.network_tile, model.card.tile_overlap
        )
        found = segment(picture, model)
        np.testing.assert_allclose(voxels(found.probability), probability[0].numpy(), atol=rounding)
        for made in (found.labels, found.probability, found.hardness):
            assert made.GetDimension() == 2
            assert made.GetSize() == picture.GetSize()
            assert made.GetSpacing() == picture.GetSpacing()
            assert made.GetDirection() == picture.GetDirection()
        np.testing.assert_array_equal(voxels(found.labels), voxels(found.probability) > 0.5)

    def test_every_slice_of_a_volume_is_a_picture(self, model) -> None:
        draw = np.random.default_rng(4)
        volume = sitk.GetImageFromArray(draw.gamma(2, 30, (3, 50, 70)).astype(np.float32))
        found = segment(volume, model, maps=("hardness",))
        assert Grid.of(found.labels) == Grid.of(volume)
        for n in range(3):
            one = segment(volume[:, :, n], model, maps=("hardness",))
            for name in ("labels", "probability", "hardness"):
                np.testing.assert_allclose(
                    voxels(getattr(found, name))[n], voxels(getattr(one, name)), atol=1e-5
                )
        turned = sitk.DICOMOrient(volume, "PSR")
        again = segment(turned, model, maps=())
        assert Grid.of(again.labels) == Grid.of(turned)
        back = resample(again.probability, Grid.of(volume), "nearest")
        np.testing.assert_allclose(voxels(back), voxels(found.probability), atol=1e-5)

    def test_a_region_leaves_slices_out(self, model) -> None:
        draw = np.random.default_rng(4)
        volume = sitk.GetImageFromArray(draw.gamma(2, 30, (4, 50, 70)).astype(np.float32))
        found = segment(volume, model, maps=(), roi=((0, 0, 1), (69, 49, 2)))
        plain = segment(volume, model, maps=())
        got, expected = voxels(found.probability), voxels(plain.probability)
        np.testing.assert_allclose(got[1:3], expected[1:3], atol=1e-5)
        assert not got[[0, 3]].any()
        with pytest.raises(InputError) as refused:
            segment(volume, model, roi=((0, 0, 9), (69, 49, 12)))
        assert refused.value.code == "roi-outside"

    def test_colours_become_grey(self, model, picture) -> None:
        channels = [sitk.Cast(picture, sitk.sitkFloat32) * factor for factor in (0.5, 1.0, 1.5)]
        coloured = segment(sitk.Compose(channels), model, maps=())
        np.testing.assert_allclose(
            voxels(coloured.probability), voxels(segment(picture, model).probability), atol=1e-3
        )

    def test_three_dimensions_stay_refused_two(self, three, picture) -> None:
        with pytest.raises(InputError) as refused:
            segment([picture, picture], three[0])
        assert refused.value.code == "image-not-3d"
