"""Stands where ``python -m imbalanceseg`` stands: the stub engine, made to misbehave.

Everything at least as bright as BRIGHT is the structure. The environment variable FAKE_ENGINE says
how to behave.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

STUB = Path(__file__).parents[1] / "Slicer" / "stub_engine"
BRIGHT = 1000


def main() -> None:
    mode = os.environ.get("FAKE_ENGINE", "good")
    print("loading", file=sys.stderr, flush=True)
    if mode == "refuse":
        print("error[data-folder]: The folder is read-only (ä).", file=sys.stderr)
        print("hint: Choose another one.", file=sys.stderr)
        sys.exit(2)
    if mode == "crash":
        print("Traceback: something odd", file=sys.stderr)
        sys.exit(7)
    if mode == "package":
        import a_package_that_nobody_has  # noqa: F401
    sys.path.insert(0, str(STUB))
    misbehave(mode)
    import runpy

    runpy.run_path(str(STUB / "__main__.py"), run_name="__main__")


def misbehave(mode: str) -> None:
    """Let every job of the stub end as the mode says."""
    import work

    well = work.Work.do

    def do(job: work.Work, number: str) -> work.Made:
        if mode == "fail":
            raise work.Fault("image-not-usable", "The image is all grey (ä).", "Give another one.")
        if mode == "die":
            os._exit(9)
        if mode == "slow":
            work_for_ever(job, number)
        made = well(job, number)
        spoil(made.files, mode)
        return made

    work.Work.do = do


def work_for_ever(job: object, number: str) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    while True:
        job._book.tell(number, stage="tiles", done=child.pid, message="tiles é")
        time.sleep(0.02)


def spoil(files: dict[str, bytes], mode: str) -> None:
    if mode == "garbage":
        files["report.json"] = files["report.json"][:20]
    if mode == "no map":
        files.pop("hardness.nrrd", None)
    if mode in ("empty", "shifted", "unknown label"):
        files["labels.nrrd"] = changed(files["labels.nrrd"], mode)
    if version := os.environ.get("FAKE_VERSION"):
        report = json.loads(files["report.json"])
        report["model"]["version"] = version
        files["report.json"] = json.dumps(report).encode("utf-8")


def changed(content: bytes, mode: str) -> bytes:
    import tempfile

    import SimpleITK as sitk

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "labels.nrrd"
        path.write_bytes(content)
        labels = sitk.ReadImage(str(path))
        if mode == "empty":
            labels *= 0
        if mode == "shifted":
            labels.SetOrigin([value + 5 for value in labels.GetOrigin()])
        if mode == "unknown label":
            labels *= 9
        sitk.WriteImage(labels, str(path))
        return path.read_bytes()


if __name__ == "__main__":
    main()
