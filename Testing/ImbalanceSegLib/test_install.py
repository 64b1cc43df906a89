"""The first run: what is missing, what is said of it, and that Slicer's own packages stay."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import threading
import zipfile
from importlib.metadata import version
from types import ModuleType, SimpleNamespace

import pytest
import slicer

from ImbalanceSegLib.Install import Installer as installerModule
from ImbalanceSegLib.Install import Requirements as requirementsModule
from ImbalanceSegLib.Install.Installer import Installer, pipArguments
from ImbalanceSegLib.Install.PackageInformation import PackageInformation
from ImbalanceSegLib.Install.PipProblem import whyPipFailed
from ImbalanceSegLib.Install.PipRunner import PipRunner, constrained
from ImbalanceSegLib.Install.Requirement import Requirement
from ImbalanceSegLib.Install.Requirements import constraintLines, requirementsOfEngine
from ImbalanceSegLib.Install.TorchExtension import TorchExtension

ABSENT = Requirement("imbalanceseg-tiny-test", ">=1.0", 3)
TORCH = Requirement("torch", ">=9999", 200)


class FakePip:
    """Keeps what it is asked, and answers as told."""

    def __init__(self, code=0, lines=(), then=lambda: None):
        self.code, self.lines, self.then, self.asked = code, lines, then, []

    def install(self, arguments, constraints, log):
        self.asked.append((arguments, constraints.read_text(encoding="utf-8").split()))
        for line in self.lines:
            log(line)
        self.then()
        return self.code


class FakeExtension:
    """The PyTorch extension, there or not."""

    def __init__(self, isThere=True, canBeGot=True, error=None):
        self.isThere, self.canBeGot, self.error, self.asked = isThere, canBeGot, error, []

    def get(self):
        self.asked.append("get")
        return self.canBeGot

    def installTorch(self, specifier, constraints, log):
        self.asked.append(specifier)
        log("Downloading torch")
        return self.error


class Settings(dict):
    def value(self, key):
        return self.get(key)

    def setValue(self, key, value):
        self[key] = value


@pytest.fixture
def needs(monkeypatch):
    """Sets what the engine needs: ``needs(requirement, ...)``."""

    def choose(*requirements):
        for module in (installerModule, requirementsModule):
            monkeypatch.setattr(module, "requirementsOfEngine", lambda: list(requirements))

    return choose


def makeInstaller(answer=True, **parts):
    said, lines, steps = [], [], []
    installer = Installer(
        lambda text: (said.append(text), answer)[1],
        lines.append,
        lambda *step: steps.append(step),
        parts.pop("settings", None),
        parts.pop("pip", FakePip()),
        parts.pop("extension", FakeExtension()),
    )
    installer.said, installer.lines, installer.steps = said, lines, steps
    return installer


class TestRequirements:
    def test_listIsThatOfTheFileWithTorchFirst(self):
        names = [one.name for one in requirementsOfEngine()]
        assert names[0] == "torch"
        assert {"monai", "fastapi", "highdicom", "scikit-image"} <= set(names)
        assert not {"numpy", "scipy", "SimpleITK", "requests"} & set(names)

    def test_markersOfOtherComputersAreLeftOut(self, tmp_path, monkeypatch):
        file = tmp_path / "requirements.txt"
        file.write_text("# none\none>=1.0 # why\ntwo>=2; platform_machine in 'abacus'\n")
        monkeypatch.setattr(requirementsModule, "REQUIREMENTS_FILE", file)
        assert [one.text for one in requirementsOfEngine()][1:] == ["one>=1.0"]

    def test_versionDecidesWhetherItIsInstalled(self):
        assert Requirement("numpy", ">=1.0").isInstalled
        assert not Requirement("numpy", ">=9999").isInstalled
        assert not ABSENT.isInstalled

    def test_lookingImportsNothing(self):
        code = """
