"""A cohort: what its cases are, what becomes of bad ones, and what a second run does."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from imbalanceseg.cohort import CaseRow, find_cases, segment_cohort
from imbalanceseg.cohort_cases import is_folder_of_cases
from imbalanceseg.dicom.series import write_dicom_series
from imbalanceseg.errors import Cancelled, InputError, OutputError
from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.io import write_image
from imbalanceseg.models.bundle import Model, load_model
from imbalanceseg.progress import ProgressEvent
from imbalanceseg.session import Session

GRID = Grid((16, 14, 12), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
NETWORK: dict[str, Any] = {
    "out_channels": 1,
    "kernels": ((3, 3, 3), (3, 3, 3)),
    "strides": ((1, 1, 1), (2, 2, 2)),
    "features": (4, 4),
}
CHANNEL = {"normalization": {"scheme": "range", "low": 0, "high": 200}}


@pytest.fixture(scope="module")
def scan() -> sitk.Image:
    rng = np.random.default_rng(2)
    return image_from_array(rng.integers(0, 200, GRID.size[::-1]).astype(np.int16), GRID)


@pytest.fixture(scope="module")
def write_model(
    make_card: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Model]:
    """A bundle with a tiny network of random weights."""

    def write(seed: int, channels: int = 1) -> Model:
        import torch

        from imbalanceseg.models.write import write_bundle
        from imbalanceseg.networks import create_network

        torch.manual_seed(seed)
        kwargs = NETWORK | {"in_channels": channels}
        card = make_card(
            name="tiny",
            network={"name": "nnunet", "kwargs": kwargs},
            spacing_mm=(1.0, 1.0, 1.0),
            channels=(CHANNEL,) * channels,
            tile_voxels=(16, 16, 16),
        )
        network = create_network("nnunet", **kwargs)
        return write_bundle(tmp_path_factory.mktemp("models") / "tiny", network, card)

    return write


@pytest.fixture(scope="module")
def model(write_model: Callable[..., Model]) -> Model:
    return write_model(1)


@pytest.fixture
def two(scan: sitk.Image, tmp_path: Path) -> Path:
    """A folder of two good cases."""
    folder = tmp_path / "two"
    folder.mkdir()
    write_image(scan, folder / "a.nii.gz")
    write_image(scan + 3, folder / "b.nrrd")
    return folder


@pytest.fixture
def mixed(scan: sitk.Image, tmp_path: Path) -> Path:
    """A folder with a good, a cut, a constant and a 4D image, a series, and things to pass over."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    write_image(scan, folder / "good.nii.gz")
    write_image(scan, folder / "cut.nii")
    with open(folder / "cut.nii", "r+b") as stream:
        stream.truncate(3000)
    write_image(scan * 0 + 7, folder / "constant.nrrd")
    sitk.WriteImage(sitk.JoinSeries([scan, scan]), str(folder / "four.nii.gz"))
    write_dicom_series(scan, folder / "series")
    write_image(scan, folder / ".hidden.nrrd")
    (folder / "notes.txt").write_text("no image")
    return folder


def _run(folder: Path, model: Model, output: Path, **options: Any) -> list[CaseRow]:
    settings = options.pop("settings", {"maps": ()})
    cases = find_cases(folder, model, output)
    return segment_cohort(cases, model, output, settings, device="cpu", **options)


def _statuses(rows: list[CaseRow]) -> dict[str, str]:
    return {row.case: row.status for row in rows}


def _table(output: Path) -> dict[str, dict[str, str]]:
    with open(output / "cases.csv", newline="", encoding="utf-8") as stream:
        return {row["case"]: row for row in csv.DictReader(stream)}


def _times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def _names(folder: Path, model: Model, output: Path | None = None) -> list[str]:
    return [case.name for case in find_cases(folder, model, output)]


def test_bad_cases_never_stop_the_rest(mixed: Path, model: Model, tmp_path: Path) -> None:
    out = tmp_path / "out"
    events: list[ProgressEvent] = []
    rows = _run(mixed, model, out, progress=events.append)
    codes = {row.case: row.code for row in rows}
    assert codes == {
        "constant": "image-constant",
        "cut": "file-truncated",
        "four": "image-not-3d",
        "good": "",
        "series": "",
    }
    assert _statuses(rows) == {case: "failed" if code else "done" for case, code in codes.items()}
    assert sorted(os.listdir(out)) == ["cases.csv", "good", "series"]
    assert sorted(os.listdir(out / "good")) == ["labels.nrrd", "overview.png", "report.json"]
    told = [(e.done, e.total, e.message) for e in events if e.stage == "cases"]
    names = ["constant", "cut", "four", "good", "series", ""]
    assert told == [(n, 5, name) for n, name in enumerate(names)]
    stages = [e.stage for e in events]
    assert "tiles" in stages[stages.index("write") + 4 :]


