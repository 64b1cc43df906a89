"""What leaves the module: DICOM Segmentations that refer to their series, NRRD files, reports."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
import slicer

from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.labels import AIRWAY_TREE
from ImbalanceSegLib.Engine.EngineResult import EngineResult
from ImbalanceSegLib.Logic.DicomTargets.Database import Database
from ImbalanceSegLib.Logic.DicomTargets.DicomNode import DicomNode
from ImbalanceSegLib.Logic.DicomTargets.Dicomweb import Dicomweb
from ImbalanceSegLib.Logic.DicomTargets.Folder import Folder
from ImbalanceSegLib.Logic.ExportLogic import ExportLogic
from ImbalanceSegLib.Scene.SegmentWriter import SegmentWriter
from ImbalanceSegLib.Scene.WorkRecord import WorkRecord

pydicom = pytest.importorskip("pydicom")


class FakeDatabase:
    """The part of ctkDICOMDatabase that is used."""

    isOpen = True

    def __init__(self):
        self.files = {}

    def fileForInstance(self, uid):
        return self.files.get(uid, "")


@pytest.fixture
def database(monkeypatch):
    made = FakeDatabase()
    monkeypatch.setattr(slicer, "dicomDatabase", made, raising=False)
    return made


def writeSeries(folder):
    """A small oblique series, and its image as ITK reads it."""
    from imbalanceseg.dicom.series import write_dicom_series
    from imbalanceseg.io import read_image

    c, s = np.cos(0.4), np.sin(0.4)
    grid = Grid((20, 16, 9), (0.8, 0.8, 2.5), (-20.0, 15.5, -300.0), (c, 0, s, 0, 1, 0, -s, 0, c))
    values = np.random.default_rng(0).integers(-900, 100, grid.size[::-1]).astype(np.int16)
    values[2:6, 4:9, 5:12] = 1400
    values[4:5, 9:13, 11:13] = 1200
    write_dicom_series(image_from_array(values, grid), folder)
    return read_image(folder)


def volumeOf(image, files, database):
    """A volume node as the DICOM module would have loaded it."""
    grid = Grid.of(image)
    matrix = np.eye(4)
    matrix[:3, :3] = grid.matrix * np.asarray(grid.spacing_mm)
    matrix[:3, 3] = grid.origin_mm
    matrix[:2] *= -1
    voxels = sitk.GetArrayFromImage(image)
    node = slicer.util.addVolumeFromArray(
        voxels, slicer.util.vtkMatrixFromArray(matrix), name="CT: 5/7"
    )
    for path in files:
        database.files[str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)] = path
    node.SetAttribute("DICOM.instanceUIDs", " ".join(database.files))
    return node


@pytest.fixture
def volume(scene, database, tmp_path):
    image = writeSeries(tmp_path / "series")
    files = sorted(str(path) for path in (tmp_path / "series").iterdir())
    return volumeOf(image, files, database)


@pytest.fixture
def segmented(scene, volume):
    """A segmentation as a run leaves it, without the run."""
    labels = (slicer.util.arrayFromVolume(volume) > 1000).astype(np.uint8)
    return filled(volume, labels)


def filled(volume, labels, job="1" * 32):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "CT: 5/7 segmentation")
    result = EngineResult(
        labels=labels,
        segments=(AIRWAY_TREE,),
        modelName="airway",
        modelVersion="1.2.3",
        jobID=job,
        report={"model": {"name": "airway"}, "notes": []},
    )
    SegmentWriter(node, volume).write(result)
    record = WorkRecord(node)
    record.describe(result)
    record.push("segment", job, "airway")
    record.setEngineLabels(labels)
    return node


class FakeTask(SimpleNamespace):
    def heard(self):
        pass

    def require_wanted(self):
        pass


class FakeClient:
    """Answers a request for a DICOM Segmentation at once with what it was asked."""

    def __init__(self, content=b"DICM", error=None):
        self.content, self.error, self.asked = content, error, None

    def background(self, work, on_done):
        task = FakeTask(is_over=False, is_cancelled=False, error=None, result=None)
        try:
            task.result = work(task)
        except Exception as error:
            task.error = error
        task.is_over = True
        on_done(task)
        return task

    def dicom_seg(self, scan, base, series, labels, **options):
        self.asked = SimpleNamespace(
            scan=scan, base=base, series=series, labels=labels, options=options
        )
        result = SimpleNamespace(files={"segmentation.dcm": self.content})
        return SimpleNamespace(is_over=True, error=self.error, result=result, quiet_seconds=0.0)


@pytest.fixture
def client():
    return FakeClient()


@pytest.fixture
def logic(client):
    link = SimpleNamespace(
        client=client, run=lambda task: task, wait=lambda task: None, lastLines=[]
    )
    return ExportLogic(link)


class TestWhyNot:
    def test_goodSegmentationCanBeExported(self, logic, segmented):
        assert logic.whyNoDicomSeg(segmented) == ""

    def test_nothingSelected(self, logic):
        assert "Select" in logic.whyNoDicomSeg(None)

    def test_foreignSegmentsAreNotEnough(self, logic, scene):
        node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Mine")
        node.GetSegmentation().AddEmptySegment("liver", "Liver")
        assert "no segments of this module" in logic.whyNoDicomSeg(node)

    def test_volumeThatIsNoDICOM(self, logic, segmented, volume):
        volume.RemoveAttribute("DICOM.instanceUIDs")
        assert "not loaded from DICOM" in logic.whyNoDicomSeg(segmented)
        assert "NRRD" in logic.whyNoDicomSeg(segmented)

    def test_filesThatAreGone(self, logic, segmented, database):
        database.files.popitem()
        assert "missing from the DICOM database" in logic.whyNoDicomSeg(segmented)

    def test_fileInTheMiddleThatIsGoneShowsAtTheStart(self, logic, segmented, database, tmp_path):
        uids = list(database.files)
        del database.files[uids[4]]
        assert logic.whyNoDicomSeg(segmented) == ""
        with pytest.raises(ValueError, match="missing from the DICOM database"):
            logic.startDicomSeg(segmented, Folder(tmp_path))

    def test_noDatabase(self, logic, segmented, monkeypatch):
        monkeypatch.setattr(slicer, "dicomDatabase", None)
        assert "missing from the DICOM database" in logic.whyNoDicomSeg(segmented)

    def test_allEmpty(self, logic, segmented, volume):
        empty = np.zeros_like(slicer.util.arrayFromVolume(volume), np.uint8)
        SegmentWriter(segmented, volume).writeBox(empty)
        assert "empty" in logic.whyNoDicomSeg(segmented)

    def test_volumeIsGone(self, logic, segmented, volume, scene):
        scene.RemoveNode(volume)
        assert "not in the scene" in logic.whyNoDicomSeg(segmented)

    def test_otherVolumeOfTheSameSize(self, logic, segmented, volume):
        volume.SetOrigin(1.0, 2.0, 3.0)
        assert "another volume" in logic.whyNoDicomSeg(segmented)

    def test_noJobToGoOnFrom(self, logic, segmented):
        WorkRecord(segmented).pop()
        assert "segment again" in logic.whyNoDicomSeg(segmented)

    def test_engineThatForgotSaysSegmentAgain(self, segmented, tmp_path):
        from imbalanceseg.client import EngineError

        client = FakeClient(error=EngineError("base-unknown", "There is no result."))
        link = SimpleNamespace(
            client=client, run=lambda task: task, wait=lambda task: None, lastLines=[]
        )
        with pytest.raises(RuntimeError, match="Segment the volume again"):
            ExportLogic(link).dicomSeg(segmented, Folder(tmp_path))
        assert not list(tmp_path.glob("*.dcm"))


class TestWhatIsAsked:
    def test_engineGetsTheSegmentsAsTheyAre(self, logic, client, segmented, volume, tmp_path):
        logic.dicomSeg(segmented, Folder(tmp_path))
        expected = slicer.util.arrayFromVolume(volume) > 1000
        assert np.array_equal(sitk.GetArrayFromImage(client.asked.labels), expected)
        assert Grid.of(client.asked.labels).same_as(Grid.of(client.asked.scan))
        assert client.asked.base == "1" * 32
        assert len(client.asked.series) == 9
        assert client.asked.options["corrected"] is False

    def test_paintedVoxelMakesItSemiautomatic(self, logic, client, segmented, volume, tmp_path):
        box = np.ones((1, 2, 2), np.uint8)
        SegmentWriter(segmented, volume).writeBox(box, (0, 0, 0))
        logic.dicomSeg(segmented, Folder(tmp_path))
        assert client.asked.options["corrected"] is True
        assert sitk.GetArrayFromImage(client.asked.labels)[0, :2, :2].all()

    def test_clickMakesItSemiautomatic(self, logic, client, segmented, tmp_path):
        WorkRecord(segmented).push("click", "2" * 32)
        logic.dicomSeg(segmented, Folder(tmp_path))
        assert client.asked.options["corrected"] is True
        assert client.asked.base == "2" * 32


class TestFolder:
    def test_fileIsNamedAfterTheSegmentation(self, logic, segmented, tmp_path):
        path = Path(logic.dicomSeg(segmented, Folder(tmp_path)))
        assert path == tmp_path / "CT_ 5_7 segmentation.dcm"
        assert path.read_bytes() == b"DICM"

    def test_nothingIsReplaced(self, logic, segmented, tmp_path):
        paths = [Path(logic.dicomSeg(segmented, Folder(tmp_path))) for _ in range(3)]
        assert [path.name for path in paths] == [
            "CT_ 5_7 segmentation.dcm",
            "CT_ 5_7 segmentation 2.dcm",
            "CT_ 5_7 segmentation 3.dcm",
        ]
        assert sorted(path.name for path in tmp_path.glob("*segm*")) == sorted(
            p.name for p in paths
        )

    def test_missingFolderIsSaidBeforeTheWork(self, logic, client, segmented, tmp_path):
        with pytest.raises(ValueError, match="does not exist"):
            logic.startDicomSeg(segmented, Folder(tmp_path / "none"))
        assert client.asked is None


class TestDatabase:
    @pytest.fixture
    def content(self, tmp_path):
        header = pydicom.dcmread(next((tmp_path / "series").iterdir()))
        header.save_as(tmp_path / "one.dcm")
        return (tmp_path / "one.dcm").read_bytes()

    def imported(self, monkeypatch, take):
        module = ModuleType("DICOMLib")
        module.importDicom = take
        monkeypatch.setitem(sys.modules, "DICOMLib", module)

    def test_databaseCopiesTheFile(self, volume, database, content, monkeypatch):
        uid = str(pydicom.dcmread(Path(next(iter(database.files.values())))).SOPInstanceUID)
        seen = []

        def take(folder, into, copyFiles=False):
            (path,) = Path(folder).iterdir()
            seen.append((path.read_bytes(), into, copyFiles))
            database.files[uid] = str(path)

        self.imported(monkeypatch, take)
        assert Database().deliver(content, "name") == "DICOM database"
        assert seen == [(content, database, True)]

    def test_fileThatWasNotTakenIsSaid(self, volume, database, content, monkeypatch):
        database.files.clear()
        self.imported(monkeypatch, lambda *args, **kwargs: None)
        with pytest.raises(RuntimeError, match="did not take the file"):
            Database().deliver(content, "name")

    def test_closedDatabaseIsSaid(self, database):
        database.isOpen = False
        assert "not open" in Database().whyNot()


class TestDicomNode:
    @pytest.mark.parametrize(
        ("node", "word"),
        [
            (DicomNode("", 104, "PACS"), "computer"),
            (DicomNode("http://pacs", 104, "PACS"), "computer"),
            (DicomNode("pacs", 0, "PACS"), "port"),
            (DicomNode("pacs", 104, "A" * 17), "AE title"),
        ],
    )
    def test_addressIsChecked(self, node, word):
        assert word in node.whyNot()

    def test_senderOfTheApplicationGetsTheFile(self, monkeypatch):
        seen = []

        class Sender:
            def __init__(self, files, address, protocol, progressCallback, aeTitle):
                seen.append((Path(files[0]).read_bytes(), address, protocol, aeTitle))
                assert progressCallback("Sent")

        monkeypatch.setitem(sys.modules, "DICOMLib", SimpleNamespace(DICOMSender=Sender))
        assert DicomNode("pacs", 104, "PACS").deliver(b"DICM", "name") == "PACS (pacs)"
        assert seen == [(b"DICM", "pacs:104", "DIMSE", "PACS")]

    def test_refusalIsASentence(self, monkeypatch):
        def refuse(*args, **kwargs):
            raise UserWarning("Could not send")

        monkeypatch.setitem(sys.modules, "DICOMLib", SimpleNamespace(DICOMSender=refuse))
        with pytest.raises(RuntimeError, match="did not take the file"):
            DicomNode("pacs", 104, "PACS").deliver(b"DICM", "name")

    def test_applicationWithoutSenderIsSaid(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "DICOMLib", SimpleNamespace())
        with pytest.raises(RuntimeError, match="Use DICOMweb"):
            DicomNode("pacs", 104, "PACS").deliver(b"DICM", "name")


class Archive(ThreadingHTTPServer):
    """A STOW-RS service that keeps what it is sent."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.answer, self.location = 200, b"{}", ""
        self.received = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/dicom-web/"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        kind = self.headers["Content-Type"]
        message = BytesParser().parsebytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body)
        parts = [(p.get_content_type(), p.get_payload(decode=True)) for p in message.get_payload()]
        self.server.received.append((self.path, dict(self.headers), message.get_params(), parts))
        self.send_response(self.server.status)
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.send_header("Content-Length", str(len(self.server.answer)))
        self.end_headers()
        self.wfile.write(self.server.answer)

    def log_message(self, *args):
        pass