import sys
from types import ModuleType
import slicer
slicer.i18n = sys.modules["slicer.i18n"] = ModuleType("slicer.i18n")
slicer.i18n.tr = lambda text: text
from ImbalanceSegLib.Install.Installer import Installer
Installer.missing()
heavy = {"torch", "monai", "pydantic", "fastapi", "highdicom", "PyTorchUtils"}
print(sorted(heavy & set(sys.modules)))
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stdout.strip() == "[]", done.stderr

    def test_whatSlicerIsBuiltOnIsPinned(self):
        lines = constraintLines([])
        for name in ("SimpleITK", "numpy", "scipy", "requests"):
            assert f"{name}=={version(name)}" in lines
        assert any(line.startswith("vtk") for line in lines)

    def test_unmetNeedFreesWhatMayBeReplacedOnly(self):
        lines = constraintLines([Requirement("pydicom", ">=9999"), Requirement("numpy", ">=9999")])
        assert not [line for line in lines if line.startswith("pydicom")]
        assert f"numpy=={version('numpy')}" in lines
        assert f"pydicom=={version('pydicom')}" in constraintLines([Requirement("pydicom", ">=1")])

    def test_listsForAnotherComputerAreWritten(self, needs, tmp_path):
        needs(TORCH, ABSENT)
        wanted, kept = requirementsModule.writeLists(tmp_path)
        assert wanted.read_text().split() == [TORCH.text, ABSENT.text]
        assert f"numpy=={version('numpy')}" in kept.read_text().split()


class TestQuestion:
    def test_questionTellsPackagesSizeAndWhatStays(self, needs):
        needs(Requirement("torch", ">=9999", 2800), ABSENT)
        text = makeInstaller().whatWillHappen()
        assert "torch, imbalanceseg-tiny-test" in text
        assert "2.8 GB" in text
        assert "not changed" in text
        assert "restarted" not in text

    def test_questionTellsOfTheExtension(self, needs):
        needs(TORCH)
        text = makeInstaller(extension=FakeExtension(isThere=False)).whatWillHappen()
        assert "restarted" in text

    def test_questionTellsOfTheFolder(self, needs, tmp_path):
        needs(TORCH)
        installer = makeInstaller(extension=FakeExtension(isThere=False))
        text = installer.whatWillHappen(tmp_path)
        assert str(tmp_path) in text
        assert "downloaded" not in text
        assert "restarted" not in text

    def test_noMeansNothingHappens(self, needs):
        needs(ABSENT)
        pip = FakePip()
        outcome = makeInstaller(answer=False, pip=pip).install()
        assert outcome.cancelled
        assert not pip.asked

    def test_nothingMissingAsksNothing(self, needs):
        needs(Requirement("numpy", ">=1.0"))
        installer = makeInstaller()
        assert installer.install().succeeded
        assert not installer.said

    def test_fullDiskIsSaidBefore(self, needs, monkeypatch):
        needs(ABSENT)
        usage = SimpleNamespace(free=100 * 2**20)
        monkeypatch.setattr(installerModule.shutil, "disk_usage", lambda place: usage)
        installer = makeInstaller()
        outcome = installer.install()
        assert not outcome.succeeded
        assert "510 MB of free space" in outcome.sentence
        assert not installer.said

    def test_oldPythonIsSaid(self, needs, monkeypatch):
        needs(ABSENT)
        monkeypatch.setattr(installerModule.sys, "version_info", (3, 9, 10))
        assert "Slicer 5.10" in makeInstaller().install().sentence

    def test_emptyFolderIsSaid(self, needs, tmp_path):
        needs(ABSENT)
        assert "holds no packages" in makeInstaller().install(tmp_path).sentence


class TestOrder:
    def test_torchComesFirstThroughTheExtension(self, needs):
        needs(TORCH, ABSENT)
        pip, extension = FakePip(), FakeExtension()
        installer = makeInstaller(pip=pip, extension=extension)
        outcome = installer.install()
        # The fake brings no torch, so the rest, which might bring another one, is not begun.
        assert extension.asked == [">=9999"]
        assert not pip.asked
        assert not outcome.succeeded
        assert installer.lines == ["Downloading torch"]
        assert installer.steps == [(0, 2)]

    def test_missingExtensionIsInstalledAndRemembered(self, needs):
        needs(TORCH, ABSENT)
        settings, extension = Settings(), FakeExtension(isThere=False)
        installer = makeInstaller(settings=settings, extension=extension)
        outcome = installer.install()
        assert outcome.restartNeeded
        assert extension.asked == ["get"]
        assert installer.isToBeResumed
        again = makeInstaller(settings=settings)
        assert again.isToBeResumed
        again.install(ask=False)
        assert not again.said
        assert not again.isToBeResumed

    def test_extensionThatCannotBeHadIsSaid(self, needs):
        needs(TORCH)
        settings = Settings()
        extension = FakeExtension(isThere=False, canBeGot=False)
        outcome = makeInstaller(settings=settings, extension=extension).install()
        assert "extensions.slicer.org" in outcome.sentence
        assert not makeInstaller(settings=settings).isToBeResumed

    def test_extensionThatFailsIsSaid(self, needs):
        needs(TORCH)
        error = RuntimeError(
            "HTTPSConnectionPool(host='download.pytorch.org'): Max retries exceeded"
        )
        outcome = makeInstaller(extension=FakeExtension(error=error)).install()
        assert outcome.sentence.startswith("download.pytorch.org cannot be reached")

    def test_failureTellsTheHostAndKeepsTheLog(self, needs):
        needs(ABSENT)
        lines = [
            "Collecting x",
            "WARNING: Retrying (...): HTTPSConnection(host='pypi.org', port=443)",
        ]
        outcome = makeInstaller(pip=FakePip(1, lines)).install()
        assert outcome.sentence.startswith("pypi.org cannot be reached")
        assert outcome.details.splitlines() == lines

    def test_otherThreadsAreRefused(self, needs):
        needs(ABSENT)
        errors = []

        def run():
            try:
                makeInstaller().install()
            except RuntimeError as error:
                errors.append(str(error))

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        assert "main thread" in errors[0]

    def test_secondInstallationMeanwhileIsRefused(self, needs):
        needs(ABSENT)
        pip = FakePip()
        installer = makeInstaller(pip=pip)
        errors = []

        def again():
            with pytest.raises(RuntimeError, match="is going on") as error:
                installer.install()
            errors.append(error)

        pip.then = again
        installer.install()
        assert len(errors) == 1


