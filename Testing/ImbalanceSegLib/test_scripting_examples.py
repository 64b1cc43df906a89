"""The examples of Docs/scripting.md work, one after another, as they stand there."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
import slicer

from ImbalanceSegLib.Logic.AnnotationLogic import AnnotationLogic
from ImbalanceSegLib.Logic.CorrectionLogic import CorrectionLogic
from ImbalanceSegLib.Logic.ExportLogic import ExportLogic
from ImbalanceSegLib.Logic.SegmentationLogic import SegmentationLogic

PAGE = Path(__file__).parents[2] / "Docs" / "scripting.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)


def loadVolume(filename):
    """What the application does, whose readers are not here."""
    image = sitk.ReadImage(str(filename))
    return slicer.util.addVolumeFromArray(
        sitk.GetArrayFromImage(image), np.diag([-1.0, -1.0, 1.0, 1.0]), Path(filename).stem
    )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The present folder, with two scans and a token."""
    (tmp_path / "scans").mkdir()
    for name in ("first", "second"):
        voxels = np.zeros((6, 9, 10), np.int16)
        voxels[2:5, 3:6, 4:8] = 1500
        sitk.WriteImage(sitk.GetImageFromArray(voxels), str(tmp_path / "scans" / f"{name}.nrrd"))
    (tmp_path / "token").write_text("0123456789abcdef\n", encoding="ascii")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def logic(scene, makeLink, monkeypatch):
    """The module's logic without the classes that only the application has."""
    link, annotation = makeLink(), AnnotationLogic()
    made = SimpleNamespace(
        link=link,
        segmentation=SegmentationLogic(link),
        annotation=annotation,
        correction=CorrectionLogic(link, annotation),
        export=ExportLogic(link),
    )
    monkeypatch.setattr(slicer.util, "getModuleLogic", lambda name: made, raising=False)
    monkeypatch.setattr(slicer.util, "loadVolume", loadVolume)
    return made


def test_examplesWork(folder, logic, capsys):
    names = {}
    for example in EXAMPLES:
        exec(compile(example, str(PAGE), "exec"), names)
    said = capsys.readouterr().out
    assert "Select the volume to segment." in said
    assert "many hard voxels" in said
    assert "adapted-" in said
    assert "click\n" in said
    made = {path.name for path in (folder / "results").iterdir()}
    assert {"first.seg.nrrd", "first.json", "second.seg.nrrd", "second.json"} <= made
    assert "corrected.seg.nrrd" in made
    assert logic.link.settings.place == "https://gpu.hospital.org:8650"
