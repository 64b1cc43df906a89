"""Corrections over a client that waits to be told what the engine answers."""

from __future__ import annotations

import json
import secrets
from collections import deque
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
import slicer

from imbalanceseg.client import EngineTask, JobResult
from imbalanceseg.geometry import image_from_array
from imbalanceseg.labels import ANATOMICAL_STRUCTURE, CodedConcept, SegmentInfo
from ImbalanceSegLib.Engine.EngineLink import EngineLink
from ImbalanceSegLib.Engine.EngineResult import EngineResult
from ImbalanceSegLib.Engine.EngineSettings import EngineSettings
from ImbalanceSegLib.Logic.AnnotationLogic import AnnotationLogic
from ImbalanceSegLib.Logic.CorrectionLogic import CorrectionLogic
from ImbalanceSegLib.Scene.SegmentReader import SegmentReader
from ImbalanceSegLib.Scene.SegmentWriter import SegmentWriter
from ImbalanceSegLib.Scene.VolumeGeometry import gridOfVolume
from ImbalanceSegLib.Scene.WorkRecord import WorkRecord

SEGMENTS = tuple(
    SegmentInfo(label, name, ANATOMICAL_STRUCTURE, CodedConcept(f"{label}", name), (200, 10, label))
    for label, name in ((1, "Airway"), (2, "Trachea"))
)
SEGMENT_1 = "ImbalanceSeg_airway_1"
SECONDS = 5.0
BOX = np.s_[2:5, 6:9, 9:12]
VOXEL = (10, 7, 3)


class Client:
    """Stands where the client of the engine stands; nothing happens before :meth:`answer`."""

    def __init__(self):
        self.info = {"models": [{"id": "airway", "name": "airway"}]}
        self.last_lines = []
        self.calls = []
        self.cancelled = []
        self.finished = []
        self.automatic = {"upload": "e" * 64}
        self._due = deque()

    @property
    def is_busy(self):
        return any(not call.task.is_over for call in self.calls) or bool(self._due)

    def poll(self):
        count = 0
        while self._due:
            self._due.popleft()()
            count += 1
        return count

    def cancel(self, task):
        task.want_cancelled()
        self.cancelled.append(task)

    def finish(self, task):
        self.finished.append(task)

    def close(self):
        pass

    def _begin(self, kind, on_event=None, on_done=None, **asked):
        task = EngineTask(self, on_event, on_done)
        call = SimpleNamespace(kind=kind, task=task, **asked)
        self.calls.append(call)
        if kind in self.automatic:
            made = self.automatic[kind]
            self._due.append(lambda: self.answer(call, made(call) if callable(made) else made))
        return task

    def upload(self, scan, **options):
        return self._begin("upload", scan=scan, **options)

    def finetune(self, scan, annotation, model, confirmed=(), **options):
        return self._begin(
            "adapt", scan=scan, annotation=annotation, model=model, confirmed=confirmed, **options
        )

    def click(self, scan, base, point_mm, label, **options):
        return self._begin("click", scan=scan, base=base, point_mm=point_mm, label=label, **options)

    def suggest(self, scan, base, n=5, **options):
        return self._begin("suggest", scan=scan, base=base, n=n, **options)

    def keep_model(self, model, folder, name=None, **options):
        return self._begin("keep", model=model, folder=folder, name=name, **options)

    # what a test has it do

    def last(self, kind):
        self.poll()
        return [call for call in self.calls if call.kind == kind][-1]

    def count(self, kind):
        return sum(call.kind == kind for call in self.calls)

    def answer(self, call, result):
        error = result if isinstance(result, Exception) else None
        call.task.end(None if error else result, error)
        self._due.append(call.task.tell_end)

    def deliver(self, call, result):
        self.answer(call, result)
        self.poll()


class Link(EngineLink):
    """A link to the client that answers when it is told to."""

    def __init__(self):
        super().__init__(EngineSettings(), ["none"])
        self.fake = Client()

    def _newClient(self):
        return self.fake


@pytest.fixture
def bench(makeVolume, geometry):
    """A segmented volume, and the logic over a client that answers when it is told to."""
    return benchOf(makeVolume(geometry.ijkToRAS, geometry.parentToWorld), geometry)