@pytest.mark.parametrize(
    ("line", "isOffline", "expected"),
    [
        ("ERROR: [Errno 28] No space left on device", False, "disk is full"),
        ("Retrying (Retry(total=4)) after ProxyError('Cannot connect')", False, "The proxy"),
        (
            "Could not fetch URL https://pypi.org/simple/x/: There was a problem confirming the "
            "ssl certificate",
            False,
            "connection to pypi.org is not trusted",
        ),
        ("Retrying (x): <HTTPSConnection object at 0x1>: /simple/x/", False, "pypi.org cannot be"),
        ("ERROR: ResolutionImpossible: see https://pip.pypa.io", False, "newest Slicer"),
        ("ERROR: No matching distribution found for edt>=3.0", False, "package 'edt'"),
        ("ERROR: No matching distribution found for edt>=3.0", True, "holds no package 'edt'"),
        ("PermissionError: [WinError 5] Access is denied", False, "Restart Slicer"),
        ("something odd", False, "the log says why"),
    ],
)
def test_failuresAreSentences(line, isOffline, expected):
    assert expected in whyPipFailed([line], isOffline)


def test_hostThatPipCannotReachIsNamed(tmp_path):
    """The words of the very pip that is installed."""
    command = [sys.executable, "-m", "pip", "--isolated", "install", "--dry-run", "--retries", "1"]
    command += ["--index-url", "https://host.invalid/simple", ABSENT.text]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode
    lines = (done.stdout + done.stderr).splitlines()
    assert whyPipFailed(lines, False).startswith("host.invalid cannot be reached")


class TestPipRunner:
    @pytest.fixture
    def calls(self):
        return []

    @pytest.fixture
    def constraints(self, tmp_path):
        (tmp_path / "c.txt").write_text("numpy<99\n")
        return tmp_path / "c.txt"

    def withPackaging(self, monkeypatch, pip_install):
        module = ModuleType("slicer.packaging")
        module.__spec__ = SimpleNamespace(name="slicer.packaging")
        module.pip_install = pip_install
        monkeypatch.setitem(sys.modules, "slicer.packaging", module)
        monkeypatch.setattr(slicer, "packaging", module, raising=False)

    def application(self, monkeypatch, isTesting, processEvents=lambda: None):
        application = SimpleNamespace(testingEnabled=lambda: isTesting, processEvents=processEvents)
        monkeypatch.setattr(slicer, "app", application, raising=False)

    def test_newSlicersRunPipInTheBackground(self, calls, constraints, monkeypatch):
        def install(arguments, **options):
            calls.append((arguments, options))

        def processEvents():
            options = calls[0][1]
            options["logCallback"]("Collecting x")
            options["completedCallback"](3)

        self.withPackaging(monkeypatch, install)
        self.application(monkeypatch, False, processEvents)
        lines = []
        assert PipRunner().install(["x"], constraints, lines.append) == 3
        assert lines == ["Collecting x"]
        arguments, options = calls[0]
        assert arguments == ["x"]
        assert options["constraints"] == str(constraints)
        assert (options["blocking"], options["show_progress"]) == (False, False)

    def test_newSlicersUnderTestWaitThemselves(self, calls, constraints, monkeypatch):
        def install(arguments, constraints=None):
            print("Collecting x")
            calls.append(arguments)

        self.withPackaging(monkeypatch, install)
        self.application(monkeypatch, True)
        lines = []
        assert PipRunner().install(["x"], constraints, lines.append) == 0
        assert (calls, lines) == ([["x"]], ["Collecting x"])

    def test_olderSlicersUseTheirOwnFunction(self, calls, constraints, monkeypatch):
        def install(requirements):
            print("Collecting x")
            print("Installing")
            calls.append(requirements)

        monkeypatch.setattr(slicer.util, "pip_install", install, raising=False)
        monkeypatch.delitem(sys.modules, "slicer.packaging", raising=False)
        lines = []
        assert PipRunner().install(["x"], constraints, lines.append) == 0
        assert calls == [["x", "-c", str(constraints)]]
        assert lines == ["Collecting x", "Installing"]

    def test_failureOfOlderSlicersIsACode(self, constraints, monkeypatch):
        def install(requirements):
            raise subprocess.CalledProcessError(2, "pip")

        monkeypatch.setattr(slicer.util, "pip_install", install, raising=False)
        assert PipRunner().install(["x"], constraints, lambda line: None) == 2


