"""Parts of the server by themselves: whose turn it is, what was heard, what a click has changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from imbalanceseg.client.volumes import without_pixels
from imbalanceseg.dicom.series import write_dicom_series
from imbalanceseg.errors import InputError
from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.server.event_log import EventLog
from imbalanceseg.server.fair_queue import FairQueue
from imbalanceseg.server.result_files import paste, write_changed

from .conftest import GRID, make_scan


def test_clients_take_turns() -> None:
    queue = FairQueue(20, 10)
    for job in ("a1", "a2", "a3", "b1", "c1", "c2"):
        queue.put(job[0], job)
    positions = {job: queue.position(job) for job in ("a1", "b1", "c1", "a2", "c2", "a3")}
    assert list(positions.values()) == [0, 1, 2, 3, 4, 5]
    order = [queue.get(0) for _ in range(6)]
    assert order == ["a1", "b1", "c1", "a2", "c2", "a3"]
    assert queue.get(0) is None


def test_a_queue_has_an_end_and_forgets() -> None:
    queue = FairQueue(3, 2)
    queue.put("a", "a1")
    queue.put("a", "a2")
    with pytest.raises(InputError, match="waiting already"):
        queue.put("a", "a3")
    queue.put("b", "b1")
    with pytest.raises(InputError, match="waiting already"):
        queue.put("c", "c1")
    assert queue.remove("a1")
    assert not queue.remove("a1")
    assert len(queue) == 2
    queue.close()
    assert queue.get(10) is None


def test_events_are_numbered_and_the_latest_are_kept() -> None:
    log, heard = EventLog(7), []
    leave = log.listen(lambda: heard.append(log.last))
    for number in range(1500):
        log.add({"n": number})
    leave()
    log.add({"n": 1500})
    assert len(heard) == 1500
    assert [event.number for event in log.after(1505)] == [1506, 1507, 1508]
    assert len(log.after(0)) == 1000


def test_the_box_of_a_change_brings_the_labels_back(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    oblique = Grid(GRID.size, (0.7, 0.8, 1.3), (3, 4, 5), (0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1))
    before = draw.integers(0, 3, oblique.size[::-1], np.uint8)
    after = before.copy()
    after[3:9, 30:36, 0:2] = draw.integers(0, 3, (6, 6, 2), np.uint8)
    images = [image_from_array(one, oblique) for one in (before, after)]
    told = write_changed(*images, tmp_path)
    assert np.prod(told["size"]) <= 6 * 6 * 2
    box = sitk.ReadImage(str(tmp_path / "changed.nrrd"))
    assert np.array_equal(sitk.GetArrayFromImage(paste(box, images[0])), after)
    assert write_changed(images[0], images[0], tmp_path)["start"] is None


def test_pixels_are_cut_off_where_that_is_certain(tmp_path: Path) -> None:
    import pydicom
    from pydicom.uid import ImplicitVRLittleEndian

    write_dicom_series(make_scan(1), tmp_path / "series")
    path = sorted((tmp_path / "series").iterdir())[0]
    whole = pydicom.dcmread(path)
    kept = pydicom.dcmread(path, stop_before_pixels=True)
    implicit = tmp_path / "implicit.dcm"
    whole.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    whole.save_as(implicit, implicit_vr=True, little_endian=True)
    for file in (path, implicit):
        cut = tmp_path / "cut.dcm"
        cut.write_bytes(without_pixels(file.read_bytes()))
        assert cut.stat().st_size < 4000
        read = pydicom.dcmread(cut)
        assert "PixelData" not in read
        assert {e.tag for e in read} == {e.tag for e in kept}
    padded = path.read_bytes() + b"\xfc\xff\xfc\xffOB\0\0\x02\0\0\0\0\0"
    assert without_pixels(padded) == padded
    assert without_pixels(b"junk") == b"junk"