@pytest.fixture
def archive():
    server = Archive()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(5)


class TestDicomweb:
    CONTENT = bytes(range(256)) * 3 + b"\r\n--x--\r\n"

    def test_archiveGetsTheFileAsOnePart(self, archive, monkeypatch, tmp_path):
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login other password other\n")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        target = Dicomweb(archive.url, token="secret", allowHttp=True)
        assert target.deliver(self.CONTENT, "name") == "127.0.0.1"
        ((path, headers, parameters, parts),) = archive.received
        assert path == "/dicom-web/studies"
        assert headers["Authorization"] == "Bearer secret"
        assert ("multipart/related", "") in parameters
        assert ("type", "application/dicom") in parameters
        assert parts == [("application/dicom", self.CONTENT)]

    def test_exportReachesTheArchive(self, logic, segmented, archive):
        assert logic.dicomSeg(segmented, Dicomweb(archive.url, allowHttp=True)) == "127.0.0.1"
        assert archive.received[0][3] == [("application/dicom", b"DICM")]
        assert "Authorization" not in archive.received[0][1]

    def test_refusalReachesTheUser(self, logic, segmented, archive):
        archive.status = 401
        with pytest.raises(RuntimeError, match="refused the token"):
            logic.dicomSeg(segmented, Dicomweb(archive.url, token="old", allowHttp=True))

    def test_httpNeedsConsent(self, archive):
        assert "unprotected" in Dicomweb(archive.url).whyNot()
        with pytest.raises(RuntimeError, match="unprotected"):
            Dicomweb(archive.url).deliver(b"", "name")
        assert not archive.received

    @pytest.mark.parametrize(
        "url",
        ["", "pacs.hospital.org", "ftp://pacs/x", "https://", "https://a:b@pacs/x", "https://["],
    )
    def test_addressIsChecked(self, url):
        assert Dicomweb(url).whyNot().startswith("Enter the DICOMweb address")

    def test_partlyRefusedIsRefused(self, archive):
        archive.status = 202
        failure = {"00081197": {"vr": "US", "Value": [0x0122]}}
        answer = {"00081198": {"vr": "SQ", "Value": [failure]}}
        archive.answer = json.dumps(answer).encode()
        with pytest.raises(RuntimeError, match=r"status 202, 0122"):
            Dicomweb(archive.url, allowHttp=True).deliver(b"DICM", "name")

    def test_otherAddressIsNotFollowed(self, archive):
        archive.status, archive.location = 302, "http://127.0.0.1:1/elsewhere"
        with pytest.raises(RuntimeError, match="another address"):
            Dicomweb(archive.url, token="secret", allowHttp=True).deliver(b"DICM", "name")
        assert len(archive.received) == 1

    def test_silenceIsSaid(self):
        with pytest.raises(RuntimeError, match="does not answer"):
            Dicomweb("http://127.0.0.1:9", allowHttp=True).deliver(b"DICM", "name")


