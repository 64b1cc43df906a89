"""Stands where ``python -m imbalanceseg`` stands: same arguments, same files, no network.

Everything at least as bright as BRIGHT is the structure. The environment variable FAKE_ENGINE says
how to behave.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

BRIGHT = 1000


def main() -> None:
    mode = os.environ.get("FAKE_ENGINE", "good")
    arguments = parse()
    if mode == "fail":
        print("loading", file=sys.stderr)
        print("error[image-not-usable]: The image is all grey (ä).", file=sys.stderr)
        print("hint: Give another one.", file=sys.stderr)
        sys.exit(2)
    if mode == "crash":
        print("Traceback: something odd", file=sys.stderr)
        sys.exit(7)
    if mode == "package":
        import a_package_that_nobody_has  # noqa: F401
    if mode == "slow":
        work_for_ever()
    report_progress("read", 1, 1)
    print("a line that is no event")
    print('{"not": "an event"}')
    write_result(arguments, mode)
    report_progress("write", 2, 2)
    print('{"stage": "finished", "files": []}')


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["segment"])
    parser.add_argument("scan", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("-o", dest="output", type=Path, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--maps", action="append", default=[])
    parser.add_argument("--progress", choices=["json"], required=True)
    return parser.parse_args()


def report_progress(stage: str, done: int, total: int) -> None:
    event = {"stage": stage, "done": done, "total": total, "message": f"{stage} \u00e9"}
    print(json.dumps({**event, "metrics": {"dice": 0.5}}, ensure_ascii=False), flush=True)


def work_for_ever() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    report_progress("tiles", child.pid, 0)
    time.sleep(600)


def write_result(arguments: argparse.Namespace, mode: str) -> None:
    import SimpleITK as sitk

    scan = sitk.ReadImage(str(arguments.scan))
    labels = sitk.Cast(scan >= BRIGHT, sitk.sitkUInt8)
    if mode == "empty":
        labels *= 0
    if mode == "shifted":
        labels.SetOrigin([value + 5 for value in labels.GetOrigin()])
    if mode == "unknown label":
        labels *= 9
    arguments.output.mkdir(parents=True)
    sitk.WriteImage(labels, str(arguments.output / "labels.nrrd"), True)
    for name in set(arguments.maps) - {"none"}:
        values = sitk.Clamp(sitk.Cast(scan, sitk.sitkFloat32) / (2 * BRIGHT), upperBound=1.0)
        sitk.WriteImage(sitk.Maximum(values, 0.0), str(arguments.output / f"{name}.nrrd"), True)
    write_report(arguments, mode)


def write_report(arguments: argparse.Namespace, mode: str) -> None:
    airway = {
        "label": 1,
        "name": "Airway tree",
        "color": [128, 196, 226],
        "category": {"value": "123037004", "meaning": "Anatomical Structure", "scheme": "SCT"},
        "type": {"value": "110726009", "meaning": "Trachea and bronchus", "scheme": "SCT"},
        "region": None,
    }
    report = {
        "model": {"name": arguments.model, "version": os.environ.get("FAKE_VERSION", "1.2.3")},
        "segments": [airway],
        "notes": ["Checked by nobody."],
    }
    text = json.dumps(report)
    if mode == "garbage":
        text = text[:20]
    (arguments.output / "report.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
