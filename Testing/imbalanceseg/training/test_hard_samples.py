"""Hard samples by pruning: what METHODS.md 10.6 asks for, and the table of a dataset."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from imbalanceseg.cli.main import main
from imbalanceseg.errors import InputError
from imbalanceseg.reporting.hard_report import write_hard_report
from imbalanceseg.training.hard_samples import (
    disagreement,
    hard_samples,
    hardest,
    sample_weights,
)

from .balls import write_balls


def cube(at: int, side: int, value: int = 1) -> np.ndarray:
    labels = np.zeros((16, 16, 16), np.uint8)
    labels[at : at + side, 4 : 4 + side, 4 : 4 + side] = value
    return labels


class TestDisagreement:
    def test_copies_that_say_the_same_leave_nothing_hard(self):
        assert disagreement(cube(2, 4), [cube(2, 4)] * 3) == 0.0

    def test_nothing_found_by_any_is_agreement(self):
        empty = np.zeros((4, 4, 4), np.uint8)
        assert disagreement(empty, [empty]) == 0.0

    def test_it_is_one_minus_dice(self):
        # Two of four slices are shared, so Dice is one half.
        assert disagreement(cube(2, 4), [cube(4, 4)]) == pytest.approx(0.5)

    def test_it_is_the_mean_over_copies_and_classes(self):
        both = cube(2, 4) + cube(10, 4, 2)
        assert disagreement(both, [both, cube(2, 4)]) == pytest.approx((0 + (0 + 1) / 2) / 2)

    def test_without_copies_it_is_refused(self):
        with pytest.raises(InputError, match="weakened copy"):
            list(hard_samples("a", cube(2, 4), [], (8, 8, 8)))

    def test_other_shapes_are_refused(self):
        with pytest.raises(InputError, match="shapes"):
            list(hard_samples("a", cube(2, 4), [np.zeros((2, 2, 2), np.uint8)], (8, 8, 8)))


class TestSamples:
    @pytest.fixture
    def found(self):
        dense = cube(1, 4) | cube(10, 3)
        return list(hard_samples("one", dense, [cube(1, 4)], (8, 8, 8)))

    def test_the_case_comes_first(self, found):
        assert found[0].kind == "case"
        assert found[0].voxels == 64 + 27

    def test_slices_without_foreground_are_left_out(self, found):
        slices = {one.index[0]: one.disagreement for one in found if one.kind == "slice"}
        assert slices == dict.fromkeys(range(1, 5), 0.0) | dict.fromkeys(range(10, 13), 1.0)

    def test_patches_lie_side_by_side(self, found):
        patches = {one.index: one.disagreement for one in found if one.kind == "patch"}
        assert patches == {(0, 0, 0): 0.0, (8, 0, 0): 1.0}

    def test_a_lost_instance_is_hard_and_a_kept_one_is_not(self, found):
        instances = [(one.voxels, one.disagreement) for one in found if one.kind == "instance"]
        assert sorted(instances) == [(27, 1.0), (64, 0.0)]

    def test_a_flat_image_has_no_slices(self):
        flat = cube(1, 4)[1:2]
        kinds = {one.kind for one in hard_samples("a", flat, [flat], (1, 8, 8))}
        assert kinds == {"case", "patch", "instance"}


class TestWeights:
    @settings(deadline=None)
    @given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.floats(0, 20))
    def test_their_mean_is_one_and_none_is_above_two(self, values, strength):
        weights = sample_weights(values, strength)
        assert weights.mean() == pytest.approx(1)
        assert weights.max() <= 2 + 1e-9
        assert (np.diff(weights[np.argsort(values)]) >= -1e-12).all()

    def test_without_strength_all_weigh_alike(self):
        np.testing.assert_array_equal(sample_weights([0.1, 0.9], 0.0), [1, 1])

    def test_the_hardest_weighs_twice_the_easiest_at_first(self):
        easy, _, hard = sample_weights([0.1, 0.2, 0.9])
        assert hard / easy == pytest.approx(2)

    def test_nothing_has_no_weights(self):
        assert len(sample_weights([])) == 0

    def test_the_hardest_fifth_is_marked_but_none_that_all_agree_on(self):
        values = [0.1, 0.9, 0.3, 0.2, 0.0]
        np.testing.assert_array_equal(hardest(values), np.array(values) == 0.9)
        assert not hardest([0.0] * 10, 0.5).any()
        assert hardest([0.2, 0.1]).tolist() == [True, False]


@pytest.fixture(scope="module")
def balls_and_model(balls, small_recipe, tmp_path_factory):
    from imbalanceseg.planning.dataset import open_dataset
    from imbalanceseg.training.recipe_files import read_recipe
    from imbalanceseg.training.train import start_run, train

    run = tmp_path_factory.mktemp("runs") / "balls"
    run.mkdir()
    start_run(balls, run, read_recipe(small_recipe), iterations=40)
    return open_dataset(balls), train(run, "cpu").model


@pytest.fixture(scope="module")
def reviewed(balls_and_model):
    from imbalanceseg.training.hard_review import review

    return list(review(*balls_and_model, (0.3, 0.6), "cpu"))


class TestReview:
    def test_every_case_is_scored(self, reviewed):
        assert [case.name for case in reviewed] == [f"ball{n}" for n in range(6)]
        assert all(0 <= case.disagreement <= 1 for case in reviewed)
        assert all(case.dice is not None and case.size > 0 for case in reviewed)
        assert any(case.disagreement > 0 for case in reviewed)

    def test_the_model_stays_as_it_was(self, balls_and_model):
        from imbalanceseg.training.hard_review import review

        dataset, model = balls_and_model
        before = {k: v.clone() for k, v in model.network.state_dict().items()}
        next(iter(review(dataset, model, (0.5,), "cpu")))
        after = model.network.state_dict()
        assert all((before[name] == after[name]).all() for name in before)

    def test_a_case_that_cannot_be_read_does_not_stop_the_rest(
        self, balls, balls_and_model, tmp_path
    ):
        from imbalanceseg.planning.dataset import open_dataset
        from imbalanceseg.training.hard_review import FailedCase, review

        copy = tmp_path / "balls"
        shutil.copytree(balls, copy)
        (copy / "imagesTr" / "ball0_0000.nii.gz").write_bytes(b"no image")
        found = list(review(open_dataset(copy), balls_and_model[1], (0.5,), "cpu"))
        assert isinstance(found[0], FailedCase)
        assert len(found) == 6
        assert not any(isinstance(one, FailedCase) for one in found[1:])

    @pytest.mark.parametrize("sparsities", [(), (0.0,), (1.0,), (0.5, -1.0), (float("nan"),)])
    def test_a_share_that_leaves_no_copy_is_refused(self, balls_and_model, sparsities):
        from imbalanceseg.training.hard_review import review

        with pytest.raises(InputError, match="cannot be compared"):
            next(iter(review(*balls_and_model, sparsities, "cpu")))

    def test_the_report_ranks_the_hardest_first(self, reviewed, tmp_path):
        from imbalanceseg.training.hard_review import REFERENCE_SIZE, groups_of

        known = {f"ball{n}": {"sex": "fm"[n % 2]} for n in range(6)}
        groups = groups_of(reviewed, known, ["sex", REFERENCE_SIZE])
        write_hard_report(tmp_path, reviewed, [], groups, "balls", 0.2)
        with open(tmp_path / "cases.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        values = [float(row["disagreement"]) for row in rows]
        assert values == sorted(values, reverse=True)
        assert np.mean([float(row["weight"]) for row in rows]) == pytest.approx(1, abs=1e-3)
        page = (tmp_path / "report.html").read_text()
        assert "Not for clinical use" in page
        assert "data:image/png;base64," in page
        picture = sitk.ReadImage(str(tmp_path / "review_first.png"))
        assert min(picture.GetSize()) > 200


class TestCommand:
    def test_it_ranks_a_dataset(self, balls, balls_and_model, tmp_path, capsys):
        known = tmp_path / "known.csv"
        known.write_text("case,scanner\n" + "".join(f"ball{n},{'ab'[n % 2]}\n" for n in range(6)))
        out = tmp_path / "out"
        model = str(balls_and_model[1].path)
        given = ["hard", str(balls), "-m", model, "-o", str(out), "--sparsity", "0.5"]
        assert main([*given, "--metadata", str(known), "--progress", "none"]) == 0
        told = capsys.readouterr().out
        assert "review first" in told
        assert "not for clinical use" in told.lower()
        assert {path.name for path in out.iterdir()} == {
            "cases.csv",
            "groups.csv",
            "report.html",
            "review_first.png",
            "samples.csv",
        }
        with open(out / "groups.csv", newline="") as file:
            columns = [row["column"] for row in csv.DictReader(file)]
        assert columns[:2] == ["scanner", "scanner"]
        assert set(columns[2:]) == {"size of the reference"}
        with open(out / "samples.csv", newline="") as file:
            kinds = {row["kind"] for row in csv.DictReader(file)}
        assert kinds == {"case", "slice", "patch", "instance"}

    def test_labels_are_not_needed(self, balls, balls_and_model, tmp_path):
        model = str(balls_and_model[1].path)
        for part in ("images", "labels"):
            (tmp_path / "half" / part).mkdir(parents=True)
        for number in range(2):
            shutil.copy(
                balls / "imagesTr" / f"ball{number}_0000.nii.gz",
                tmp_path / "half" / "images" / f"ball{number}.nii.gz",
            )
        shutil.copy(balls / "labelsTr" / "ball0.nii.gz", tmp_path / "half" / "labels")
        known = {}
        for folder in (tmp_path / "half", tmp_path / "half" / "images"):
            out = tmp_path / folder.name
            given = ["hard", str(folder), "-m", model, "-o", str(out / "out"), "--sparsity", "0.5"]
            assert main([*given, "--progress", "none"]) == 0
            with open(out / "out" / "cases.csv", newline="") as file:
                known[folder.name] = {
                    row["case"]: bool(row["dice"]) for row in csv.DictReader(file)
                }
        assert known["half"] == {"ball0": True, "ball1": False}
        assert known["images"] == {"ball0": False, "ball1": False}

    def test_a_column_that_is_not_there_is_told(self, balls, balls_and_model, tmp_path, capsys):
        model = str(balls_and_model[1].path)
        given = ["hard", str(balls), "-m", model, "-o", str(tmp_path / "out"), "--by", "age"]
        assert main(given) == 2
        assert "error[column-unknown]" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()

    def test_cases_that_fail_are_told_and_leave_another_code(
        self, balls_and_model, tmp_path, capsys
    ):
        folder = write_balls(tmp_path / "balls", cases=2)
        (folder / "imagesTr" / "ball1_0000.nii.gz").write_bytes(b"no image")
        given = ["hard", str(folder), "-m", str(balls_and_model[1].path), "--progress", "json"]
        assert main([*given, "-o", str(tmp_path / "out"), "--sparsity", "0.5"]) == 1
        last = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert [one["case"] for one in last["cases"]] == ["ball0"]
        assert [one["case"] for one in last["failed"]] == ["ball1"]


class TestGroups:
    def cases(self, values):
        from types import SimpleNamespace

        return [SimpleNamespace(name=str(n), disagreement=v, size=None) for n, v in values]

    def test_words_are_groups_and_numbers_are_cut_into_thirds(self):
        from imbalanceseg.training.hard_review import groups_of

        cases = self.cases((n, n / 10) for n in range(9))
        known = {str(n): {"age": str(20 + n), "sex": "fm"[n % 2]} for n in range(9)}
        groups = groups_of(cases, known, ["age", "sex"], share=1 / 3)
        assert [(g.column, g.value, g.cases, g.hard) for g in groups] == [
            ("age", "20 to 22", 3, 0),
            ("age", "23 to 25", 3, 0),
            ("age", "26 to 28", 3, 3),
            ("sex", "f", 5, 2),
            ("sex", "m", 4, 1),
        ]
        for group in groups:
            low, high = group.hard_interval
            assert 0 <= low <= group.hard / group.cases <= high <= 1
            low, high = group.disagreement_interval
            assert low <= group.disagreement <= high

    def test_what_is_not_known_is_left_out(self):
        from imbalanceseg.training.hard_review import groups_of

        (group,) = groups_of(self.cases([(0, 0.5), (1, 0.1)]), {"0": {"sex": "f"}}, ["sex"])
        assert (group.cases, group.disagreement_interval) == (1, None)