class TestNrrd:
    def test_fileComesBackWithNamesColoursAndCodes(self, logic, segmented, volume, scene, tmp_path):
        segment = segmented.GetSegmentation().GetNthSegment(0)
        segment.SetName("Bronchi")
        path = logic.saveNrrd(segmented, tmp_path / "mine.seg.nrrd")
        assert path == tmp_path / "mine.seg.nrrd"
        storage = slicer.vtkMRMLSegmentationStorageNode()
        storage.SetFileName(str(path))
        node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "back")
        assert storage.ReadData(node)
        again = node.GetSegmentation().GetNthSegment(0)
        assert again.GetName() == "Bronchi"
        np.testing.assert_allclose(again.GetColor(), segment.GetColor(), atol=1e-3)
        import vtk

        text = vtk.reference("")
        assert again.GetTag(again.GetTerminologyEntryTagName(), text)
        assert "110726009" in str(text)
        voxels = slicer.util.arrayFromSegmentBinaryLabelmap(
            node, node.GetSegmentation().GetNthSegmentID(0), volume
        )
        assert np.array_equal(voxels > 0, slicer.util.arrayFromVolume(volume) > 1000)

    def test_suffixAndNumberAreAdded(self, logic, segmented, tmp_path):
        names = [logic.saveNrrd(segmented, tmp_path / "mine").name for _ in range(2)]
        assert names == ["mine.seg.nrrd", "mine 2.seg.nrrd"]
        assert sorted(path.name for path in tmp_path.glob("*.nrrd")) == sorted(names)

    def test_emptyNodeIsRefused(self, logic, scene, tmp_path):
        node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Mine")
        with pytest.raises(ValueError, match="nothing to save"):
            logic.saveNrrd(node, tmp_path / "a.seg.nrrd")

    def test_missingFolderIsSaid(self, logic, segmented, tmp_path):
        with pytest.raises(RuntimeError, match="does not exist"):
            logic.saveNrrd(segmented, tmp_path / "none" / "a.seg.nrrd")


