"""Everything the engine writes that a person would miss, each in an old and a new version."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.labels import LESION

GRID = Grid((24, 20, 10), (0.8, 0.9, 2.0), (-3.0, 4.0, 5.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))


@dataclass(frozen=True)
class Writer:
    """What is written.

    Attributes:
        write: writes version 0 or 1 into a folder, over an earlier one.
        read: what lies there, as the engine reads it, to be compared; raises where it is damaged.
    """

    write: Callable[[Path, int], object]
    read: Callable[[Path], object]


def scan(version: int) -> sitk.Image:
    """An image of noise."""
    values = np.random.default_rng(version).integers(-1000, 400, GRID.size[::-1])
    return image_from_array(values.astype(np.int16), GRID)


def labels(version: int) -> sitk.Image:
    """A box, in another place in each version."""
    values = np.zeros(GRID.size[::-1], np.uint8)
    values[2:6, 3:9, 4 + 8 * version : 10 + 8 * version] = 1
    return image_from_array(values, GRID)


def digest(image: sitk.Image) -> str:
    """Of voxels and grid."""
    voxels = np.ascontiguousarray(sitk.GetArrayViewFromImage(image))
    return hashlib.sha256(repr(Grid.of(image)).encode() + voxels.tobytes()).hexdigest()


def image_writer(name: str) -> Writer:
    """A volume in one of the formats."""
    from imbalanceseg.io import read_image, write_image

    return Writer(
        lambda folder, version: write_image(scan(version), folder / name),
        lambda folder: digest(read_image(folder / name)),
    )


def json_writer() -> Writer:
    """A report."""
    from imbalanceseg.io import write_json

    def write(folder: Path, version: int) -> None:
        write_json(folder / "report.json", {"version": version, "rows": list(range(20_000))})

    return Writer(write, lambda folder: json.loads((folder / "report.json").read_text())["version"])


def annotation_writer() -> Writer:
    """A person's work."""
    from imbalanceseg.annotation.annotation import Annotation, ConfirmedSlice
    from imbalanceseg.annotation.files import load_annotation, save_annotation

    def write(folder: Path, version: int) -> None:
        made = Annotation.from_labels(labels(version), [ConfirmedSlice(2, 2 + version)], [1])
        save_annotation(made, folder / "work.seg.nrrd")

    def read(folder: Path) -> object:
        found = load_annotation(folder / "work.seg.nrrd")
        return digest(found.image), tuple(found.confirmed)

    return Writer(write, read)


def shared(folder: Path) -> Path:
    """What is written into ``ROOT/VERSION/place`` is made of what lies in ``ROOT/shared``."""
    place = folder.parents[1] / "shared"
    place.mkdir(exist_ok=True)
    return place


def series(folder: Path) -> Path:
    """A DICOM series."""
    from imbalanceseg.dicom.series import write_dicom_series

    place = shared(folder) / "series"
    if not place.is_dir():
        write_dicom_series(scan(0), place, seed="faults")
    return place


def segmentation_writer() -> Writer:
    """A DICOM Segmentation."""
    from imbalanceseg.dicom.seg import write_dicom_seg
    from imbalanceseg.dicom.seg_reading import read_dicom_seg

    def write(folder: Path, version: int) -> None:
        write_dicom_seg(labels(version), series(folder), folder / "seg.dcm", [LESION])

    def read(folder: Path) -> object:
        (segment,) = read_dicom_seg(folder / "seg.dcm").segments
        return hashlib.sha256(np.ascontiguousarray(segment.mask()).tobytes()).hexdigest()

    return Writer(write, read)


def measurements_writer() -> Writer:
    """A report on a DICOM Segmentation."""
    import pydicom

    from imbalanceseg.dicom.measurement_report import write_measurement_report
    from imbalanceseg.dicom.seg import write_dicom_seg

    def write(folder: Path, version: int) -> None:
        source = shared(folder) / f"seg{version}.dcm"
        if not source.is_file():
            write_dicom_seg(labels(version), series(folder), source, [LESION])
        write_measurement_report(source, series(folder), folder / "report.dcm")

    def read(folder: Path) -> object:
        found = pydicom.dcmread(folder / "report.dcm")
        items = found.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        return {one.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for one in items}

    return Writer(write, read)


def overview_writer() -> Writer:
    """The picture of a result."""
    from PIL import Image

    from imbalanceseg.inference.segmentation import Segmentation
    from imbalanceseg.models.bundle import load_model
    from imbalanceseg.session import _write_overview

    model = load_model("lesion")

    def write(folder: Path, version: int) -> None:
        result = Segmentation(labels(version), (LESION,), "lesion", "1")
        _write_overview(scan(0), result, model, folder / "overview.png")

    def read(folder: Path) -> object:
        with Image.open(folder / "overview.png") as picture:
            return hashlib.sha256(picture.tobytes()).hexdigest()

    return Writer(write, read)


