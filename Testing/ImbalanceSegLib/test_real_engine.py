"""The Slicer side with the engine itself as its child, as the application runs it."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import slicer

from ImbalanceSegLib.Engine.EngineLink import EngineLink
from ImbalanceSegLib.Engine.EngineSettings import EngineSettings
from ImbalanceSegLib.Engine.SlicerEngine import engineEnvironment
from ImbalanceSegLib.Logic.ConnectionLogic import connect
from ImbalanceSegLib.Logic.SegmentationLogic import SegmentationLogic
from ImbalanceSegLib.Scene.SegmentReader import SegmentReader
from ImbalanceSegLib.Scene.WorkRecord import WorkRecord


@pytest.fixture(scope="module")
def randomModel(make_card, tmp_path_factory):
    """A model that finds nothing of use, but takes the whole way."""
    torch = pytest.importorskip("torch")
    from imbalanceseg.models.write import write_bundle
    from imbalanceseg.networks import WingsNet

    torch.manual_seed(3)
    card = make_card(name="random-airway", spacing_mm=(1.0, 1.0, 1.5), tile_voxels=(32, 32, 32))
    folder = tmp_path_factory.mktemp("models") / "random-airway"
    return write_bundle(folder, WingsNet().eval(), card).path


@pytest.fixture(scope="module")
def link(randomModel, tmp_path_factory):
    environment = {**os.environ, **engineEnvironment(os.environ.get("PYTHONPATH", ""))}
    settings = EngineSettings(
        modelFolders=(str(randomModel),), dataFolder=str(tmp_path_factory.mktemp("engine"))
    )
    made = EngineLink(settings, [sys.executable, "-m", "imbalanceseg"], environment)
    yield made
    made.close()


@pytest.mark.slow
def test_engineTellsItsModels(link):
    assert connect(link)["protocol"] == 1
    assert "random-airway" in [model["id"] for model in link.models]


@pytest.mark.slow
def test_unknownModelIsExplainedByTheEngine(link, makeVolume):
    with pytest.raises(RuntimeError, match="model"):
        SegmentationLogic(link).segment(makeVolume(), model="no-such-model")


def chestLikeVolume():
    """A block of lung with a dark, walled tube through it, oblique in space."""
    k, j, i = np.indices((32, 32, 32))
    distance = np.hypot(j - 16 - 0.1 * k, i - 16)
    voxels = np.full(k.shape, -860, np.int16)
    voxels[distance < 6] = 20
    voxels[distance < 4] = -995
    voxels[:, :3], voxels[:, -3:], voxels[:, :, :3], voxels[:, :, -3:] = 40, 40, 40, 40
    angle = np.radians(12)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0]])
    matrix = np.eye(4)
    matrix[:2, :3] = turn
    matrix[:3, :3] = matrix[:3, :3] @ np.diag([-1.0, -1.0, 1.5])
    matrix[:3, 3] = (20.0, -35.0, 300.0)
    return slicer.util.addVolumeFromArray(voxels, matrix, name="Chest")


@pytest.mark.slow
def test_engineFillsTheScene(link, scene):
    volume = chestLikeVolume()
    stages = []
    output = SegmentationLogic(link).segment(
        volume,
        model="random-airway",
        device="cpu",
        maps=("hardness", "attention"),
        onProgress=lambda event: stages.append(event.stage),
    )
    node = output.segmentationNode
    record = WorkRecord(node)
    assert record.volumeNode is volume
    assert record.modelName == "random-airway"
    assert record.report["model"]["version"] == "0.1.0"
    assert record.report["image"]["size"] == [32, 32, 32]
    assert len(record.baseJob) == 32
    assert np.array_equal(SegmentReader.labelsOf(node, volume), record.engineLabels())
    for name in ("hardness", "attention"):
        values = slicer.util.arrayFromVolume(output.maps[name])
        assert values.shape == slicer.util.arrayFromVolume(volume).shape
        assert 0 <= values.min() <= values.max() <= 1
    assert {"upload", "write"} <= set(stages)
    assert set(output.segmentIDs) <= {"ImbalanceSeg_random-airway_1"}


@pytest.mark.slow
def test_settingsReachTheEngine(link, scene):
    link.changeSettings(
        EngineSettings(
            modelFolders=link.settings.modelFolders,
            dataFolder=link.settings.dataFolder,
            memoryGb=0.001,
            exact=True,
        )
    )
    with pytest.raises(RuntimeError, match=r"0\.001 GB"):
        SegmentationLogic(link).segment(chestLikeVolume(), model="random-airway", device="cpu")


def test_slicerSideLoadsNoTorch():
    code = """
import sys
from types import ModuleType, SimpleNamespace
import slicer
slicer.i18n = sys.modules["slicer.i18n"] = ModuleType("slicer.i18n")
slicer.i18n.tr = lambda text: text
import importlib, pathlib, ImbalanceSegLib
folder = pathlib.Path(ImbalanceSegLib.__path__[0])
for path in folder.rglob("*.py"):
    inPanel = path.parent.name not in ("Engine", "Install", "Logic", "Scene")
    if not inPanel and path.stem not in ("__init__", "ImbalanceSegParameterNode"):
        importlib.import_module(".".join(path.relative_to(folder.parent).with_suffix("").parts))
print(sorted({"torch", "monai", "highdicom", "pydantic", "typer"} & set(sys.modules)))
"""
    environment = {**os.environ, **engineEnvironment()}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert result.stdout.strip() == "[]", result.stderr
