"""Archives: what Orthanc holds comes here and what is sent gets there, whatever the line does."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from imbalanceseg.cli.main import main
from imbalanceseg.dicom import archive as archives
from imbalanceseg.dicom.archive import (
    Archive,
    ArchiveError,
    ArchiveUnreachableError,
    RemoteSeries,
    SeriesQuery,
    find_series,
    get_series,
    send_files,
)
from imbalanceseg.dicom.archive_address import Entrance, open_archive, token_from
from imbalanceseg.dicom.seg import write_dicom_seg
from imbalanceseg.dicom.seg_reading import on_scan, read_dicom_seg
from imbalanceseg.errors import InputError
from imbalanceseg.geometry import Grid
from imbalanceseg.io import read_image
from imbalanceseg.labels import TUMOR

from .conftest import REAL_SERIES
from .orthanc import PROGRAM, Orthanc, free_port, running_orthanc, tls_door
from .test_seg import SEGMENTS, blob, two_labels

pytest.importorskip("dicomweb_client")
pytest.importorskip("pynetdicom")
needs_orthanc = pytest.mark.skipif(PROGRAM is None, reason="Orthanc is not installed")


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with running_orthanc(tmp_path_factory.mktemp("orthanc")) as made:
        yield made


@pytest.fixture
def empty(orthanc: Orthanc) -> Orthanc:
    orthanc.delete_all()
    return orthanc


@pytest.fixture(params=["web", "dimse"])
def address(request: pytest.FixtureRequest, empty: Orthanc) -> str:
    return str(getattr(empty, request.param))


@pytest.fixture(scope="module")
def segmentation(oblique: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("seg") / "seg.dcm"
    write_dicom_seg(two_labels(oblique), oblique, path, SEGMENTS)
    return path


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_FIRST_WAIT_S", 0.01)


def files_of(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix == ".dcm")


@pytest.mark.slow
@needs_orthanc
class TestOrthanc:
    def test_what_is_sent_is_found_and_comes_back(
        self,
        address: str,
        oblique: Path,
        segmentation: Path,
        tmp_path: Path,
    ) -> None:
        files = files_of(oblique)
        sent = send_files(open_archive(address), [*files, segmentation])
        assert (sent.done, sent.before) == (len(files) + 1, 0)
        found = find_series(open_archive(address), SeriesQuery(patient_id="PHANT*"))
        by_modality = {series.modality: series for series in found}
        assert by_modality.keys() == {"CT", "SEG"}
        header = pydicom.dcmread(files[0])
        assert by_modality["CT"].series_uid == header.SeriesInstanceUID
        assert by_modality["CT"].description == header.SeriesDescription
        got = get_series(open_archive(address), by_modality["CT"], tmp_path)
        assert (got.done, got.before) == (len(files), 0)
        ours, theirs = read_image(oblique), read_image(tmp_path)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(ours), sitk.GetArrayFromImage(theirs))
        place = tmp_path / "seg"
        place.mkdir()
        get_series(open_archive(address), by_modality["SEG"], place)
        (back,) = files_of(place)
        assert pydicom.dcmread(back).PixelData == pydicom.dcmread(segmentation).PixelData

    @pytest.mark.parametrize("name", REAL_SERIES)
    def test_segmentations_of_real_series_come_back_the_same(
        self, empty: Orthanc, real_series: dict[str, Path], tmp_path: Path, name: str
    ) -> None:
        folder, path = real_series[name], tmp_path / "seg.dcm"
        labels = blob(folder)
        write_dicom_seg(labels, folder, path, [TUMOR])
        pixels = pydicom.dcmread(path).PixelData
        for number, address in enumerate((empty.web, empty.dimse)):
            empty.delete_all()
            send_files(open_archive(address), [path])
            (series,) = find_series(open_archive(address), SeriesQuery())
            back = tmp_path / str(number)
            back.mkdir()
            get_series(open_archive(address), series, back)
            (file,) = files_of(back)
            assert pydicom.dcmread(file).PixelData == pixels
            (again, _) = read_dicom_seg(file).layers()[0]
            np.testing.assert_array_equal(
                sitk.GetArrayFromImage(on_scan(again, Grid.of(labels))),
                sitk.GetArrayFromImage(labels),
            )

    def test_what_is_there_travels_once(
        self,
        address: str,
        oblique: Path,
        tmp_path: Path,
    ) -> None:
        files = files_of(oblique)
        send_files(open_archive(address), files[:4])
        assert send_files(open_archive(address), files).before == 4
        (series,) = find_series(open_archive(address), SeriesQuery())
        get_series(open_archive(address), series, tmp_path)
        for path in files_of(tmp_path)[::2]:
            path.unlink()
        kept = {p: p.stat().st_mtime_ns for p in files_of(tmp_path)}
        got = get_series(open_archive(address), series, tmp_path)
        assert got.before == len(kept)
        assert all(p.stat().st_mtime_ns == time for p, time in kept.items())

    def test_a_query_leaves_out_what_does_not_match(self, address: str, oblique: Path) -> None:
        send_files(open_archive(address), files_of(oblique)[:1])
        uid = str(pydicom.dcmread(files_of(oblique)[0]).SeriesInstanceUID)
        day = str(pydicom.dcmread(files_of(oblique)[0]).StudyDate)
        for query, count in (
            (SeriesQuery(modality="CT"), 1),
            (SeriesQuery(modality="MR"), 0),
            (SeriesQuery(patient_id="NOBODY"), 0),
            (SeriesQuery(date=f"{day}-{day}"), 1),
            (SeriesQuery(date="19000101"), 0),
            (SeriesQuery(series_uid=uid), 1),
            (SeriesQuery(description="no such*"), 0),
        ):
            assert len(find_series(open_archive(address), query)) == count, query

    def test_an_archive_that_sends_by_itself(
        self,
        empty: Orthanc,
        oblique: Path,
        tmp_path: Path,
    ) -> None:
        send_files(open_archive(empty.dimse), files_of(oblique))
        (series,) = find_series(open_archive(empty.dimse), SeriesQuery())
        listening = open_archive(empty.dimse, Entrance(listen_port=empty.move_port))
        assert get_series(listening, series, tmp_path).done == len(files_of(oblique))

    def test_compressed_pixels_stay_as_they_are(
        self, address: str, real_series: dict[str, Path], tmp_path: Path
    ) -> None:
        files = files_of(real_series["jpeg-lossless-ct"])[:3]
        send_files(open_archive(address), files)
        (series,) = find_series(open_archive(address), SeriesQuery())
        get_series(open_archive(address), series, tmp_path)
        ours = {pydicom.dcmread(p).SOPInstanceUID: pydicom.dcmread(p) for p in files}
        for path in files_of(tmp_path):
            back = pydicom.dcmread(path)
            one = ours[back.SOPInstanceUID]
            assert back.file_meta.TransferSyntaxUID == one.file_meta.TransferSyntaxUID
            assert back.PixelData == one.PixelData

    def test_the_commands(
        self,
        address: str,
        oblique: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        at = ["--archive", address]
        assert main(["pacs", "send", str(oblique), *at]) == 0
        assert "9 files sent, 0 were there" in capsys.readouterr().out
        assert main(["pacs", "find", "--modality", "CT", "--json", *at]) == 0
        (found,) = json.loads(capsys.readouterr().out)
        assert main(["pacs", "get", found["series_uid"], "-o", str(tmp_path / "got"), *at]) == 0
        assert len(files_of(tmp_path / "got")) == 9
        assert main(["pacs", "get", "1.2.3", "-o", str(tmp_path / "none"), *at]) == 2
        assert "series-not-found" in capsys.readouterr().err

    @pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
    @pytest.mark.parametrize("way", ["web", "dimse"])
    def test_over_tls_with_an_authority_of_ones_own(
        self, empty: Orthanc, oblique: Path, tmp_path: Path, way: str
    ) -> None:
        key, certificate, both = (tmp_path / name for name in ("key.pem", "cert.pem", "both.pem"))
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
             "-keyout", key, "-out", certificate, "-subj", "/CN=127.0.0.1",
             "-addext", "subjectAltName=IP:127.0.0.1"],
            check=True, capture_output=True,
        )  # fmt: skip
        both.write_text(key.read_text() + certificate.read_text())
        with tls_door(empty.http_port if way == "web" else empty.dicom_port, both) as port:
            address = f"https://127.0.0.1:{port}/dicom-web"
            if way == "dimse":
                address = f"dicoms://ORTHANC@127.0.0.1:{port}"
            trusted = open_archive(address, Entrance(authorities=certificate, timeout_s=5))
            assert send_files(trusted, files_of(oblique)[:1]).done == 1
            with pytest.raises(ArchiveError) as caught:
                find_series(open_archive(address, Entrance(timeout_s=5)), SeriesQuery())
            assert caught.value.code in ("archive-certificate", "archive-unreachable")


class FlakyArchive(Archive):
    """Breaks after each instance, a given number of times, and sends what was not asked for."""

    def __init__(self, uids: list[str], breaks: int) -> None:
        self.uids, self.breaks = uids, breaks

    def find(self, query: SeriesQuery) -> list[RemoteSeries]:
        return []

    def instances(self, study_uid: str, series_uid: str) -> list[str]:
        return self.uids

    def fetch(self, series: RemoteSeries, wanted: Any, keep: Any) -> None:
        keep(instance("9.9.9"))
        for uid in wanted:
            keep(instance(uid))
            if self.breaks:
                self.breaks -= 1
                raise ArchiveUnreachableError("archive-unreachable", "The line broke.")

    def store(self, path: Path) -> None:
        raise AssertionError


def instance(uid: str) -> pydicom.Dataset:
    made = pydicom.Dataset()
    made.SOPClassUID, made.SOPInstanceUID = pydicom.uid.CTImageStorage, uid
    made.file_meta = pydicom.dataset.FileMetaDataset()
    made.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    return made


SERIES = RemoteSeries("1", "2", "CT", "", "", "")


class TestBrokenLines:
    def test_it_goes_on_where_it_broke(self, tmp_path: Path) -> None:
        got = get_series(FlakyArchive(["1.1", "1.2", "1.3"], 2), SERIES, tmp_path)
        assert got.done == 3
        assert {p.stem for p in files_of(tmp_path)} == {"1.1", "1.2", "1.3"}

    def test_after_some_tries_it_says_so_and_keeps_what_has_come(self, tmp_path: Path) -> None:
        uids = [f"1.{n}" for n in range(9)]
        with pytest.raises(ArchiveUnreachableError):
            get_series(FlakyArchive(uids, 99), SERIES, tmp_path)
        assert len(files_of(tmp_path)) == archives.ATTEMPTS

    def test_an_instance_that_is_named_like_a_path_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ArchiveError) as caught:
            get_series(FlakyArchive(["../../x"], 0), SERIES, tmp_path)
        assert caught.value.code == "archive-answer"

    @pytest.mark.parametrize("scheme", ["http://127.0.0.1:{}", "dicom://A@127.0.0.1:{}"])
    def test_nobody_listens(self, scheme: str) -> None:
        opened = open_archive(scheme.format(free_port()), Entrance(timeout_s=2))
        with pytest.raises(ArchiveUnreachableError):
            find_series(opened, SeriesQuery())

    @pytest.mark.parametrize("scheme", ["http://127.0.0.1:{}", "dicom://A@127.0.0.1:{}"])
    def test_somebody_who_never_answers(self, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(archives, "ATTEMPTS", 1)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            opened = open_archive(scheme.format(silent.getsockname()[1]), Entrance(timeout_s=0.5))
            with pytest.raises(ArchiveError):
                find_series(opened, SeriesQuery())


class Page(BaseHTTPRequestHandler):
    """Answers every request as the test says, and remembers its headers."""

    status, body, kind = 200, b"[]", "application/dicom+json"
    seen: list[dict[str, str]] = []  # noqa: RUF012

    def do_GET(self) -> None:
        type(self).seen.append(dict(self.headers))
        self.send_response(self.status)
        self.send_header("Content-Type", self.kind)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def page() -> Iterator[tuple[str, type[Page]]]:
    kind = type("OwnPage", (Page,), {"seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/dicom-web", kind
    server.shutdown()


class TestWeb:
    def test_the_token_goes_with_every_request(self, page: Any) -> None:
        address, kind = page
        find_series(open_archive(address, Entrance(token="secret")), SeriesQuery())
        assert [h["Authorization"] for h in kind.seen] == ["Bearer secret"]

    @pytest.mark.parametrize(
        ("status", "code", "asked"),
        [
            (401, "archive-refused", 1),
            (403, "archive-refused", 1),
            (404, "archive-not-found", 1),
            (503, "archive-busy", archives.ATTEMPTS),
            (429, "archive-busy", archives.ATTEMPTS),
        ],
    )
    def test_a_status_is_a_sentence(self, page: Any, status: int, code: str, asked: int) -> None:
        address, kind = page
        kind.status = status
        with pytest.raises(ArchiveError) as caught:
            find_series(open_archive(address), SeriesQuery())
        assert caught.value.code == code
        assert len(kind.seen) == asked

    @pytest.mark.parametrize("body", [b"<html>", b"{", b"[1, 2]", b'[{"0020000D": 5}]'])
    def test_what_is_no_dicom_is_told(self, page: Any, body: bytes) -> None:
        address, kind = page
        kind.body = body
        with pytest.raises(ArchiveError) as caught:
            find_series(open_archive(address), SeriesQuery())
        assert caught.value.code == "archive-answer"


class TestAddress:
    @pytest.mark.parametrize(
        "address",
        [
            "",
            "ftp://x",
            "https://",
            "dicom://host:104",
            "dicom://T@host",
            "http://[::1",
            "dicom://T@h:x",
        ],
    )
    def test_what_is_none_is_told(self, address: str) -> None:
        with pytest.raises(InputError) as caught:
            open_archive(address)
        assert caught.value.code == "archive-address"

    def test_a_password_in_it_is_not_shown(self) -> None:
        with pytest.raises(InputError) as caught:
            open_archive("ftp://me:secret@host/x")
        assert "secret" not in str(caught.value)

    def test_a_token_never_travels_unprotected(self) -> None:
        with pytest.raises(InputError) as caught:
            open_archive("http://pacs.hospital/dicom-web", Entrance(token="secret"))
        assert caught.value.code == "archive-unprotected"
        assert "secret" not in str(caught.value)

    def test_a_title_has_sixteen_characters(self) -> None:
        with pytest.raises(InputError) as caught:
            open_archive("dicom://A-TITLE-THAT-IS-TOO-LONG@host:104")
        assert caught.value.code == "archive-title"

    def test_the_token_stands_in_a_file_or_the_environment(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "token"
        path.write_text("abc\n")
        assert token_from(path) == "abc"
        monkeypatch.setenv("IMBALANCESEG_PACS_TOKEN", "xyz")
        assert token_from(None) == "xyz"
        for text in ("", "two words"):
            path.write_text(text)
            with pytest.raises(InputError):
                token_from(path)

    def test_certificates_that_are_none_are_told(self, tmp_path: Path) -> None:
        path = tmp_path / "ca.pem"
        path.write_text("nothing")
        with pytest.raises(InputError) as caught:
            open_archive("https://host/dicom-web", Entrance(authorities=path))
        assert caught.value.code == "certificate-unreadable"


def test_a_file_that_is_no_dicom_is_told_before_anything_is_sent(
    tmp_path: Path,
    oblique: Path,
) -> None:
    shutil.copy(files_of(oblique)[0], tmp_path / "a.dcm")
    (tmp_path / "b.dcm").write_text("nothing")
    with pytest.raises(InputError) as caught:
        send_files(FlakyArchive([], 0), files_of(tmp_path))
    assert caught.value.code == "dicom-unreadable"