def checkpoint_writer() -> Writer:
    """The state of a training."""
    import torch
    from safetensors.torch import load_file

    from imbalanceseg.training.checkpoint import write_tensors

    def write(folder: Path, version: int) -> None:
        write_tensors({"a": torch.full((300, 300), version)}, folder / "state.safetensors")

    return Writer(write, lambda folder: float(load_file(folder / "state.safetensors")["a"].sum()))


@cache
def small_model() -> tuple[Any, Any]:
    """Networks and card of a shipped model."""
    from imbalanceseg.models.bundle import load_model

    model = load_model("lesion")
    return model.networks, model.card


def bundle_writer() -> Writer:
    """A model that is adapted or has new figures, over an earlier one."""
    from imbalanceseg.models.bundle import load_model
    from imbalanceseg.models.write import write_bundle

    def write(folder: Path, version: int) -> None:
        networks, card = small_model()
        card = card.model_copy(update={"version": f"1.0.{version}"})
        write_bundle(folder / "model", networks, card)

    def read(folder: Path) -> object:
        model = load_model(folder / "model")
        model.verify()
        return model.card.version

    return Writer(write, read)


def table_writer() -> Writer:
    """What became of every case of a cohort."""
    from imbalanceseg.cohort_table import CaseRow, CaseTable

    def write(folder: Path, version: int) -> None:
        CaseTable(folder / "cases.csv").put(CaseRow("a", "a.nrrd", "done", seconds=version))

    return Writer(write, lambda folder: CaseTable(folder / "cases.csv").rows["a"].seconds)


def log_writer() -> Writer:
    """The figures of a training, which goes on after what is there."""
    from imbalanceseg.training.log import TrainingLog

    def write(folder: Path, version: int) -> None:
        with TrainingLog(folder, 1, iteration=100, leads=True) as log:
            log.row(100 + 20 * version, 5.0, 0.25, 1e-3, (0.5, 0.5))

    def read(folder: Path) -> object:
        with TrainingLog(folder, 1, iteration=120, leads=True) as log:
            rows = [row.split(",") for row in log.path.read_text().splitlines()[1:]]
        assert all(len(row) == 6 and row[2] == "0.25" for row in rows), rows
        return tuple(row[0] for row in rows)

    return Writer(write, read)


def prepared_writer() -> Writer:
    """Cases as training reads them; a training that is begun again completes them."""
    from imbalanceseg.io import write_image
    from imbalanceseg.planning.dataset import open_dataset
    from imbalanceseg.planning.fingerprint import fingerprint
    from imbalanceseg.planning.plan import make_plan
    from imbalanceseg.planning.prepare import prepare

    def made(folder: Path) -> str:
        (folder / "prepared").mkdir(exist_ok=True)
        dataset = open_dataset(folder)
        plan = make_plan(dataset, fingerprint(dataset))
        cases = prepare(dataset, plan, folder / "prepared")
        content = b"".join(case.image().tobytes() + case.label().tobytes() for case in cases)
        return hashlib.sha256(content).hexdigest()

    def write(folder: Path, version: int) -> None:
        for part, image in (("images", scan(version)), ("labels", labels(0))):
            (folder / part).mkdir(exist_ok=True)
            write_image(image, folder / part / "a.nrrd")
        made(folder)

    return Writer(write, made)


def store_writer() -> Writer:
    """The server's books: what they name is there, whole."""
    from imbalanceseg.atomic import atomic_path
    from imbalanceseg.server.records import StoredAnnotation
    from imbalanceseg.server.store import Store

    def write(folder: Path, version: int) -> None:
        content = bytes([version]) * 50_000
        store = Store(folder / "data")
        file = store.work / "body.nrrd"
        with atomic_path(file) as path:
            path.write_bytes(content)
        name = hashlib.sha256(content).hexdigest()
        store.add_annotation(StoredAnnotation(name, "a", len(content), float(version)), file)
        store.close()

    def read(folder: Path) -> object:
        store = Store(folder / "data")
        listed = store.annotations("a")
        for one in listed:
            content = store.annotation_file("a", one.id).read_bytes()
            assert hashlib.sha256(content).hexdigest() == one.id
        store.close()
        return tuple(one.id for one in listed)

    return Writer(write, read)


WRITERS: dict[str, Callable[[], Writer]] = {
    "nrrd": lambda: image_writer("a.nrrd"),
    "nifti": lambda: image_writer("a.nii"),
    "nifti-gz": lambda: image_writer("a.nii.gz"),
    "mha": lambda: image_writer("a.mha"),
    "report": json_writer,
    "annotation": annotation_writer,
    "dicom-seg": segmentation_writer,
    "measurements": measurements_writer,
    "overview": overview_writer,
    "checkpoint": checkpoint_writer,
    "bundle": bundle_writer,
    "cohort-table": table_writer,
    "training-log": log_writer,
    "prepared": prepared_writer,
    "store": store_writer,
}