class TestReport:
    def test_reportTellsWhatWasCorrected(self, logic, segmented, volume, tmp_path):
        WorkRecord(segmented).push("click", "2" * 32)
        SegmentWriter(segmented, volume).writeBox(np.ones((1, 2, 2), np.uint8), (0, 0, 0))
        path = logic.saveReport(segmented, tmp_path / "report.json")
        report = json.loads(path.read_text(encoding="utf-8"))
        assert report["model"] == {"name": "airway"}
        review = report["review"]
        assert [step["kind"] for step in review["steps"]] == ["segment", "click"]
        assert review["confirmed_slices"] == 0
        assert review["voxels_changed_by_hand"] == 4
        (segment,) = review["segments"]
        voxels = int((slicer.util.arrayFromVolume(volume) > 1000).sum()) + 4
        assert segment["voxels"] == voxels
        assert segment["volume_ml"] == pytest.approx(voxels * 0.8 * 0.8 * 2.5 / 1000, abs=1e-3)
        assert segment["algorithm_type"] == "SEMIAUTOMATIC"

    def test_unknownSegmentationIsRefused(self, logic, scene, tmp_path):
        node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Mine")
        with pytest.raises(ValueError, match="not known how"):
            logic.saveReport(node, tmp_path / "report.json")


@pytest.fixture
def realLink(make_card, tmp_path):
    """To a real engine with a model of random weights."""
    torch = pytest.importorskip("torch")
    from imbalanceseg.models.write import write_bundle
    from imbalanceseg.networks import WingsNet
    from ImbalanceSegLib.Engine.EngineLink import EngineLink
    from ImbalanceSegLib.Engine.EngineSettings import EngineSettings
    from ImbalanceSegLib.Engine.SlicerEngine import engineEnvironment

    torch.manual_seed(3)
    card = make_card(name="random-airway", spacing_mm=(1.0, 1.0, 2.5), tile_voxels=(32, 32, 32))
    bundle = write_bundle(tmp_path / "random-airway", WingsNet().eval(), card).path
    settings = EngineSettings(modelFolders=(str(bundle),), dataFolder=str(tmp_path / "engine"))
    environment = {**os.environ, **engineEnvironment(os.environ.get("PYTHONPATH", ""))}
    link = EngineLink(settings, [sys.executable, "-m", "imbalanceseg"], environment)
    yield link
    link.close()


