"""Cases of which only the classes that they show are known: the table, and what is made of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from imbalanceseg.errors import InputError
from imbalanceseg.planning.case_table import read_case_table
from imbalanceseg.planning.dataset import open_dataset, open_images, open_unlabelled, read_case
from imbalanceseg.planning.fingerprint import fingerprint
from imbalanceseg.planning.image_labels import read_image_labels
from imbalanceseg.planning.plan import make_plan
from imbalanceseg.planning.prepare import prepare

from ..training.balls import write_balls

CLASSES = {0: "background", 1: "ball", 4: "ring"}


def write_table(folder: Path, text: str) -> Path:
    path = folder / "image_labels.csv"
    path.write_text(text)
    return path


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Six cases: of the last only that it shows a ball is known, of the one before that none."""
    folder = write_balls(tmp_path / "set")
    for number in (4, 5):
        (folder / "labelsTr" / f"ball{number}.nii.gz").unlink()
    write_table(folder, "case,ball\nball4,0\nball5,1\nball0,0\n")
    return folder


class TestCaseTable:
    def test_it_is_read_by_its_column_case(self, tmp_path: Path) -> None:
        path = tmp_path / "known.csv"
        path.write_text("age,case\n30, a \n,b\n")
        assert read_case_table(path) == {" a ": {"age": "30"}, "b": {"age": ""}}

    @pytest.mark.parametrize("content", [b"", b"case\na\n", b"\xff\xfe\x00"])
    def test_one_that_is_none_is_told(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "known.csv"
        path.write_bytes(content)
        with pytest.raises(InputError) as caught:
            read_case_table(path)
        assert caught.value.code == "case-table-unreadable"


class TestReadImageLabels:
    def test_values_of_the_classes_shown(self, tmp_path: Path) -> None:
        path = write_table(tmp_path, "case,ring,ball\na,1,0\nb,1,1\nc,0,0\n")
        assert read_image_labels(path, CLASSES) == {"a": (4,), "b": (1, 4), "c": ()}

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("case,ball\na,1\n", "the dataset's classes are ball, ring"),
            ("case,ball,ring,cube\na,1,0,0\n", "the dataset's classes are ball, ring"),
            ("case,ball,ring\na,1,maybe\n", "says maybe of ring in the case a"),
            ("case,ball,ring\na,1,\n", "says nothing of ring in the case a"),
        ],
    )
    def test_what_is_not_a_table_of_them_is_told(
        self, tmp_path: Path, text: str, words: str
    ) -> None:
        with pytest.raises(InputError, match=words) as caught:
            read_image_labels(write_table(tmp_path, text), CLASSES)
        assert caught.value.code == "image-labels"

    def test_classes_need_names(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"classes are not named") as caught:
            read_image_labels(write_table(tmp_path, "case,ball\na,1\n"), {})
        assert "dataset.json" in caught.value.hint


def test_a_label_file_says_more_than_the_table(mixed: Path) -> None:
    by_name = {case.name: case for case in open_dataset(mixed).cases}
    assert by_name["ball0"].shows is None
    assert by_name["ball0"].label is not None
    assert [by_name[f"ball{n}"].shows for n in (4, 5)] == [(), (1,)]
    assert all(case.labelled for case in by_name.values())


def test_what_shows_nothing_is_background_and_the_rest_is_open(mixed: Path) -> None:
    dataset = open_dataset(mixed)
    labels = [read_case(dataset, case).label for case in dataset.cases[4:]]
    assert [np.unique(label).tolist() for label in labels] == [[0], [255]]


def test_for_work_without_labels_the_table_does_not_count(mixed: Path) -> None:
    assert not any(case.labelled for case in open_images(mixed).cases[4:])
    assert not any(case.labelled for case in open_unlabelled(mixed, open_dataset(mixed)).cases)


def test_figures_are_those_of_labelled_voxels(mixed: Path, tmp_path: Path) -> None:
    alone = write_balls(tmp_path / "alone", cases=4)
    found, without = fingerprint(open_dataset(mixed)), fingerprint(open_dataset(alone))
    assert found == without.model_copy(update={"image_labelled": 2})


def test_a_set_may_know_nothing_but_what_images_show(mixed: Path) -> None:
    for path in (mixed / "labelsTr").iterdir():
        path.unlink()
    write_table(mixed, "case,ball\n" + "".join(f"ball{n},{n % 2}\n" for n in range(6)))
    dataset = open_dataset(mixed)
    found = fingerprint(dataset)
    assert (found.cases, found.image_labelled, found.classes) == (6, 6, {})
    plan = make_plan(dataset, found, 4)
    assert (plan.loss, plan.sampling.foreground) == ("dice_ce", 0)


def test_nothing_shown_and_nothing_labelled_is_nothing_to_learn(mixed: Path) -> None:
    for path in (mixed / "labelsTr").iterdir():
        path.unlink()
    write_table(mixed, "case,ball\n" + "".join(f"ball{n},0\n" for n in range(6)))
    with pytest.raises(InputError, match="no case has any foreground"):
        fingerprint(open_dataset(mixed))


def test_a_changed_table_prepares_the_case_anew(mixed: Path, tmp_path: Path) -> None:
    plan = make_plan(open_dataset(mixed), fingerprint(open_dataset(mixed)), 4)
    (tmp_path / "prepared").mkdir()

    def prepared() -> list:
        return prepare(open_dataset(mixed), plan, tmp_path / "prepared")

    assert [case.shows for case in prepared()][3:] == [None, (False,), (True,)]
    write_table(mixed, "case,ball\nball4,1\nball5,1\n")
    case = prepared()[4]
    assert case.shows == (True,)
    assert (case.label() == 255).all()
