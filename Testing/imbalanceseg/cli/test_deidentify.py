"""With ``--deidentify`` no name of a case is written, shown or logged anywhere."""

from __future__ import annotations

import csv
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from imbalanceseg.dicom.series import write_dicom_series
from imbalanceseg.io import write_image
from imbalanceseg.privacy import DEIDENTIFY_VARIABLE, case_title, key_file, pseudonym

NAMES = ("Mustermann", "Erika")

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="The folder of the key is named as Linux names it."
)


@pytest.fixture
def own_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place for the key that is not the user's."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    import imbalanceseg

    folder = str(Path(imbalanceseg.__file__).parents[1])
    return subprocess.run(
        [sys.executable, "-m", "imbalanceseg", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": folder, "OMP_NUM_THREADS": "1"},
        timeout=240,
    )


def require_nameless(folder: Path, *texts: str) -> None:
    """Neither names nor contents of files, nor what was printed, hold a name."""
    for path in folder.rglob("*"):
        content = path.relative_to(folder).as_posix().encode()
        if path.is_file():
            content += path.read_bytes()
        for name in NAMES:
            assert name.lower().encode() not in content.lower(), path
    for text in texts:
        assert not any(name.lower() in text.lower() for name in NAMES), text


@pytest.mark.slow
@pytest.mark.usefixtures("own_key")
def test_no_name_is_left_in_results_tables_and_messages(
    scan: sitk.Image, bundle: Path, tmp_path: Path
) -> None:
    cases = tmp_path / "cases"
    cases.mkdir()
    write_image(scan, cases / "Mustermann_Erika.nrrd")
    write_image(scan * 0, cases / "erika-constant.nii.gz")
    write_dicom_series(scan, cases / "Mustermann^E")
    output = tmp_path / "out"
    asked = ("--deidentify", "segment", cases, "--model", bundle, "-o", output)
    for style in ("bar", "json"):
        done = run(*asked, "--maps", "none", "--progress", style, "--debug")
        assert done.returncode == 1
        require_nameless(output, done.stdout, done.stderr)
    told = json.loads(run("pseudonyms", *cases.iterdir(), "--json").stdout)
    assert told.keys() == {"Mustermann_Erika", "erika-constant", "Mustermann^E"}
    with open(output / "cases.csv", newline="") as stream:
        rows = {row["case"]: row for row in csv.DictReader(stream)}
    assert rows.keys() == set(told.values())
    report = json.loads((output / told["Mustermann_Erika"] / "report.json").read_text())
    assert report["case"] == told["Mustermann_Erika"]
    failed = rows[told["erika-constant"]]
    assert (failed["code"], failed["message"]) == ("image-constant", "")

    alone = tmp_path / "alone"
    done = run(
        "segment", cases / "Mustermann_Erika.nrrd", "--model", bundle, "-o", alone, "--deidentify"
    )
    assert done.returncode == 0, done.stderr
    require_nameless(alone, done.stdout, done.stderr)


@pytest.mark.slow
@pytest.mark.usefixtures("own_key")
def test_a_training_and_its_review_know_pseudonyms_alone(scan: sitk.Image, tmp_path: Path) -> None:
    dataset, labels = tmp_path / "dataset", sitk.Cast(scan > 0, sitk.sitkUInt8)
    for part, image in (("images", scan), ("labels", labels)):
        (dataset / part).mkdir(parents=True)
        for name in ("Mustermann1", "Mustermann2", "Erika3"):
            write_image(image, dataset / part / f"{name}.nrrd")
    (dataset / "known.csv").write_text("case,sex\nMustermann1,f\nMustermann2,m\nErika3,f\n")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("patch: [16, 16, 16]\nbatch: 1\nvalidate_every: 2\n")
    trained = run(
        "--deidentify", "train", dataset, "-o", tmp_path / "run", "--recipe", recipe,
        "--iterations", 2, "--device", "cpu",
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    require_nameless(tmp_path / "run", trained.stderr)
    hard = run(
        "--deidentify", "hard", dataset, "--model", tmp_path / "run" / "model",
        "-o", tmp_path / "hard", "--metadata", dataset / "known.csv", "--device", "cpu",
    )  # fmt: skip
    assert hard.returncode == 0, hard.stderr
    require_nameless(tmp_path / "hard", hard.stdout, hard.stderr)
    with open(tmp_path / "hard" / "groups.csv", newline="") as stream:
        counted = {row["value"]: int(row["cases"]) for row in csv.DictReader(stream)}
    assert (counted["f"], counted["m"]) == (2, 1)


@pytest.mark.usefixtures("own_key")
def test_the_same_name_has_the_same_pseudonym_on_one_machine_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = pseudonym("a")
    assert first == pseudonym("a") != pseudonym("b")
    assert stat.S_IMODE(key_file().stat().st_mode) == 0o600
    assert [p.name for p in key_file().parent.iterdir()] == [key_file().name]
    assert run("pseudonyms", "a").stdout.split()[-1] == first
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "other"))
    assert pseudonym("a") != first
    shutil.rmtree(tmp_path / "data")
    for value, asked in (("", False), ("0", False), ("off", False), ("1", True), ("yes", True)):
        monkeypatch.setenv(DEIDENTIFY_VARIABLE, value)
        assert (case_title("a") != "a") == asked


@pytest.mark.usefixtures("own_key")
def test_names_of_any_bytes_have_pseudonyms() -> None:
    draw = np.random.default_rng(0)
    names = {os.fsdecode(draw.integers(1, 256, 9).astype(np.uint8).tobytes()) for _ in range(200)}
    assert len({pseudonym(name) for name in names}) == len(names)
