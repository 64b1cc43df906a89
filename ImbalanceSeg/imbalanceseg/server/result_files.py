"""The files of a result: the whole of it, or the box that a click has changed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from imbalanceseg.geometry import Grid
from imbalanceseg.io import write_image, write_json
from imbalanceseg.progress import ProgressCallback, ProgressEvent
from imbalanceseg.session import Session

if TYPE_CHECKING:
    from imbalanceseg.inference.segmentation import Segmentation

CHANGED_FILE = "changed.nrrd"
LABELS_FILE = "labels.nrrd"
HARDNESS_FILE = "hardness.nrrd"
ANNOTATION_FILE = "annotation.nrrd"
PREVIEW_FILE = "preview.nrrd"
MODEL_FOLDER = "model"


def write_results(session: Session, folder: Path, tell: ProgressCallback) -> dict[str, Any]:
    """Write labels, maps and report of a session, and return what is worth knowing at once."""
    from imbalanceseg.reporting.report import build_report
    from imbalanceseg.reporting.slicer_labels import slicer_labels, without_metadata

    result, model = session.result, session.model
    assert result is not None
    assert model is not None
    made_by = f"ImbalanceSeg {result.model_name} {result.model_version}"
    images = {LABELS_FILE: slicer_labels(result.labels, result.segments, made_by)}
    maps = {HARDNESS_FILE: result.hardness, "attention.nrrd": result.attention}
    levels = {
        f"attention_{number}.nrrd": image
        for number, image in enumerate(result.attention_levels, start=1)
    }
    for name, image in (maps | levels).items():
        if image is not None:
            images[name] = without_metadata(image)
    for done, (name, image) in enumerate(images.items()):
        tell(ProgressEvent("write", done, len(images), name))
        write_image(image, folder / name)
    files = [*images, "report.json"]
    report = build_report(
        session.image, result, model, case=session.name, seconds=session.seconds, files=files
    )
    write_json(folder / "report.json", report)
    kept = (
        "segments",
        "seconds",
        "total_seconds",
        "peak_memory_mib",
        "peak_device_memory_mib",
        "device",
        "backend",
        "notes",
    )
    return {key: report[key] for key in kept}


def write_preview(result: Segmentation, file: Path) -> None:
    """Write the labels of a result on the way, in the place of those before.

    Raises:
        OSError, RuntimeError: they cannot be written.
    """
    from imbalanceseg.reporting.slicer_labels import slicer_labels

    made_by = f"ImbalanceSeg {result.model_name} {result.model_version}"
    labels = slicer_labels(result.labels, result.segments, made_by)
    half = _half_of(file)
    # What is shown for seconds need not be forced to disk.
    sitk.WriteImage(labels, str(half), True)
    half.replace(file)


def remove_preview(file: Path) -> None:
    """Remove what :func:`write_preview` has written, half or whole."""
    for one in (file, _half_of(file)):
        # Where somebody reads it at this moment, some systems refuse.
        with suppress(OSError):
            one.unlink()


def write_changed(before: sitk.Image, after: sitk.Image, folder: Path) -> Mapping[str, Any]:
    """Write the labels of the smallest box that holds every voxel that differs.

    Returns:
        ``"start"`` and ``"size"`` of the box in voxels (i, j, k), both None where nothing differs.
    """
    differs = sitk.GetArrayViewFromImage(before) != sitk.GetArrayViewFromImage(after)
    slices = np.flatnonzero(differs.any(axis=(1, 2)))
    if not len(slices):
        return {"start": None, "size": None}
    z0, z1 = int(slices[0]), int(slices[-1]) + 1
    plane = differs[z0:z1].any(axis=0)
    rows, columns = np.flatnonzero(plane.any(axis=1)), np.flatnonzero(plane.any(axis=0))
    start = [int(columns[0]), int(rows[0]), z0]
    stop = [int(columns[-1]) + 1, int(rows[-1]) + 1, z1]
    box = after[start[0] : stop[0], start[1] : stop[1], start[2] : stop[2]]
    # The folder appears as a whole; forcing this file to disk would take longer than the rest.
    sitk.WriteImage(box, str(folder / CHANGED_FILE), True)
    return {"start": start, "size": [b - a for a, b in zip(start, stop, strict=True)]}


def paste(box: sitk.Image, labels: sitk.Image) -> sitk.Image:
    """``labels`` with the voxels of a box of the same grid in their place."""
    index = Grid.of(labels).physical_to_index(Grid.of(box).origin_mm)
    where = [int(n) for n in np.rint(index)]
    return sitk.Paste(labels, sitk.Cast(box, labels.GetPixelID()), box.GetSize(), [0, 0, 0], where)


def _half_of(file: Path) -> Path:
    """Where a preview is written before it takes its place."""
    return file.with_name(f".{file.name}")