@pytest.fixture
def plain(makeVolume):
    """As ``bench``, in one geometry only."""
    return benchOf(makeVolume())


def benchOf(volume, geometry=None):
    link = Link()
    assert link.client is link.fake
    annotation = AnnotationLogic()
    correction = CorrectionLogic(link, annotation)
    saved = []
    node = segmented(volume)
    correction.beforeChange = lambda changed: saved.append(
        SegmentReader.labelsOf(changed, volume).copy()
    )
    return SimpleNamespace(
        volume=volume,
        geometry=geometry,
        node=node,
        record=WorkRecord(node),
        client=link.fake,
        annotation=annotation,
        correction=correction,
        saved=saved,
    )


def segmented(volume, job="a" * 32):
    scan = slicer.util.arrayFromVolume(volume)
    labels = (scan >= 1000).astype(np.uint8)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Result")
    result = EngineResult(labels, SEGMENTS, "airway", "1", jobID=job, report={"of": "first"})
    SegmentWriter(node, volume).write(result)
    record = WorkRecord(node)
    record.describe(result)
    record.push("segment", job)
    record.setEngineLabels(labels)
    return node


def own(bench):
    return SegmentReader.labelsOf(bench.node, bench.volume)


def paint(bench, change, segmentID=SEGMENT_1):
    """Change one segment as the Segment Editor would."""
    voxels = slicer.util.arrayFromSegmentBinaryLabelmap(bench.node, segmentID, bench.volume).copy()
    change(voxels)
    slicer.util.updateSegmentBinaryLabelmapFromArray(voxels, bench.node, segmentID, bench.volume)


def addForeign(bench):
    voxels = np.zeros(own(bench).shape, np.uint8)
    voxels[1:6, 1:9, 2:11] = 1
    bench.node.GetSegmentation().AddEmptySegment("foreign", "Mine", [0.1, 0.2, 0.3])
    slicer.util.updateSegmentBinaryLabelmapFromArray(voxels, bench.node, "foreign", bench.volume)
    return voxels


def foreign(bench):
    return slicer.util.arrayFromSegmentBinaryLabelmap(bench.node, "foreign", bench.volume)


def made(bench, labels, job="b" * 32, model="adapted-b", maps=()):
    """What an adaptation brings."""
    grid = gridOfVolume(bench.volume)
    images = {"labels": image_from_array(labels.astype(np.uint8), grid)}
    for name in maps:
        values = np.full(labels.shape, 0.25, np.float32)
        images[name] = image_from_array(values, grid)
    report = {
        "model": {"name": "airway-child", "version": "1.0.1"},
        "segments": [asdict(segment) for segment in SEGMENTS],
        "notes": ["Adapted."],
    }
    files = {"report.json": json.dumps(report).encode()}
    return JobResult(job, {"model": model, "segments": []}, images, files)


def changed(bench, box, label, job=None):
    """What a click brings that has given a box another label."""
    labels = bench.record.engineLabels().copy()
    labels[box] = label
    grid = gridOfVolume(bench.volume)
    start = [part.start for part in box[::-1]]
    image = image_from_array(labels[box], grid.cropped(start, labels[box].shape[::-1]))
    outcome = {"start": start, "size": list(image.GetSize()), "changed_voxels": 1}
    return JobResult(job or secrets.token_hex(16), outcome, {"changed": image})


def nothing(job=None):
    return JobResult(job or secrets.token_hex(16), {"start": None, "size": None})


def world(bench, index):
    """The world point (RAS) of a voxel."""
    toWorld = np.eye(4)
    if bench.geometry is not None and bench.geometry.parentToWorld is not None:
        toWorld = bench.geometry.parentToWorld
    matrix = slicer.util.vtkMatrixFromArray(np.eye(4))
    bench.volume.GetIJKToRASMatrix(matrix)
    return (toWorld @ slicer.util.arrayFromVTKMatrix(matrix) @ [*index, 1])[:3]


class Ends(list):
    """Outcomes, in the order they were told."""

    def __call__(self, outcome):
        self.append(outcome)


def adapted(bench):
    """What the engine shall have learned: everything a voxel further along i."""
    return np.roll(bench.record.engineLabels(), 1, axis=2)
