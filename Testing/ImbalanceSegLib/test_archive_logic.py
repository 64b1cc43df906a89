"""Scans of a PACS get into the scene: over a line that breaks, and from an archive not ours."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
import slicer

from imbalanceseg.geometry import Grid, image_from_array
from ImbalanceSegLib.Engine.EngineLink import EngineLink
from ImbalanceSegLib.Engine.EngineSettings import EngineSettings
from ImbalanceSegLib.Logic.ArchiveLogic import ArchiveLogic
from ImbalanceSegLib.Logic.DicomTargets.DicomNode import DicomNode
from ImbalanceSegLib.Logic.DicomTargets.Dicomweb import Dicomweb

pydicom = pytest.importorskip("pydicom")


def orthancModule():
    path = Path(__file__).parents[1] / "imbalanceseg" / "dicom" / "orthanc.py"
    spec = importlib.util.spec_from_file_location("orthanc_of_tests", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


ORTHANC = orthancModule()


@pytest.fixture
def link():
    made = EngineLink(EngineSettings(), [sys.executable, "-c", "raise SystemExit(3)"])
    yield made
    made.close()


@pytest.fixture
def logic(link):
    return ArchiveLogic(link)


@pytest.fixture
def database(monkeypatch, scene):
    """The application's database and loader, as far as they are used; it keeps what it copies."""
    kept = {}

    def importDicom(folder, into, copyFiles=False):
        assert (into, copyFiles) == (made, True)
        for path in Path(folder).iterdir():
            kept[path.stem] = path.read_bytes()

    def loadSeriesByUID(uids):
        made.loaded.append(uids)
        if made.holdsNothing:
            return []
        node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT of the PACS")
        return [node.GetID()]

    module = ModuleType("DICOMLib")
    module.importDicom = importDicom
    module.loadSeriesByUID = loadSeriesByUID
    monkeypatch.setitem(sys.modules, "DICOMLib", module)
    made = SimpleNamespace(isOpen=True, files=kept, loaded=[], holdsNothing=False)
    monkeypatch.setattr(slicer, "dicomDatabase", made, raising=False)
    return made


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """A small oblique CT as files."""
    from imbalanceseg.dicom.series import write_dicom_series

    folder = tmp_path_factory.mktemp("series")
    c, s = np.cos(0.4), np.sin(0.4)
    grid = Grid((20, 16, 5), (0.8, 0.8, 2.5), (-20.0, 15.5, -300.0), (c, 0, s, 0, 1, 0, -s, 0, c))
    values = np.random.default_rng(0).integers(-900, 100, grid.size[::-1]).astype(np.int16)
    return write_dicom_series(image_from_array(values, grid), folder, seed="archive")


class FakePacs:
    """An archive of one series, whose line breaks after some images."""

    def __init__(self, files, breaksAfter=1000):
        from imbalanceseg.dicom.archive import remote_series

        self.instancesByUID = {str(d.SOPInstanceUID): d for d in map(pydicom.dcmread, files)}
        self.series = remote_series(next(iter(self.instancesByUID.values())))
        self.breaksAfter, self.given, self.problem = breaksAfter, [], ""

    def whyNot(self):
        return self.problem

    def open(self):
        return self

    def find(self, query):
        return [self.series] if query.patient_id in ("*", self.series.patient_id) else []

    def instances(self, studyUID, seriesUID):
        return list(self.instancesByUID)

    def fetch(self, series, wanted, keep):
        from imbalanceseg.dicom.archive import ArchiveError

        for uid in wanted:
            if len(self.given) == self.breaksAfter:
                raise ArchiveError("archive-refused", "The archive has had enough.")
            self.given.append(uid)
            keep(self.instancesByUID[uid])


def test_foundSeriesIsGotAndLoaded(logic, database, series):
    pacs, told = FakePacs(series), []
    (found,) = logic.find(pacs, " * ")
    node = logic.get(pacs, found, told.append)
    assert node.GetName() == "CT of the PACS"
    assert database.loaded == [[found.series_uid]]
    assert set(database.files) == set(pacs.instancesByUID)
    assert [(event.stage, event.done, event.total) for event in told] == [
        ("get", done, 5) for done in range(6)
    ]


