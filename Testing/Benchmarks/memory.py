"""Peak memory and time of segmentation against the size of the scan, within a budget.

    python Testing/Benchmarks/memory.py SCAN MODEL --memory-gb 4 [--sizes 256 512 1024]
        [--picture FILE] [--json FILE]

The scan is resampled to SIZE x SIZE x 1.17 SIZE voxels over its own extent, int16, so that anatomy
and answer stay and the number of voxels grows. Each size runs in a process of its own, and what
the command writes is measured after what it segments.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

_DEPTH = 1.171875


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("scan")
    parser.add_argument("model")
    parser.add_argument("--memory-gb", type=float, default=4.0)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 1024])
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        run(arguments.scan, arguments.model, arguments.memory_gb, arguments.child)
        return
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for size in sorted(arguments.sizes, reverse=True):
            scan = Path(temporary) / "scan.nrrd"
            enlarged(arguments.scan, size, scan)
            result = Path(temporary) / "result.json"
            limit = ["--memory-gb", str(arguments.memory_gb), "--child", str(result)]
            subprocess.run(
                [sys.executable, __file__, str(scan), arguments.model, *limit], check=True
            )
            rows.append({"size": size, **json.loads(result.read_text(encoding="utf-8"))})
            print(rows[-1], flush=True)
    rows.reverse()
    if arguments.picture:
        draw(rows, arguments.memory_gb, arguments.picture)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def enlarged(scan: str, size: int, path: Path) -> None:
    """The scan on a grid of so many voxels, int16, uncompressed."""
    import SimpleITK as sitk

    from imbalanceseg.geometry import Grid, resample
    from imbalanceseg.io import read_image

    image = sitk.Cast(read_image(scan), sitk.sitkInt16)
    grid = Grid.of(image).oriented_lps()
    wanted = (size, size, round(size * _DEPTH))
    extent = [n * s for n, s in zip(grid.size, grid.spacing_mm, strict=True)]
    target = grid.with_spacing([e / n for e, n in zip(extent, wanted, strict=True)])
    parts = []
    for start in range(0, target.size[2], 64):
        depth = min(64, target.size[2] - start)
        slab = target.cropped((0, 0, start), (*target.size[:2], depth))
        parts.append(resample(image, slab, "linear", outside=-1000))
    whole = sitk.Image(target.size, sitk.sitkInt16)
    whole = target.placed(whole)
    at = 0
    for part in parts:
        whole = sitk.Paste(whole, part, part.GetSize(), [0, 0, 0], [0, 0, at])
        at += part.GetDepth()
    sitk.WriteImage(whole, str(path), False)


def run(scan: str, model: str, memory_gb: float, result: Path) -> None:
    """Segment and write, and say what each took beside the scan itself."""
    from imbalanceseg.models.bundle import load_model
    from imbalanceseg.session import Session

    loaded = load_model(model)
    session = Session.open(scan, model=loaded)
    voxels = session.image.GetNumberOfPixels()
    scan_mib = voxels * session.image.GetSizeOfPixelComponent() / 2**20
    began = time.perf_counter()
    found = session.segment(loaded, hardness="entropy", memory_gb=memory_gb)
    segmented = time.perf_counter()
    row: dict[str, Any] = {
        "voxels": voxels,
        "seconds": round(segmented - began, 1),
        "stages": dict(found.seconds),
        "peak_mib": round(_status("VmHWM")),
        "scan_mib": round(scan_mib),
        "beside_scan_mib": round(_status("VmHWM") - scan_mib),
        "notes": list(found.notes),
    }
    _forget_peak()
    session.write(result.parent / "written")
    row["written_seconds"] = round(time.perf_counter() - segmented, 1)
    row["written_beside_scan_mib"] = round(_status("VmHWM") - scan_mib)
    row["swapped_mib"] = round(_status("VmSwap"))
    result.write_text(json.dumps(row), encoding="utf-8")


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def draw(rows: list[dict[str, Any]], memory_gb: float, path: Path) -> None:
    """Memory and time against voxels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.4), layout="constrained")
    memory, seconds = figure.subplots(1, 2)
    voxels = [row["voxels"] / 1e6 for row in rows]
    memory.plot(voxels, [row["beside_scan_mib"] / 1024 for row in rows], "o-", label="beside it")
    memory.plot(voxels, [row["scan_mib"] / 1024 for row in rows], "o-", label="the scan itself")
    memory.axhline(memory_gb, color="grey", linestyle=":", label="allowed")
    memory.set(xlabel="million voxels", ylabel="peak memory, GiB", ylim=(0, None))
    fine = [row["stages"]["fine"] for row in rows]
    seconds.plot(voxels, [row["seconds"] for row in rows], "o-", label="all")
    rest = [row["seconds"] - f for row, f in zip(rows, fine, strict=True)]
    seconds.plot(voxels, rest, "o-", label="without the network")
    seconds.set(xlabel="million voxels", ylabel="seconds", ylim=(0, None))
    for axis in (memory, seconds):
        axis.legend(frameon=False)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
