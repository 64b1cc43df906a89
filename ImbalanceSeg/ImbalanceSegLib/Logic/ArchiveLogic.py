"""Scans of an archive: what there is, and getting one into the scene."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from imbalanceseg.client import EngineTask
from imbalanceseg.progress import ProgressCallback, ProgressEvent, ignore_progress
from ImbalanceSegLib.Engine.EngineLink import EngineLink
from ImbalanceSegLib.Logic.Activity import Activity, FinishedCallback
from ImbalanceSegLib.Logic.DicomTargets.Database import Database
from ImbalanceSegLib.Logic.DicomTargets.DicomArchive import DicomArchive
from ImbalanceSegLib.Scene.DicomSeries import dicomDatabase

if TYPE_CHECKING:
    from imbalanceseg.dicom.archive import RemoteSeries


class ArchiveLogic:
    """Finds series in an archive and gets them, as ``imbalanceseg pacs`` does.

    Example::

        archive = Dicomweb("https://pacs.hospital.org/dicom-web", token)
        series = logic.archive.find(archive, "12345")
        volumeNode = logic.archive.get(archive, series[0])

    Args:
        link: to the engine, whose threads are used; the engine itself is not asked.
    """

    def __init__(self, link: EngineLink) -> None:
        self._link = link
        # What has arrived is kept until all has, so that a second try goes on.
        self._folders: dict[str, tempfile.TemporaryDirectory[str]] = {}

    @staticmethod
    def whyNotFind(archive: DicomArchive, patientID: str) -> str:
        """One sentence that says what a search lacks; empty when it can be tried."""
        if not patientID.strip():
            return _("Enter the ID of the patient; * stands for any characters.")
        return archive.whyNot()

    def startFind(
        self,
        archive: DicomArchive,
        patientID: str,
        onFinished: FinishedCallback | None = None,
        onProgress: ProgressCallback = ignore_progress,
    ) -> Activity:
        """Begin to look for the series of a patient, and return at once.

        Args:
            archive: where.
            patientID: ``*`` and ``?`` stand for any characters.
            onFinished: receives the outcome once; the value of a success is a list of
                :class:`~imbalanceseg.dicom.archive.RemoteSeries`, the newest study first.
            onProgress: receives nothing.

        Raises:
            ValueError: the archive's address or the patient's ID lacks something.
        """
        if problem := self.whyNotFind(archive, patientID):
            raise ValueError(problem)

        def found(task: EngineTask) -> list[RemoteSeries]:
            from imbalanceseg.dicom.archive import SeriesQuery, find_series

            return find_series(archive.open(), SeriesQuery(patient_id=patientID.strip()))

        activity = Activity(self._link, "find", onFinished, onProgress)
        return activity.begin(lambda calls: self._link.client.background(found, calls["on_done"]))

    def startGet(
        self,
        archive: DicomArchive,
        series: RemoteSeries,
        onFinished: FinishedCallback | None = None,
        onProgress: ProgressCallback = ignore_progress,
    ) -> Activity:
        """Begin to get a series into the DICOM database and the scene, and return at once.

        After an interruption the same call goes on with the images that are missing.

        Args:
            archive: where it is.
            series: as it was found.
            onFinished: receives the outcome once; the value of a success is the node of the volume.
            onProgress: receives the images.

        Raises:
            ValueError: the archive's address lacks something, or the database is not open.
        """
        if problem := archive.whyNot() or Database().whyNot():
            raise ValueError(problem)
        if series.series_uid not in self._folders:
            arrived = tempfile.TemporaryDirectory(prefix="ImbalanceSeg-")
            self._folders[series.series_uid] = arrived
        folder = self._folders[series.series_uid]
        client = self._link.client

        def got(task: EngineTask) -> None:
            from imbalanceseg.dicom.archive import get_series

            def tell(event: ProgressEvent) -> None:
                client.tell(task, event)

            get_series(archive.open(), series, Path(folder.name), tell)

        def take(nothing: None) -> Any:
            node = _loaded(folder.name, series.series_uid)
            self._folders.pop(series.series_uid).cleanup()
            return node

        def ask(callbacks: Mapping[str, Any]) -> EngineTask:
            return client.background(got, callbacks["on_done"], callbacks["on_event"])

        return Activity(self._link, "get", onFinished, onProgress).begin(ask, take)

    def find(self, archive: DicomArchive, patientID: str) -> list[RemoteSeries]:
        """Find and wait for it; for scripts. Arguments as in :meth:`startFind`.

        Raises:
            ValueError: the archive's address or the patient's ID lacks something.
            RuntimeError: the archive cannot be reached, or refuses.
        """
        found: list[RemoteSeries] = self.startFind(archive, patientID).wait()
        return found

    def get(
        self,
        archive: DicomArchive,
        series: RemoteSeries,
        onProgress: ProgressCallback = ignore_progress,
    ) -> slicer.vtkMRMLScalarVolumeNode:
        """Get and wait for it; for scripts. Arguments as in :meth:`startGet`.

        Raises:
            ValueError: the archive's address lacks something, or the database is not open.
            RuntimeError: the archive cannot be reached or refuses, or nothing could be loaded.
        """
        return self.startGet(archive, series, onProgress=onProgress).wait()

    def close(self) -> None:
        """Remove what has arrived of scans that were not got to the end."""
        while self._folders:
            self._folders.popitem()[1].cleanup()


def _loaded(folder: str, seriesUID: str) -> Any:
    """Copy the files into the database, load the series, and give the node of its volume."""
    import DICOMLib

    DICOMLib.importDicom(folder, dicomDatabase(), copyFiles=True)
    nodes = [
        slicer.mrmlScene.GetNodeByID(nodeID) for nodeID in DICOMLib.loadSeriesByUID([seriesUID])
    ]
    for node in nodes:
        if node is not None and node.IsA("vtkMRMLScalarVolumeNode"):
            return node
    raise RuntimeError(
        _(
            "The series is in the DICOM database now, but holds no volume that could be loaded. "
            "Look at it in the DICOM module."
        )
    )
