"""A MRML scene with the module logics that the Slicer side uses, without the application."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

try:
    import slicer
    import vtk
except ModuleNotFoundError:
    slicer = None
    collect_ignore_glob = ["test_*.py"]

_FAKE_ENGINE = Path(__file__).with_name("fake_engine.py")
_LOGICS = {
    "Colors": "vtkSlicerColorLogic",
    "Plots": "vtkSlicerPlotsLogic",
    "Volumes": "vtkSlicerVolumesLogic",
    "Terminologies": "vtkSlicerTerminologiesModuleLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
}


def _supply_what_only_the_application_has() -> None:
    translation = ModuleType("slicer.i18n")
    translation.tr = lambda text: text
    translation.translate = lambda context, text: text
    sys.modules["slicer.i18n"] = slicer.i18n = translation

    scene = slicer.vtkMRMLScene()
    application = slicer.vtkSlicerApplicationLogic()
    slicer.modules = SimpleNamespace()
    silent = vtk.vtkLogger.GetCurrentVerbosityCutoff()
    # The wheel brings neither colour files nor terminologies, and says so at length.
    vtk.vtkLogger.SetStderrVerbosity(vtk.vtkLogger.VERBOSITY_OFF)
    application.SetMRMLScene(scene)
    for name, class_name in _LOGICS.items():
        logic = getattr(slicer, class_name)()
        logic.SetMRMLApplicationLogic(application)
        application.SetModuleLogic(name, logic)
        logic.SetMRMLScene(scene)
        setattr(slicer.modules, name.lower(), SimpleNamespace(logic=lambda logic=logic: logic))
    vtk.vtkLogger.SetStderrVerbosity(silent)
    slicer.mrmlScene = scene
    slicer.applicationLogicOfTests = application


if slicer is not None:
    _supply_what_only_the_application_has()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say that these tests were left out: a skip mark needs a test that can be imported."""
    if slicer is None:
        terminalreporter.write_line(
            "Testing/ImbalanceSegLib was left out: slicer-core is not installed", yellow=True
        )


@pytest.fixture
def scene() -> Iterator[object]:
    """An empty scene."""
    slicer.mrmlScene.Clear(False)
    yield slicer.mrmlScene
    slicer.mrmlScene.Clear(False)


def _rotation() -> np.ndarray:
    turn_z, turn_x = np.radians(25.0), np.radians(-14.0)
    about_z = np.array(
        [[np.cos(turn_z), -np.sin(turn_z), 0], [np.sin(turn_z), np.cos(turn_z), 0], [0, 0, 1]]
    )
    about_x = np.array(
        [[1, 0, 0], [0, np.cos(turn_x), -np.sin(turn_x)], [0, np.sin(turn_x), np.cos(turn_x)]]
    )
    return about_z @ about_x


def _affine(axes: np.ndarray, origin: tuple[float, float, float]) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = axes
    matrix[:3, 3] = origin
    return matrix


_SPACING = np.diag([0.7, 0.9, 2.5])
IJK_TO_RAS = {
    "anisotropic": _affine(np.diag([-1.0, -1.0, 1.0]) @ _SPACING, (80.0, 90.5, -33.0)),
    "oblique": _affine(_rotation() @ _SPACING, (-12.0, 7.25, 101.0)),
    "left-handed": _affine(_rotation() @ np.diag([1.0, 1.0, -1.0]) @ _SPACING, (3.0, -200.0, 9.0)),
    "permuted": _affine(_rotation()[:, [2, 0, 1]] @ _SPACING, (0.0, 1.0, 2.0)),
}
PARENT_TO_WORLD = _affine(_rotation().T @ np.diag([1.0, -1.0, 1.0]), (31.0, -17.0, 5.0))


@pytest.fixture(params=[*IJK_TO_RAS, "transformed"])
def geometry(request: pytest.FixtureRequest) -> SimpleNamespace:
    """A way to lie in space: ``ijkToRAS`` and ``parentToWorld`` (None without a parent)."""
    if request.param == "transformed":
        return SimpleNamespace(ijkToRAS=IJK_TO_RAS["left-handed"], parentToWorld=PARENT_TO_WORLD)
    return SimpleNamespace(ijkToRAS=IJK_TO_RAS[request.param], parentToWorld=None)