class TestTorchExtension:
    def test_extensionIsAskedForTorchUnderConstraints(self, monkeypatch, tmp_path):
        seen = []
        module = ModuleType("PyTorchUtils")

        class PyTorchUtilsLogic:
            def installTorch(self, askConfirmation, torchVersionRequirement):
                import os

                seen.append(
                    (askConfirmation, torchVersionRequirement, os.environ["PIP_CONSTRAINT"])
                )
                print("Downloading torch")

        module.PyTorchUtilsLogic = PyTorchUtilsLogic
        monkeypatch.setitem(sys.modules, "PyTorchUtils", module)
        lines = []
        path = tmp_path / "two words.txt"
        assert TorchExtension().installTorch(">=2.8", path, lines.append) is None
        assert lines == ["Downloading torch"]
        assert seen[0][:2] == (False, ">=2.8")
        assert seen[0][2].endswith(path.as_uri())

    def test_extensionComesFromTheServerWithoutItsOwnWindow(self, monkeypatch):
        seen = []
        manager = SimpleNamespace(interactive=True)

        def get(name, restart):
            seen.append((name, restart, manager.interactive))
            return True

        manager.installExtensionFromServer = get
        application = SimpleNamespace(extensionsManagerModel=lambda: manager)
        monkeypatch.setattr(slicer, "app", application, raising=False)
        assert TorchExtension().get()
        assert seen == [("PyTorch", False, False)]
        assert manager.interactive

    def test_slicerWithoutExtensionsManagerHasNone(self, monkeypatch):
        monkeypatch.setattr(slicer, "app", SimpleNamespace(), raising=False)
        assert not TorchExtension().get()


