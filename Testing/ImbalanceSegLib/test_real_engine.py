"""The Slicer side with the engine itself as its child, as the application runs it."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import slicer

from ImbalanceSegLib.Engine.EngineProcess import EngineProcess
from ImbalanceSegLib.Engine.SlicerEngine import engineEnvironment
from ImbalanceSegLib.Logic.SegmentationLogic import SegmentationLogic


@pytest.fixture
def logic(tmp_path):
    environment = {**os.environ, **engineEnvironment(os.environ.get("PYTHONPATH", ""))}
    engine = EngineProcess([sys.executable, "-m", "imbalanceseg"], environment)
    yield SegmentationLogic(engine, str(tmp_path))
    engine.stop()


def test_unknownModelIsExplainedByTheEngine(logic, makeVolume):
    with pytest.raises(RuntimeError, match="no-such-model"):
        logic.segment(makeVolume(), model="no-such-model")


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


@pytest.fixture
def randomModel(make_card, tmp_path):
    """A model that finds nothing of use, but takes the whole way."""
    torch = pytest.importorskip("torch")
    from imbalanceseg.models.write import write_bundle
    from imbalanceseg.networks import WingsNet

    torch.manual_seed(3)
    card = make_card(name="random-airway", spacing_mm=(1.0, 1.0, 1.5), tile_voxels=(32, 32, 32))
    return write_bundle(tmp_path / "random-airway", WingsNet().eval(), card).path


@pytest.mark.slow
def test_engineFillsTheScene(logic, scene, randomModel):
    volume = chestLikeVolume()
    stages = []
    output = logic.segment(
        volume,
        model=str(randomModel),
        device="cpu",
        onProgress=lambda event: stages.append(event.stage),
    )
    node = output.segmentationNode
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    assert node.GetNodeReference(role) is volume
    hardness = slicer.util.arrayFromVolume(output.maps["hardness"])
    assert hardness.shape == slicer.util.arrayFromVolume(volume).shape
    assert 0 <= hardness.min() <= hardness.max() <= 1
    assert {"read", "write"} <= set(stages)
    assert set(output.segmentIDs) <= {"ImbalanceSeg_random-airway_1"}


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
    if path.stem not in ("__init__", "ImbalanceSegParameterNode"):
        importlib.import_module(".".join(path.relative_to(folder.parent).with_suffix("").parts))
print(sorted({"torch", "monai", "highdicom", "pydantic", "typer"} & set(sys.modules)))
"""
    environment = {**os.environ, **engineEnvironment()}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert result.stdout.strip() == "[]", result.stderr