def test_the_table_tells_what_the_reports_tell(mixed: Path, model: Model, tmp_path: Path) -> None:
    out = tmp_path / "out"
    _run(mixed, model, out)
    table = _table(out)
    assert list(table) == ["constant", "cut", "four", "good", "series"]
    assert list(table["good"]) == [
        "case", "input", "status", "seconds", "volume_ml[Airway tree]", "components[Airway tree]",
        "code", "message", "model", "model_version", "model_sha", "settings", "input_fingerprint",
    ]  # fmt: skip
    for case, file in (("good", "good.nii.gz"), ("series", "series")):
        report = json.loads((out / case / "report.json").read_text())
        (segment,) = report["segments"]
        row = table[case]
        assert report["case"] == case
        assert float(row["volume_ml[Airway tree]"]) == segment["volume_ml"]
        assert int(row["components[Airway tree]"]) == segment["components"]
        assert (row["input"], row["status"], row["code"]) == (file, "done", "")
        assert row["model_sha"] == report["model"]["sha256"]
        assert float(row["seconds"]) > 0
    cut = table["cut"]
    assert (cut["status"], cut["code"]) == ("failed", "file-truncated")
    assert cut["message"].startswith("The file cut.nii ends before")
    assert cut["volume_ml[Airway tree]"] == ""
    assert str(tmp_path) not in (out / "cases.csv").read_text()