def writeWheel(folder, name, number, needs=()):
    """A wheel of one empty module."""
    module = name.replace("-", "_")
    info = f"{module}-{number}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}"]
    metadata += [f"Requires-Dist: {need}" for need in needs]
    files = {
        f"{module}.py": f"number = {number!r}\n",
        f"{info}/METADATA": "\n".join(metadata) + "\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    path = folder / f"{module}-{number}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        record = ""
        for file, text in files.items():
            archive.writestr(file, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
            record += f"{file},sha256={digest.decode().rstrip('=')},{len(text)}\n"
        archive.writestr(f"{info}/RECORD", record + f"{info}/RECORD,,\n")
    return path


class PipOfAnotherPython:
    """Runs pip of a virtual environment with the arguments as they come."""

    def __init__(self, python):
        self.python = python

    def install(self, arguments, constraints, log):
        command = [self.python, "-m", "pip", "--isolated", "install", *arguments]
        command += ["-c", str(constraints)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        for line in (done.stdout + done.stderr).splitlines():
            log(line)
        return done.returncode


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The Python of an environment of its own."""
    folder = tmp_path_factory.mktemp("environment") / "python"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    return next(folder.glob("*/python"), folder / "Scripts" / "python.exe")


class TestWithoutNetwork:
    """Real pip, a real folder of wheels, a real environment."""

    @pytest.fixture
    def wheels(self, tmp_path):
        folder = tmp_path / "my wheels"
        folder.mkdir()
        return folder

    def sitePackages(self, python):
        code = "import sysconfig; print(sysconfig.get_path('purelib'))"
        done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def test_folderInstallsAndSlicersPackagesStay(
        self, python, wheels, needs, tmp_path, monkeypatch
    ):
        there = version("numpy")
        shipped = tmp_path / "shipped"
        shipped.mkdir()
        own = writeWheel(shipped, "numpy", there)
        command = [str(python), "-m", "pip", "install", "--no-index", str(own)]
        subprocess.run(command, check=True, capture_output=True)
        writeWheel(wheels, "numpy", "99.0")
        writeWheel(wheels, "imbalanceseg-tiny-helper", "2.0", ["numpy>=1.0"])
        writeWheel(wheels, ABSENT.name, "1.5", ["imbalanceseg-tiny-helper", "numpy"])
        needs(ABSENT)
        monkeypatch.setattr(
            requirementsModule, "_REPLACED_AT_NEED", ()
        )  # the environment has another pip
        monkeypatch.syspath_prepend(self.sitePackages(python))
        installer = makeInstaller(pip=PipOfAnotherPython(str(python)))
        outcome = installer.install(wheels)
        assert outcome.succeeded, outcome.details
        listed = subprocess.run(
            [str(python), "-m", "pip", "list", "--format", "freeze"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        assert f"{ABSENT.name}==1.5" in listed
        assert "imbalanceseg-tiny-helper==2.0" in listed
        assert f"numpy=={there}" in listed

    def test_folderThatLacksAPackageIsSaid(self, python, wheels, needs):
        writeWheel(wheels, "imbalanceseg-other-test", "1.0")
        needs(Requirement("imbalanceseg-lacking-test", ">=1.0"))
        outcome = makeInstaller(pip=PipOfAnotherPython(str(python))).install(wheels)
        assert "holds no package 'imbalanceseg-lacking-test'" in outcome.sentence
        assert outcome.details

    def test_conflictWithSlicerIsSaid(self, python, wheels, needs):
        name = "imbalanceseg-greedy-test"
        writeWheel(wheels, "numpy", "99.0")
        writeWheel(wheels, name, "1.0", ["numpy>=99"])
        needs(Requirement(name, ">=1.0"))
        outcome = makeInstaller(pip=PipOfAnotherPython(str(python))).install(wheels)
        assert "newest Slicer" in outcome.sentence

    def test_torchComesFromTheFolderToo(self, wheels, needs):
        writeWheel(wheels, "x", "1.0")
        needs(TORCH)
        pip, extension = FakePip(), FakeExtension(isThere=False)
        makeInstaller(pip=pip, extension=extension).install(wheels)
        assert not extension.asked
        arguments, _ = pip.asked[0]
        assert arguments == pipArguments([TORCH], str(wheels))
        assert {"--no-index", "--find-links", "torch>=9999"} <= set(arguments)

    def test_constraintsReachAPipThatOthersStart(self, python, wheels, tmp_path):
        writeWheel(wheels, "imbalanceseg-free-test", "1.0")
        writeWheel(wheels, "imbalanceseg-free-test", "2.0")
        folder = tmp_path / "two words"
        folder.mkdir()
        (folder / "c.txt").write_text("imbalanceseg-free-test==1.0\n")
        command = [str(python), "-m", "pip", "install", "--no-index", "--find-links", str(wheels)]
        with constrained(folder / "c.txt"):
            done = subprocess.run(
                [*command, "imbalanceseg-free-test"], capture_output=True, text=True
            )
        assert "imbalanceseg-free-test-1.0" in done.stdout, done.stdout + done.stderr


class TestPackageInformation:
    def test_versionsAreToldWithoutAnEngine(self):
        text = PackageInformation().text
        assert f"numpy: {version('numpy')}" in text
        assert "Engine: not asked yet" in text

    def test_engineTellsItsDevice(self):
        device = {"name": "cuda", "gpu": "RTX", "gpu_memory_gib": 24.0, "gpu_memory_free_gib": 20.5}
        info = {
            "version": "0.1.0",
            "versions": {"monai": "1.5"},
            "device": device | {"torch": "2.9"},
        }
        lines = PackageInformation(info).lines
        assert "Engine: 0.1.0" in lines
        assert "torch of the engine: 2.9" in lines
        assert "Engine computes on: RTX, CUDA, 20.5 of 24.0 GiB free" in lines

    def test_engineWithoutCardOrBeforeAJob(self):
        assert "processor, 8 threads" in PackageInformation({"device": {"threads": 8}}).text
        assert "not known before the first job" in PackageInformation({"device": None}).text