def realVolume(data_folder, database):
    """Twelve slices of a real CT, with the identifiers that its publisher took out filled in."""
    from imbalanceseg.io import read_image

    source = data_folder / "airway_ricord" / "dicom"
    if not source.is_dir():
        pytest.skip("The real series is not there.")
    found = [(pydicom.dcmread(p, stop_before_pixels=True), p) for p in source.iterdir()]
    found.sort(key=lambda one: float(one[0].ImagePositionPatient[2]))
    return [path for _, path in found[:12]], read_image


@pytest.mark.slow
def test_realSeriesGoesThroughTheEngineAndBack(realLink, scene, database, data_folder, tmp_path):
    highdicom = pytest.importorskip("highdicom")
    from ImbalanceSegLib.Logic.SegmentationLogic import SegmentationLogic

    paths, read_image = realVolume(data_folder, database)
    folder = tmp_path / "real"
    folder.mkdir()
    for path in paths:
        shutil.copy(path, folder / path.name)
    volume = volumeOf(read_image(folder), sorted(str(p) for p in folder.iterdir()), database)
    node = (
        SegmentationLogic(realLink).segment(volume, model="random-airway", maps=()).segmentationNode
    )
    size = slicer.util.arrayFromVolume(volume).shape
    painted = np.zeros(size, np.uint8)
    painted[3:7, 100:140, 200:220] = 1
    painted[5:9, 140:150, 219:260] = 1
    SegmentWriter(node, volume).writeBox(painted)
    path = ExportLogic(realLink).dicomSeg(node, Folder(tmp_path))

    segmentation = highdicom.seg.segread(path)
    assert segmentation.SegmentSequence[0].SegmentAlgorithmType == "SEMIAUTOMATIC"
    assert segmentation.SegmentSequence[0].SegmentLabel == "Airway tree"
    volumeBack = segmentation.get_volume(combine_segments=True)
    expected = {tuple(np.round(p, 2)) for p in pointsOf(volume, painted)}
    found = {
        tuple(np.round(volumeBack.map_indices_to_reference(index[None])[0], 2))
        for index in np.argwhere(np.asarray(volumeBack.array) == 1)
    }
    assert found == expected
    if program := shutil.which("dciodvfy"):
        done = subprocess.run([program, path], capture_output=True, text=True, check=False)
        assert "Error" not in done.stdout + done.stderr


def pointsOf(volume, labels):
    """Where the voxels are, in LPS mm."""
    from ImbalanceSegLib.Scene.VolumeGeometry import gridOfVolume

    grid = gridOfVolume(volume)
    indices = np.argwhere(labels == 1)[:, ::-1]
    axes = grid.matrix * np.asarray(grid.spacing_mm)
    return indices @ axes.T + np.asarray(grid.origin_mm)
