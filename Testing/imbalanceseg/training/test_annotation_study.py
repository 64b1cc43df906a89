"""A study of painted slices: what it judges, that it goes on where it stopped, what it draws."""

from __future__ import annotations

import json

import pytest

from imbalanceseg.cli.main import main
from imbalanceseg.errors import InputError
from imbalanceseg.io import write_image
from imbalanceseg.progress import ignore_progress
from imbalanceseg.training import annotation_study
from imbalanceseg.training.annotation_study import StudyCase, painting_axis, run_annotation_study

from . import painted as phantoms


@pytest.fixture(scope="module")
def case() -> StudyCase:
    return StudyCase("balls", *phantoms.phantom())


def study(folder, case, schemes=("even",), counts=(2, 3)):
    return run_annotation_study(
        folder, [case], None, counts, schemes, 1, 1.0, "cpu", ignore_progress
    )


def test_every_number_of_slices_of_every_scheme_is_judged(tmp_path, case) -> None:
    found = study(tmp_path, case, ("even", "random", "suggested"))
    assert {(one.scheme, one.slices) for one in found} == {
        (scheme, n) for scheme in ("even", "random", "suggested") for n in (2, 3)
    }
    assert all(0 <= one.figures["dice"] <= 1 for one in found)


def test_what_is_known_is_not_done_again(tmp_path, case, monkeypatch) -> None:
    first = study(tmp_path, case)
    monkeypatch.setattr(annotation_study, "finetune", lambda *_, **__: pytest.fail("done again"))
    assert study(tmp_path, case) == first


def test_the_thickest_axis_is_painted_along(case) -> None:
    assert painting_axis(case.image) == 2


@pytest.mark.parametrize(
    ("schemes", "counts", "code"),
    [
        (("odd",), (1,), "scheme-unknown"),
        (("even",), (), "slice-count"),
        (("even",), (0,), "slice-count"),
    ],
)  # fmt: skip
def test_what_cannot_be_studied(tmp_path, case, schemes, counts, code) -> None:
    with pytest.raises(InputError) as caught:
        study(tmp_path, case, schemes, counts)
    assert caught.value.code == code


def test_the_command_draws_curves(tmp_path, case, capsys) -> None:
    for name, image in (("scan", case.image), ("truth", case.reference)):
        write_image(image, tmp_path / f"{name}.nrrd")
    arguments = [
        "benchmark", "annotation", "--case", str(tmp_path / "scan.nrrd"),
        "--reference", str(tmp_path / "truth.nrrd"), "-o", str(tmp_path / "out"),
        "--slices", "2,3", "--schemes", "even", "--seeds", "1", "--seconds", "1",
        "--device", "cpu", "--progress", "none",
    ]  # fmt: skip
    assert main(arguments) == 0
    assert "even" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "out" / "annotation.json").read_text())) == 2
    assert (tmp_path / "out" / "annotation.png").read_bytes()[:4] == b"\x89PNG"


def test_the_command_wants_pairs(tmp_path, case, capsys) -> None:
    write_image(case.image, tmp_path / "scan.nrrd")
    arguments = ["benchmark", "annotation", "--case", str(tmp_path / "scan.nrrd"),
                 "--case", str(tmp_path / "scan.nrrd"), "--reference",
                 str(tmp_path / "scan.nrrd"), "-o", str(tmp_path / "out")]  # fmt: skip
    assert main(arguments) == 2
    assert "error[reference-missing]" in capsys.readouterr().err