def _structure(seed: int) -> np.ndarray:
    """A CT-like array ``[k, j, i]`` with a bright structure that has no symmetry."""
    random = np.random.default_rng(seed)
    voxels = random.integers(-900, 900, (7, 11, 13)).astype(np.int16)
    voxels[1:4, 2:5, 3:9] = 1500
    voxels[3:6, 4:6, 8:11] = 1200
    voxels[tuple(random.integers(0, size) for size in voxels.shape)] = 1999
    return voxels


@pytest.fixture
def makeVolume(scene: object) -> Callable[..., object]:
    """Makes a volume node: ``makeVolume(ijkToRAS=..., parentToWorld=..., seed=...)``."""

    def make(
        ijkToRAS: np.ndarray = IJK_TO_RAS["oblique"],
        parentToWorld: np.ndarray | None = None,
        seed: int = 0,
    ) -> object:
        matrix = slicer.util.vtkMatrixFromArray(ijkToRAS)
        volume = slicer.util.addVolumeFromArray(_structure(seed), matrix, name="CT")
        if parentToWorld is not None:
            transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Moved")
            transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(parentToWorld))
            volume.SetAndObserveTransformNodeID(transform.GetID())
        return volume

    return make


@pytest.fixture
def makeLink(tmp_path: Path) -> Iterator[Callable[..., object]]:
    """Makes a link to a fake engine: ``makeLink("fail", callLater=...)``."""
    made = []

    def make(mode: str = "good", callLater: object = None, **variables: str) -> object:
        made.append(_linkTo(mode, tmp_path / f"engine{len(made)}", callLater, variables))
        return made[-1]

    yield make
    for link in made:
        link.close()


@pytest.fixture(scope="session")
def goodLink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """A link to a fake engine that behaves, started once for all tests."""
    link = _linkTo("good", tmp_path_factory.mktemp("engine"), None, {})
    yield link
    link.close()


def _linkTo(mode: str, folder: Path, callLater: object, variables: dict[str, str]) -> object:
    from ImbalanceSegLib.Engine.EngineLink import EngineLink
    from ImbalanceSegLib.Engine.EngineSettings import EngineSettings

    environment = {**os.environ, "PYTHONUTF8": "1", "FAKE_ENGINE": mode, **variables}
    settings = EngineSettings(dataFolder=str(folder))
    return EngineLink(settings, [sys.executable, str(_FAKE_ENGINE)], environment, callLater)


@pytest.fixture
def makeLogic(
    makeLink: Callable[..., object], request: pytest.FixtureRequest
) -> Callable[..., object]:
    """Makes the logic over a fake engine: ``makeLogic("fail")``."""
    from ImbalanceSegLib.Logic.SegmentationLogic import SegmentationLogic

    def make(mode: str = "good", **variables: str) -> SegmentationLogic:
        if mode == "good" and not variables:
            return SegmentationLogic(request.getfixturevalue("goodLink"))
        return SegmentationLogic(makeLink(mode, **variables))

    return make


@pytest.fixture
def makeViews(scene: object) -> Iterator[Callable[..., dict[str, object]]]:
    """Makes slice views as the application has them: ``makeViews("Red", "Green")``.

    It gives back their logics by name, which hold the nodes of the views.
    """
    _removeViews(scene)
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene)
    logics = {}

    def make(*names: str) -> dict[str, object]:
        for name in names or ("Red", "Green", "Yellow"):
            logics[name] = slicer.vtkMRMLSliceLogic()
            logics[name].SetMRMLApplicationLogic(slicer.applicationLogicOfTests)
            logics[name].SetMRMLScene(scene)
            node = logics[name].AddSliceNode(name)
            assert node.SetOrientation(
                {"Green": "Coronal", "Yellow": "Sagittal"}.get(name, "Axial")
            )
        return logics

    yield make
    for logic in logics.values():
        logic.SetMRMLScene(None)
    _removeViews(scene)


def _removeViews(scene: object) -> None:
    """Singletons outlive the clearing of a scene, and with them what they showed."""
    for className in ("vtkMRMLSliceNode", "vtkMRMLSliceCompositeNode"):
        for node in slicer.util.getNodesByClass(className):
            scene.RemoveNode(node)