def test_a_second_run_does_nothing(two: Path, model: Model, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = _run(two, model, out)
    before = _times(out)
    events: list[ProgressEvent] = []
    second = _run(two, model, out, progress=events.append)
    assert _times(out) == before
    assert _statuses(second) == {"a": "skipped", "b": "skipped"}
    assert [row.volume_ml for row in second] == [row.volume_ml for row in first]
    assert [(e.stage, e.done, e.total) for e in events] == [("cases", 2, 2)]


def test_only_what_failed_is_tried_again(
    mixed: Path, scan: sitk.Image, model: Model, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    _run(mixed, model, out)
    write_image(scan, mixed / "cut.nii")
    assert _statuses(_run(mixed, model, out)) == {
        "constant": "failed",
        "cut": "done",
        "four": "failed",
        "good": "skipped",
        "series": "skipped",
    }
    assert (_table(out)["cut"]["code"], _table(out)["good"]["status"]) == ("", "done")


def test_what_has_changed_is_done_anew(
    two: Path, scan: sitk.Image, model: Model, write_model: Callable[..., Model], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    _run(two, model, out)
    write_image(scan + 9, two / "a.nii.gz")
    assert _statuses(_run(two, model, out)) == {"a": "done", "b": "skipped"}
    (out / "b" / "report.json").unlink()
    assert _statuses(_run(two, model, out)) == {"a": "skipped", "b": "done"}
    other = {"settings": {"maps": ("hardness",)}}
    assert set(_statuses(_run(two, model, out, **other)).values()) == {"done"}
    assert (out / "a" / "hardness.nrrd").is_file()
    assert set(_statuses(_run(two, model, out, **other)).values()) == {"skipped"}
    assert set(_statuses(_run(two, write_model(2), out, **other)).values()) == {"done"}


def test_one_changed_slice_changes_a_series(scan: sitk.Image, model: Model, tmp_path: Path) -> None:
    files = write_dicom_series(scan, tmp_path / "series")
    (case,) = find_cases(tmp_path, model)
    before = case.fingerprint()
    assert case.fingerprint() == before
    os.utime(files[5], ns=(1, 1))
    assert case.fingerprint() != before


def test_another_threshold_in_the_card_is_another_setting(
    two: Path, model: Model, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    _run(two, model, out)
    prose = Model(model.path, model.card.model_copy(update={"description": "Better said."}))
    assert set(_statuses(_run(two, prose, out)).values()) == {"skipped"}
    changed = Model(model.path, model.card.model_copy(update={"threshold": 0.9}))
    assert set(_statuses(_run(two, changed, out)).values()) == {"done"}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_case_it_was_killed_in(
    two: Path, model: Model, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code = f"""
import os, signal
from imbalanceseg.cohort import find_cases, segment_cohort
from imbalanceseg.models.bundle import load_model
case = []
def tell(event):
    if event.stage == "cases":
        case.append(event.message)
    if case[-1] == "b" and event.stage == "write" and event.done == 1:
        os.kill(os.getpid(), signal.SIGKILL)
model = load_model({str(model.path)!r})
cases = find_cases({str(two)!r}, model)
segment_cohort(cases, model, {str(out)!r}, {{"maps": ()}}, device="cpu", progress=tell)
"""
    import imbalanceseg

    environment = {**os.environ, "PYTHONPATH": str(Path(imbalanceseg.__file__).parents[1])}
    killed = subprocess.run([sys.executable, "-c", code], env=environment, timeout=240)
    assert killed.returncode == -signal.SIGKILL
    assert {case: row["status"] for case, row in _table(out).items()} == {
        "a": "done",
        "b": "started",
    }
    assert os.listdir(out / "b") == ["labels.nrrd"]
    before = _times(out / "a")
    assert _statuses(_run(two, load_model(model.path), out)) == {"a": "skipped", "b": "done"}
    assert _times(out / "a") == before
    assert _table(out)["b"]["status"] == "done"


def test_a_case_begun_with_other_settings_is_no_longer_done_with_the_old_ones(
    two: Path, model: Model, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    _run(two, model, out)

    def stop(event: ProgressEvent) -> None:
        if event.stage == "write" and event.done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _run(two, model, out, settings={"maps": ("hardness",)}, progress=stop)
    assert {case: row["status"] for case, row in _table(out).items()} == {
        "a": "started",
        "b": "done",
    }
    assert _statuses(_run(two, model, out)) == {"a": "done", "b": "skipped"}


@pytest.mark.parametrize("error", [Cancelled(), BrokenPipeError(), KeyboardInterrupt()])
def test_what_the_receiver_of_progress_raises_stops_the_work(
    error: BaseException, two: Path, model: Model, tmp_path: Path
) -> None:
    def stop(event: ProgressEvent) -> None:
        if event.stage == "tiles":
            raise error

    with pytest.raises(type(error)) as caught:
        _run(two, model, tmp_path / "out", progress=stop)
    assert caught.value is error
    assert os.listdir(tmp_path / "out") == ["cases.csv"]
    assert [row["status"] for row in _table(tmp_path / "out").values()] == ["started"]


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ZeroDivisionError("by\nzero"), "unexpected", "ZeroDivisionError: by"),
        (MemoryError(), "out-of-memory", "MemoryError"),
    ],
)
def test_unexpected_errors_become_rows(
    error: Exception,
    code: str,
    message: str,
    two: Path,
    model: Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = Session.segment

    def fail(self: Session, *given: Any, **options: Any) -> Any:
        if self.name == "a":
            raise error
        return real(self, *given, **options)

    monkeypatch.setattr(Session, "segment", fail)
    bad, good = _run(two, model, tmp_path / "out")
    assert (bad.status, bad.code, bad.message) == ("failed", code, message)
    assert good.status == "done"
    assert _table(tmp_path / "out")["a"]["message"] == message


def test_a_full_disk_stops_the_cohort(
    two: Path, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def full(self: Session, *given: Any, **options: Any) -> Any:
        tried.append(self.name)
        raise OutputError("disk-full", "There is no space left.")

    monkeypatch.setattr(Session, "write", full)
    with pytest.raises(OutputError) as caught:
        _run(two, model, tmp_path / "out")
    assert (caught.value.code, tried) == ("disk-full", ["a"])


def test_what_lies_in_the_way_of_one_case_stops_only_that(
    two: Path, model: Model, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_text("in the way")
    bad, good = _run(two, model, tmp_path / "out")
    assert (bad.code, good.status) == ("output-not-writable", "done")


def test_an_output_that_cannot_be_written_is_refused_at_once(
    two: Path, model: Model, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError) as caught:
        _run(two, model, tmp_path / "file" / "out")
    assert caught.value.code == "output-not-writable"


@pytest.mark.parametrize("text", ["name,age\nMiller,62\n", "\x00\x01", ""])
def test_a_table_of_someone_else_is_not_overwritten(
    text: str, two: Path, model: Model, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "cases.csv").write_text(text)
    with pytest.raises(OutputError) as caught:
        _run(two, model, tmp_path / "out")
    assert caught.value.code == "table-unknown"
    assert (tmp_path / "out" / "cases.csv").read_text() == text
    assert os.listdir(tmp_path / "out") == ["cases.csv"]


def test_rows_of_other_cases_stay(
    two: Path, scan: sitk.Image, model: Model, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    _run(two, model, out)
    (tmp_path / "more").mkdir()
    write_image(scan, tmp_path / "more" / "c.nrrd")
    assert _statuses(_run(tmp_path / "more", model, out)) == {"c": "done"}
    assert list(_table(out)) == ["a", "b", "c"]
    assert set(_statuses(_run(two, model, out)).values()) == {"skipped"}


def test_channels_are_read_together(
    scan: sitk.Image, write_model: Callable[..., Model], tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("x_0000", "x_0001", "y_0000"):
        write_image(scan, folder / f"{name}.nii.gz")
    whole, half = _run(folder, write_model(1, 2), tmp_path / "out")
    assert (whole.case, whole.status) == ("x", "done")
    assert (half.case, half.code) == ("y", "path-not-found")
    assert "y_0001.nii.gz" in half.message


def test_a_dicom_seg_is_written_for_series_and_refused_for_files(
    mixed: Path, model: Model, tmp_path: Path
) -> None:
    sure = Model(model.path, model.card.model_copy(update={"threshold": 0.01}))
    rows = {row.case: row for row in _run(mixed, sure, tmp_path / "out", dicom_seg=True)}
    assert rows["good"].code == "dicom-seg-needs-series"
    assert rows["series"].status == "done"
    assert (tmp_path / "out" / "series" / "segmentation.dcm").is_file()


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({}, "device-missing"),
        ({"without": ("foo",)}, "step-unknown"),
        ({"memory_gb": 0}, "memory-too-small"),
        ({"hardness": "feeling"}, "hardness-unknown"),
        ({"maps": ("beauty",)}, "map-unknown"),
    ],
)
def test_what_would_be_wrong_with_every_case_is_refused_before_the_first(
    settings: dict[str, Any], code: str, two: Path, model: Model, tmp_path: Path
) -> None:
    cases = find_cases(two, model)
    device = "cpu" if settings else "cuda:99"
    with pytest.raises(InputError) as caught:
        segment_cohort(cases, model, tmp_path / "out", settings, device=device)
    assert caught.value.code == code
    assert not (tmp_path / "out").exists()


class TestFindCases:
    """The files need not be images: only their names and whether they are DICOM count."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        (tmp_path / "in").mkdir()
        return tmp_path / "in"

    @staticmethod
    def touch(folder: Path, *names: str) -> None:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("x")

    def test_equal_names_are_told_apart(self, folder: Path, model: Model) -> None:
        self.touch(folder, "a.nii.gz", "a.nrrd", "B.mha", "b.mhd", "c.nii", "p/c.nii", "q/d.nii")
        assert _names(folder, model) == [
            "a.nii.gz", "a.nrrd", "B.mha", "b.mhd", "c.nii", "d", "p-c",
        ]  # fmt: skip

    def test_no_case_gets_the_name_of_the_table(self, folder: Path, model: Model) -> None:
        self.touch(folder, "cases.csv.nrrd")
        assert _names(folder, model) == ["cases.csv.nrrd"]

    def test_results_are_no_cases(self, folder: Path, model: Model) -> None:
        self.touch(folder, "a.nrrd", "old/labels.nrrd", "old/report.json", "out/b.nrrd")
        assert _names(folder, model, folder / "out") == ["a"]
        with pytest.raises(InputError) as caught:
            find_cases(folder, model, folder / "old" / "..")
        assert caught.value.code == "output-is-input"

    def test_a_case_named_like_the_input_beside_it_goes_elsewhere(
        self, folder: Path, model: Model
    ) -> None:
        self.touch(folder, "in.nrrd")
        assert _names(folder, model, folder.parent) == ["in.nrrd"]

    def test_an_empty_folder_holds_no_cases(self, folder: Path, model: Model) -> None:
        self.touch(folder, "notes.txt", ".hidden.nrrd", "deep/er/a.nrrd")
        with pytest.raises(InputError) as caught:
            find_cases(folder, model)
        assert (caught.value.code, bool(caught.value.hint)) == ("no-cases", True)

    def test_a_link_that_leads_nowhere_is_a_case(self, folder: Path, model: Model) -> None:
        (folder / "gone.nii.gz").symlink_to(folder / "nowhere")
        assert _names(folder, model) == ["gone"]

    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such names")
    def test_names_that_cannot_be_written_as_text(self, folder: Path, model: Model) -> None:
        (folder / os.fsdecode(b"caf\xe9\n.nrrd")).write_text("x")
        assert _names(folder, model) == ["caf__"]

    def test_channels_of_one_case(
        self, folder: Path, model: Model, make_card: Callable[..., Any]
    ) -> None:
        self.touch(folder, "x_0000.nii.gz", "x_0001.nii.gz", "y_0001.nii.gz", "z.nii.gz")
        both = Model(Path("two"), make_card(channels=(CHANNEL, CHANNEL)))
        cases = {case.name: case for case in find_cases(folder, both)}
        files = {name: [c.source.name, *(p.name for p in c.channels)] for name, c in cases.items()}
        assert files == {
            "x": ["x_0000.nii.gz", "x_0001.nii.gz"],
            "y": ["y_0000.nii.gz", "y_0001.nii.gz"],
            "z": ["z.nii.gz"],
        }
        assert _names(folder, model) == ["x_0000", "x_0001", "y_0001", "z"]

    def test_pictures_are_for_2d_models(
        self, folder: Path, model: Model, make_card: Callable[..., Any]
    ) -> None:
        self.touch(folder, "a.png", "b.TIF", "c.nrrd")
        card = make_card(spacing_mm=(1.0, 1.0), tile_voxels=(16, 16), axes=(0, 1), mirrored_axes=())
        assert _names(folder, Model(Path("flat"), card)) == ["a", "b", "c"]
        assert _names(folder, model) == ["c"]

    def test_the_data_beside_a_header_belong_to_the_input(self, folder: Path, model: Model) -> None:
        self.touch(folder, "a.mhd", "a.raw", "ab.raw")
        (case,) = find_cases(folder, model)
        assert [path.name for path in case.files] == ["a.mhd", "a.raw"]

    def test_every_series_of_a_folder_is_a_case(
        self, folder: Path, scan: sitk.Image, model: Model, tmp_path: Path
    ) -> None:
        for number in (1, 2):
            for file in write_dicom_series(scan, tmp_path / f"s{number}", series_number=number):
                (folder / "both").mkdir(exist_ok=True)
                shutil.copy(file, folder / "both" / f"{number}-{file.name}")
        cases = find_cases(folder, model)
        uids = {pydicom.dcmread(file).SeriesInstanceUID for file in (folder / "both").iterdir()}
        assert {case.series_uid for case in cases} == uids
        for case in cases:
            assert case.series_uid is not None
            assert case.series_uid.startswith(case.name.removeprefix("both-"))
            assert len(case.name) >= len("both-") + 8
            assert len(case.files) == GRID.size[2]

    def test_a_series_uid_never_leads_out_of_the_output(
        self, folder: Path, scan: sitk.Image, model: Model
    ) -> None:
        files = write_dicom_series(scan, folder / "both")
        for uid, file in zip(("/../../x", "/../../y"), files, strict=False):
            header = pydicom.dcmread(file)
            header.SeriesInstanceUID = uid
            header.save_as(file)
        assert not any("/" in name for name in _names(folder, model))

    def test_a_damaged_series_is_a_case_that_fails(
        self, folder: Path, scan: sitk.Image, model: Model
    ) -> None:
        write_image(scan, folder / "good.nrrd")
        files = write_dicom_series(scan, folder / "damaged")
        files[3].write_bytes(files[3].read_bytes()[:300])
        rows = _run(folder, model, folder / "out")
        assert {row.case: row.code for row in rows} == {
            "damaged": "dicom-unreadable",
            "good": "",
        }

    def test_a_folder_of_slices_is_one_scan(self, folder: Path, scan: sitk.Image) -> None:
        assert is_folder_of_cases(folder)
        self.touch(folder, "note.txt")
        assert is_folder_of_cases(folder)
        write_dicom_series(scan, folder / "series")
        assert is_folder_of_cases(folder)
        assert not is_folder_of_cases(folder / "series")
        assert not is_folder_of_cases(folder / "note.txt")
        self.touch(folder / "series", "mask.nrrd")
        assert not is_folder_of_cases(folder / "series")
