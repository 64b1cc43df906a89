"""Patches follow from the seed and their number, lie where they should and are whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imbalanceseg.errors import InputError
from imbalanceseg.planning.dataset import open_dataset
from imbalanceseg.planning.fingerprint import fingerprint
from imbalanceseg.planning.imbalance import Sampling
from imbalanceseg.planning.plan import Plan, make_plan
from imbalanceseg.planning.prepare import PreparedCase, prepare
from imbalanceseg.training.patches import PatchBatch, PatchSource
from imbalanceseg.training.recipe import Augmentation
from imbalanceseg.training.weight_maps import weigh_cases

pytest.importorskip("blosc2")

PLAIN = Augmentation(
    rotation=0, zoom=0, elastic=0, noise=0, blur=0, brightness=0, contrast=0, low_resolution=0,
    gamma=0, inverted_gamma=0, mirror=0, histogram=0,
)  # fmt: skip
MOVED = PLAIN.model_copy(
    update={"rotation": 0.7, "zoom": 0.7, "elastic": 0.7, "mirror": 1.0,
            "elastic_grid_mm": 12.0, "elastic_mm": 2.0}
)  # fmt: skip
SHAPE = (20, 26, 24)
Pair = tuple[np.ndarray, np.ndarray]
Prepare = Callable[..., tuple[list[PreparedCase], Plan]]


def prepared(folder: Path, pairs: Sequence[Pair], spacing: tuple[float, ...]) -> Any:
    ending = "png" if pairs[0][0].ndim == 2 else "nrrd"
    for number, pair in enumerate(pairs):
        for kind, values in zip(("images", "labels"), pair, strict=True):
            path = folder / "set" / kind / f"case{number}.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            image = sitk.GetImageFromArray(values)
            image.SetSpacing(spacing[::-1][: values.ndim])
            sitk.WriteImage(image, str(path))
    dataset = open_dataset(folder / "set")
    plan = make_plan(dataset, fingerprint(dataset))
    (folder / "store").mkdir()
    return prepare(dataset, plan, folder / "store"), plan


@pytest.fixture(scope="session")
def make_cases(tmp_path_factory: pytest.TempPathFactory) -> Prepare:
    """Prepares cases from arrays: image, label; on a grid of the given spacing."""
    numbers = count()

    def make(
        *pairs: Pair, spacing: tuple[float, ...] = (1.0, 1.0, 1.0)
    ) -> tuple[list[PreparedCase], Plan]:
        return prepared(tmp_path_factory.mktemp(f"cases{next(numbers)}"), pairs, spacing)

    return make


def noise(seed: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 20, shape).astype(np.float32)


def blocks(*boxes: tuple[tuple[int, int, int], int, int]) -> np.ndarray:
    """A label with cubes, each given by its first corner, side and value."""
    label = np.zeros(SHAPE, np.uint8)
    for (z, y, x), side, value in boxes:
        label[z : z + side, y : y + side, x : x + side] = value
    return label


@pytest.fixture(scope="session")
def two(make_cases: Prepare) -> list[PreparedCase]:
    """Case 0 has one component of class 1, case 1 has three of class 2."""
    first = blocks(((8, 10, 10), 6, 1))
    second = blocks(((5, 6, 6), 2, 2), ((5, 14, 14), 5, 2), ((12, 6, 14), 3, 2))
    cases, _ = make_cases((noise(0), first), (noise(1), second))
    return cases


def source(
    cases: Sequence[PreparedCase], patch: Sequence[int] = (7, 8, 9), **changes: Any
) -> PatchSource:
    settings: dict[str, Any] = {
        "sampling": Sampling(),
        "augmentation": PLAIN,
        "spacing_mm": (1.0,) * len(patch),
        "anisotropic": False,
        "seed": 0,
    }
    return PatchSource(cases, patch, **settings | changes)


def same(one: PatchBatch, two: PatchBatch) -> bool:
    return (
        torch.equal(one.image, two.image)
        and torch.equal(one.label, two.label)
        and torch.equal(one.components, two.components)
    )


def middles(batch: PatchBatch) -> tuple[np.ndarray, np.ndarray]:
    """Class and component at the voxel that each patch is centred on."""
    middle = tuple(n // 2 for n in batch.label.shape[2:])
    index = (slice(None), 0, *middle)
    return batch.label[index].numpy(), batch.components[index].numpy()


class TestSameAgain:
    everything = Augmentation(**dict.fromkeys(PLAIN.model_dump(exclude={
        "rotation_degrees", "zoom_range", "elastic_grid_mm", "elastic_mm"}), 0.6))  # fmt: skip
    sampling = Sampling(foreground=0.3, instance=0.3, hard_skeleton=0.3)

    def make(self, cases: list[PreparedCase], seed: int = 3) -> PatchSource:
        return source(cases, sampling=self.sampling, augmentation=self.everything, seed=seed)

    def test_in_any_order_and_in_another_process(self, two: list[PreparedCase]) -> None:
        one, again = self.make(two), self.make(two)
        first = [one.batch(n, 3) for n in range(6)]
        for number in (5, 0, 3, 3, 1):
            assert same(again.batch(number, 3), first[number])

    def test_in_threads(self, two: list[PreparedCase]) -> None:
        alone = self.make(two)
        expected = [alone.batch(n, 3) for n in range(24)]
        shared = self.make(two)
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda n: shared.batch(n, 3), range(24)))
        assert all(same(*pair) for pair in zip(found, expected, strict=True))

    def test_others_are_others(self, two: list[PreparedCase]) -> None:
        one = self.make(two)
        first = one.batch(0, 2)
        assert not same(first, one.batch(1, 2))
        assert not same(first, one.batch(0, 2, rank=1))
        assert not same(first, self.make(two, seed=4).batch(0, 2))
        assert not torch.equal(first.image[0], first.image[1])
        # The first patches of a larger batch are those of a smaller one.
        assert torch.equal(one.batch(0, 4).image[:2], first.image)


class TestPlaces:
    def test_shares(self, two: list[PreparedCase]) -> None:
        batch = source(two, sampling=Sampling(foreground=0.5)).batch(0, 400)
        hits = np.mean(middles(batch)[0] > 0)
        # Anywhere, about 2 % of the middles are foreground.
        assert abs(hits - 0.5 - 0.5 * 0.03) < 0.11

    def test_classes_and_cases_are_equally_likely(self, make_cases: Prepare) -> None:
        label = blocks(((4, 6, 6), 2, 1), ((8, 12, 12), 8, 2))
        cases, _ = make_cases((noise(0), label), (noise(1), blocks(((9, 9, 9), 4, 1))))
        classes, _ = middles(source(cases, sampling=Sampling(foreground=1)).batch(0, 400))
        assert (classes > 0).all()
        # Half of the patches of the case that has class 2.
        assert abs(np.mean(classes == 2) - 0.25) < 0.09

    def test_components_are_equally_likely(self, two: list[PreparedCase]) -> None:
        batch = source(two, sampling=Sampling(instance=1)).batch(0, 400)
        classes, numbers = middles(batch)
        counts = [np.sum(classes == 1)]
        counts += [np.sum((classes == 2) & (numbers == n)) for n in (1, 2, 3)]
        assert sum(counts) == 400
        # 99.9 % of chi-square with three degrees of freedom.
        assert sum((n - 100) ** 2 / 100 for n in counts) < 16.3

    def test_only_what_is_labelled(self, make_cases: Prepare) -> None:
        label = np.full(SHAPE, 255, np.uint8)
        label[10] = blocks(((10, 8, 8), 4, 1))[10]
        cases, _ = make_cases((noise(0), label))
        classes, _ = middles(source(cases, sampling=Sampling(annotated=1)).batch(0, 200))
        assert (classes != 255).all()
        # The block is far from the border, where patches are moved into the case.
        assert abs(np.mean(classes == 1) - 0.5) < 0.15

    def test_a_case_without_the_kind_is_passed_over(self, make_cases: Prepare) -> None:
        empty = np.zeros(SHAPE, np.uint8)
        cases, _ = make_cases((noise(0), empty), (noise(1), blocks(((9, 9, 9), 4, 1))))
        for kind in ("foreground", "instance", "hard_skeleton"):
            classes, _ = middles(source(cases, sampling=Sampling(**{kind: 1})).batch(0, 20))
            assert (classes == 1).all()
            found = source(cases[:1], sampling=Sampling(**{kind: 1})).batch(0, 5)
            assert not found.label.any()

    def test_missed_centrelines_come_first(self, make_cases: Prepare) -> None:
        tube = np.zeros(SHAPE, np.uint8)
        tube[4:17, 11:14, 10:13] = 1
        cases, _ = make_cases((noise(0), tube))
        one = source(cases, sampling=Sampling(hard_skeleton=1))
        found = one.batch(0, 60)
        assert (middles(found)[0] == 1).all()
        # In the middle of the tube, not only within it.
        around = found.label[:, 0, 3, 3:6, 3:6].flatten(1)
        assert (around.float().mean(1) > 0.9).float().mean() > 0.7
        places = np.array([[9, 3 + 9, 11]], np.int32)
        one.hard_places = {"case0": places}
        expected = cases[0].image((slice(6, 13), slice(8, 16), slice(7, 16)))
        assert all(np.array_equal(image, expected) for image in one.batch(0, 5).image)
        one.hard_places = {"case0": places[:0], "other": places}
        assert same(one.batch(0, 60), found)

    def test_anywhere_reaches_every_voxel_of_the_case(self, two: list[PreparedCase]) -> None:
        """Corners too, and never beyond."""
        one = source(two[:1], patch=(18, 24, 22))
        corner = two[0].image()[0, -18:, -24:, -22:]
        batches = [one.batch(n, 100) for n in range(2)]
        assert all(not (batch.label == 255).any() for batch in batches)
        assert any(
            np.array_equal(image[0], corner) for batch in batches for image in batch.image.numpy()
        )


class TestGeometry:
    def test_label_stays_on_its_image(self, make_cases: Prepare) -> None:
        label = blocks(((4, 6, 6), 6, 1), ((11, 14, 12), 7, 2))
        cases, _ = make_cases((10 + 100 * (label > 0).astype(np.float32), label))
        values = np.unique(cases[0].image())
        one = source(cases, patch=(16, 18, 17), augmentation=MOVED)
        for number in range(12):
            batch = one.batch(number, 4)
            unit = (batch.image - float(values[0])) / float(values[1] - values[0])
            known = batch.label != 255
            assert set(batch.label.unique().tolist()) <= {0, 1, 2, 255}
            foreground = known & (batch.label > 0)
            assert (unit[foreground] > 0.12).all()
            assert (unit[known & ~foreground] < 0.88).all()
            assert ((unit > 0.5) == (batch.label > 0))[known].float().mean() > 0.97
            assert torch.equal(batch.components > 0, foreground)
            assert (batch.components[batch.label == 2]).unique().numel() <= 1

    def test_mirroring_is_exact(self, two: list[PreparedCase]) -> None:
        mirror = PLAIN.model_copy(update={"mirror": 1.0})
        plain = source(two, patch=SHAPE).batch(0, 40)
        turned = source(two, patch=SHAPE, augmentation=mirror).batch(0, 40)
        seen = set()
        for number in range(40):
            for axes in [(), (1,), (2,), (3,), (1, 2), (1, 3), (2, 3), (1, 2, 3)]:
                if torch.equal(plain.image[number].flip(axes), turned.image[number]):
                    seen.add(axes)
                    assert torch.equal(plain.label[number].flip(axes), turned.label[number])
                    assert torch.equal(
                        plain.components[number].flip(axes), turned.components[number]
                    )
                    break
            else:
                pytest.fail("no mirror image")
        assert len(seen) == 8

    def test_thick_slices_stay_apart(self, make_cases: Prepare) -> None:
        shape = (12, 30, 28)
        image = np.broadcast_to(np.float32(10 + np.arange(12))[:, None, None], shape).copy()
        label = np.broadcast_to(np.uint8(np.arange(12) % 3)[:, None, None], shape).copy()
        cases, plan = make_cases((image, label), spacing=(6.0, 1.0, 1.0))
        assert plan.anisotropic
        strong = MOVED.model_copy(update={"blur": 0.5, "low_resolution": 0.5})
        one = source(
            cases, (10, 20, 20), augmentation=strong,
            spacing_mm=plan.spacing_mm, anisotropic=True,
        )  # fmt: skip
        slices = cases[0].image()[0, :, 0, 0]
        for number in range(8):
            for patch, classes in zip(*(vars(one.batch(number, 4))[k] for k in ("image", "label")),
                                      strict=True):  # fmt: skip
                values = patch[0].flatten(1)
                assert (values.amax(1) - values.amin(1)).max() < 1e-5
                index = np.abs(values[:, 0].numpy()[:, None] - slices).argmin(1)
                assert set(np.diff(index)) in ({1}, {-1})
                for own, z in zip(classes[0], index, strict=True):
                    assert set(own.unique().tolist()) <= {z % 3, 255}

    @pytest.mark.parametrize("augmentation", [PLAIN, MOVED, Augmentation()])
    def test_pictures(self, make_cases: Prepare, augmentation: Augmentation) -> None:
        image = np.random.default_rng(0).integers(1, 255, (40, 50)).astype(np.uint8)
        label = np.zeros((40, 50), np.uint8)
        label[10:20, 10:30] = 1
        cases, _ = make_cases((image, label))
        one = source(cases, (24, 60), augmentation=augmentation, sampling=Sampling(foreground=1))
        batch = one.batch(0, 6)
        assert batch.image.shape == (6, 1, 24, 60)
        assert batch.label.shape == batch.components.shape == (6, 1, 24, 60)
        assert set(batch.label.unique().tolist()) == {0, 1, 255}

    @given(
        shape=st.tuples(*[st.integers(1, 12)] * 3),
        patch=st.tuples(*[st.integers(1, 14)] * 3),
        anisotropic=st.booleans(),
        seed=st.integers(0, 1000),
    )
    @settings(max_examples=25, deadline=None)
    def test_whatever_the_sizes(
        self,
        make_cases: Prepare,
        shape: tuple[int, ...],
        patch: tuple[int, ...],
        anisotropic: bool,
        seed: int,
    ) -> None:
        label = np.zeros(shape, np.uint8)
        label[0, 0, 0] = 1
        cases, _ = make_cases((noise(0, shape), label))
        batch = source(
            cases, patch, anisotropic=anisotropic, seed=seed,
            augmentation=Augmentation(rotation=0.5, zoom=0.5, elastic=0.5, histogram=1),
            sampling=Sampling(foreground=0.5),
        ).batch(seed, 3)  # fmt: skip
        assert batch.image.shape == (3, 1, *patch)
        assert batch.label.shape == batch.components.shape == (3, 1, *patch)
        assert (batch.image.dtype, batch.label.dtype) == (torch.float32, torch.uint8)
        assert batch.components.dtype == torch.int32
        assert batch.image.isfinite().all()
        assert set(batch.label.unique().tolist()) <= {0, 1, 255}
        assert not batch.components[batch.label == 255].any()


@pytest.fixture(scope="session")
def tree(make_cases: Prepare) -> list[PreparedCase]:
    """A thick trunk and a thin branch."""
    label = np.zeros(SHAPE, np.uint8)
    label[2:11, 2:12, 4:14] = 1
    label[13:16, 20:23, 2:22] = 1
    label[:, :, 23] = 255
    cases, _ = make_cases((noise(0), label))
    for name in ("centerline", "border", "local_imbalance"):
        weigh_cases(cases, name, (1.0, 1.0, 1.0))
    return cases


class TestWeights:
    def test_a_patch_has_the_weights_of_its_case(self, tree: list[PreparedCase]) -> None:
        whole = tree[0].weight("centerline")
        one = source(tree, weight="centerline", sampling=Sampling(foreground=1))
        of_branch = 0
        for batch in (one.batch(n, 4) for n in range(12)):
            assert batch.weight is not None
            assert batch.weight.shape == batch.label.shape
            for image, label, weight in zip(batch.image, batch.label, batch.weight, strict=True):
                place = np.argwhere(tree[0].image()[0] == float(image[0, 0, 0, 0]))[0]
                window = tuple(slice(a, a + n) for a, n in zip(place, image.shape[1:], strict=True))
                np.testing.assert_array_equal(weight[0], whole[window])
                walls = label[0] == 1
                if place[1] > 12 and walls.any():
                    of_branch += 1
                    # Measured against the trunk: no voxel of a thin branch weighs nothing.
                    assert weight[0][walls].min() > 0.3
        assert of_branch > 5

    @pytest.mark.parametrize("augmentation", [MOVED, Augmentation()])
    def test_they_move_with_the_label(
        self, tree: list[PreparedCase], augmentation: Augmentation
    ) -> None:
        one = source(tree, (16, 20, 18), augmentation=augmentation, weight="centerline")
        plain = source(tree, (16, 20, 18), augmentation=augmentation)
        for number in range(6):
            batch, without = one.batch(number, 3), plain.batch(number, 3)
            assert batch.weight is not None
            assert without.weight is None
            assert same(batch, without)
            assert not batch.weight[batch.label == 255].any()
            background = batch.label == 0
            # Linear, as images are: only next to the structure the two mix.
            assert (batch.weight[background] > 0.99).float().mean() > 0.9
            if (batch.label == 1).sum() > 300:
                assert batch.weight[batch.label == 1].min() < 0.5

    def test_abutting_instances_are_parted(self, make_cases: Prepare, tmp_path: Path) -> None:
        numbers = np.zeros((40, 50), np.uint16)
        numbers[10:30, 5:25], numbers[10:30, 25:45] = 1, 2
        for kind, values in (("images", np.uint8(numbers > 0) * 9 + 1), ("labels", numbers)):
            (tmp_path / kind).mkdir()
            sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / kind / "one.png"))
        dataset = open_dataset(tmp_path, numbered=True)
        plan = make_plan(dataset, fingerprint(dataset))
        cases = prepare(dataset, plan, tmp_path)
        weigh_cases(cases, "border", plan.spacing_mm)
        batch = source(cases, (40, 50), weight="border").batch(0, 1)
        assert batch.weight is not None
        gap = (0, 0, slice(12, 28), slice(24, 26))
        assert not batch.label[gap].any()
        assert (batch.weight[gap] > 8).all()
        assert batch.label[0, 0, 20, 22] == 1

    def test_none_is_computed_twice(
        self, tree: list[PreparedCase], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("imbalanceseg.training.weight_maps.case_weight", None)
        kept = tree[0].weight("centerline")
        weigh_cases(tree, "centerline", (1.0, 1.0, 1.0))
        np.testing.assert_array_equal(tree[0].weight("centerline"), kept)
        weigh_cases(tree, "none", (1.0, 1.0, 1.0))
        assert not tree[0].has_weight("none")


def test_a_small_case_is_in_the_middle(two: list[PreparedCase]) -> None:
    batch = source(two[:1], patch=(23, 26, 30)).batch(0, 2)
    inside = (slice(2, 22), slice(0, 26), slice(3, 27))
    assert np.array_equal(batch.image[0, 0][inside], two[0].image()[0])
    assert np.array_equal(batch.label[0, 0][inside], two[0].label())
    outside = torch.ones(23, 26, 30, dtype=torch.bool)
    outside[inside] = False
    assert (batch.label[:, 0, outside] == 255).all()
    assert not batch.components[:, 0, outside].any()
    image = batch.image[0, 0]
    assert torch.equal(image[:3], image[2:3].expand(3, -1, -1))
    assert torch.equal(image[22], image[21])
    assert torch.equal(image[..., 26:], image[..., 26:27].expand(-1, -1, 4))


def test_grey_values_of_another_case(make_cases: Prepare) -> None:
    """Of two shapes of histogram, since normalised cases have the same mean and deviation."""
    draw = np.random.default_rng(0)
    skewed = draw.gamma(1, 1, SHAPE).astype(np.float32) + 1
    label = blocks(((9, 9, 9), 4, 1))
    cases, _ = make_cases((skewed, label), (noise(1), label))
    matched = source(cases, patch=SHAPE, augmentation=PLAIN.model_copy(update={"histogram": 1.0}))
    plain = source(cases, patch=SHAPE)
    means = [float(case.image().min()) for case in cases]
    for before, after in zip(plain.batch(0, 6).image, matched.batch(0, 6).image, strict=True):
        own = int(np.argmin([abs(float(before.min()) - m) for m in means]))
        expected = np.quantile(cases[1 - own].image(), [0.2, 0.5, 0.8])
        np.testing.assert_allclose(np.quantile(after, [0.2, 0.5, 0.8]), expected, atol=0.08)
        order = before.flatten().argsort()
        assert (after.flatten()[order].diff() > -1e-5).all()


def test_wrong_arguments_are_told_of(two: list[PreparedCase]) -> None:
    with pytest.raises(InputError, match="no labelled case"):
        source([])
    with pytest.raises(InputError, match="2 axes"):
        source(two, patch=(8, 8))


def test_real_cases(data_folder: Path, tmp_path: Path) -> None:
    """The hippocampus keeps its grey values under whatever moves it."""
    whole = open_dataset(data_folder / "hippocampus" / "val")
    dataset = replace(whole, cases=whole.cases[:4])
    plan = make_plan(dataset, fingerprint(dataset))
    cases = prepare(dataset, plan, tmp_path)
    changes: dict[str, Any] = {
        "patch": plan.patch, "spacing_mm": plan.spacing_mm, "sampling": Sampling(foreground=1),
    }  # fmt: skip
    means = []
    for augmentation in (PLAIN, MOVED):
        batch = source(cases, augmentation=augmentation, **changes).batch(0, 16)
        assert set(batch.label.unique().tolist()) == {0, 1, 2, 255}
        means.append([float(batch.image[batch.label == n].mean()) for n in (0, 1, 2)])
    np.testing.assert_allclose(means[0], means[1], atol=0.25)
    assert abs(means[0][0] - means[0][1]) > 0.5


class TestHardCases:
    def test_a_case_is_drawn_from_as_often_as_it_weighs(self, two: list[PreparedCase]) -> None:
        for sampling in (Sampling(), Sampling(foreground=1.0)):
            one = source(two, sampling=sampling)
            one.case_weights = {two[0].name: 1.5, two[1].name: 0.5}
            drawn = [one._place(np.random.default_rng(n))[0] for n in range(800)]
            assert np.mean(np.array(drawn) == 0) == pytest.approx(0.75, abs=0.05)

    def test_components_stay_equally_likely_within_their_cases(
        self, two: list[PreparedCase]
    ) -> None:
        one = source(two, sampling=Sampling(instance=1.0))
        one.case_weights = {two[0].name: 3.0}
        drawn = [one._place(np.random.default_rng(n))[0] for n in range(800)]
        assert np.mean(np.array(drawn) == 0) == pytest.approx(0.5, abs=0.06)

    def test_without_weights_batches_are_what_they_were(self, two: list[PreparedCase]) -> None:
        before, after = source(two), source(two)
        after.case_weights = {}
        assert same(before.batch(3, 4), after.batch(3, 4))
        assert before.batch(3, 4).importance is None

    def test_a_patch_counts_as_much_as_its_case(self, two: list[PreparedCase]) -> None:
        one = source(two, sampling=Sampling(foreground=1.0))
        one.importances = {two[0].name: 2.0}
        batch = one.batch(0, 12)
        assert batch.importance is not None
        of_first = (batch.label == 1).flatten(1).any(1)
        assert batch.importance.tolist() == [2.0 if first else 1.0 for first in of_first]
        assert batch.alone(3).importance is None
        assert torch.equal(batch.alone(3).image, batch.image[3:4])
