"""Series that DICOM objects are written for and sent."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from imbalanceseg.dicom.series import write_dicom_series
from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.io import series_files


@pytest.fixture(scope="module")
def oblique(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small series whose slices are oblique and thick."""
    c, s = np.cos(0.5), np.sin(0.5)
    grid = Grid((24, 20, 9), (0.8, 0.7, 3.0), (-20.0, 15.5, -300.25), (c, 0, s, 0, 1, 0, -s, 0, c))
    values = np.random.default_rng(0).integers(-1000, 400, grid.size[::-1]).astype(np.int16)
    folder = tmp_path_factory.mktemp("oblique") / "dicom"
    write_dicom_series(image_from_array(values, grid), folder)
    return folder


REAL_SERIES = {
    "ct": ("ct_dicom_20_slices/dicom", None),
    "sagittal-mr": ("dicom_mr", None),
    "jpeg-lossless-ct": ("airway_ricord/dicom", None),
    "two-slices": ("ct_cip_tiny", None),
    "without-character-set": (
        "dicom_seg_dcmqi",
        "1.2.392.200103.20080913.113635.1.2009.6.22.21.43.10.23430.1",
    ),
    "slices-23": (
        "dicom_seg_dcmqi",
        "1.2.826.0.1.3680043.2.1125.1.31406211013692525450623069050794718",
    ),
    "slices-24": (
        "dicom_seg_dcmqi",
        "1.2.826.0.1.3680043.2.1125.1.9881642883347102869241902700569139",
    ),
    "frames-23": (
        "dicom_seg_dcmqi",
        "1.3.6.1.4.1.5962.99.1.3840.1409.1519964081918.1.3.3456.3456",
    ),
    "frames-24": (
        "dicom_seg_dcmqi",
        "1.3.6.1.4.1.5962.99.1.3840.1781.1519964048862.1.3.3456.3456",
    ),
}
"""Every series of the data folder that makes a volume: where it lies, and its UID beside others."""


@pytest.fixture(scope="module")
def real_series(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders with one series each."""
    found = {}
    for name, (place, uid) in REAL_SERIES.items():
        found[name] = data_folder / place
        if name == "ct":
            filled = tmp_path_factory.mktemp(name) / "dicom"
            found[name] = with_identifiers(found[name], filled)
        elif uid is not None:
            alone = tmp_path_factory.mktemp(name)
            for path in series_files(found[name], uid):
                shutil.copy(path, alone)
            found[name] = alone
    return found


def with_identifiers(source: Path, target: Path) -> Path:
    """A copy of a de-identified series with its blank identifiers filled in."""
    target.mkdir()
    study, series = generate_uid(), generate_uid()
    for path in sorted(source.glob("*.dcm")):
        header = pydicom.dcmread(path)
        header.StudyInstanceUID, header.SeriesInstanceUID = study, series
        header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID
        header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID
        header.save_as(target / path.name)
    return target