def test_secondTryGoesOn(logic, database, series):
    pacs = FakePacs(series, breaksAfter=3)
    with pytest.raises(RuntimeError, match="had enough"):
        logic.get(pacs, pacs.series)
    assert not database.files
    (folder,) = (Path(kept.name) for kept in logic._folders.values())
    assert len(list(folder.glob("*.dcm"))) == 3
    pacs.breaksAfter = 1000
    logic.get(pacs, pacs.series)
    assert sorted(pacs.given) == sorted(pacs.instancesByUID)
    assert len(database.files) == 5
    assert not folder.exists()


def test_imagesOfPatientsDoNotStayBehind(logic, database, series):
    pacs = FakePacs(series, breaksAfter=3)
    with pytest.raises(RuntimeError, match="had enough"):
        logic.get(pacs, pacs.series)
    (folder,) = (Path(kept.name) for kept in logic._folders.values())
    logic.close()
    assert not folder.exists()


def test_cancelledScanIsNotLoaded(logic, database, series):
    pacs, outcomes = FakePacs(series), []
    activity = logic.startGet(pacs, pacs.series, outcomes.append)
    activity.cancel()
    while not activity.task.is_over:
        logic._link.poll()
    logic._link.poll()
    assert [outcome.cancelled for outcome in outcomes] == [True]
    assert not database.loaded


def test_seriesWithoutVolumeIsSaid(logic, database, series):
    pacs, database.holdsNothing = FakePacs(series), True
    with pytest.raises(RuntimeError, match="holds no volume"):
        logic.get(pacs, pacs.series)


def test_whatIsMissingIsSaidBefore(logic, database, series):
    pacs = FakePacs(series)
    with pytest.raises(ValueError, match="ID of the patient"):
        logic.startFind(pacs, "  ")
    database.isOpen = False
    with pytest.raises(ValueError, match="not open"):
        logic.startGet(pacs, pacs.series)
    pacs.problem = "Enter the port."
    for start in (lambda: logic.startFind(pacs, "1"), lambda: logic.startGet(pacs, pacs.series)):
        with pytest.raises(ValueError, match="port"):
            start()


def test_addressesThatLeadNowhereAreSentences(logic, monkeypatch):
    monkeypatch.setattr("imbalanceseg.dicom.archive._FIRST_WAIT_S", 0.01)
    with pytest.raises(RuntimeError, match="cannot be reached"):
        logic.find(Dicomweb("http://127.0.0.1:9/dicom-web", allowHttp=True), "1")
    with pytest.raises(RuntimeError, match="token would travel"):
        logic.find(Dicomweb("http://pacs.example.org/dicom-web", "t", allowHttp=True), "1")


def test_applicationWithoutDIMSESaysWhatElse(logic, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynetdicom", None)
    monkeypatch.delitem(sys.modules, "imbalanceseg.dicom.archive_dimse", raising=False)
    with pytest.raises(RuntimeError, match="Use DICOMweb"):
        logic.find(DicomNode("127.0.0.1", 104, "PACS"), "1")


@pytest.mark.slow
@pytest.mark.skipif(ORTHANC.PROGRAM is None, reason="Orthanc is not installed")
def test_orthancGivesBackWhatItWasSent(logic, database, series, tmp_path):
    from imbalanceseg.dicom.archive import send_files
    from imbalanceseg.dicom.archive_address import open_archive
    from imbalanceseg.io import read_image

    with ORTHANC.running_orthanc(tmp_path) as orthanc:
        send_files(open_archive(orthanc.web), series)
        for archive in (
            Dicomweb(orthanc.web, allowHttp=True),
            DicomNode("127.0.0.1", orthanc.dicom_port, "ORTHANC"),
        ):
            database.files.clear()
            (found,) = logic.find(archive, "PHANT*")
            logic.get(archive, found)
            folder = tmp_path / type(archive).__name__
            folder.mkdir()
            for uid, content in database.files.items():
                (folder / f"{uid}.dcm").write_bytes(content)
            ours, theirs = read_image(series[0].parent), read_image(folder)
            assert Grid.of(ours).same_as(Grid.of(theirs))
            np.testing.assert_array_equal(
                sitk.GetArrayFromImage(ours), sitk.GetArrayFromImage(theirs)
            )
