"""Series that DICOM objects are written for and sent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from imbalanceseg.dicom.series import write_dicom_series
from imbalanceseg.geometry import Grid, image_from_array


@pytest.fixture(scope="module")
def oblique(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small series whose slices are oblique and thick."""
    c, s = np.cos(0.5), np.sin(0.5)
    grid = Grid((24, 20, 9), (0.8, 0.7, 3.0), (-20.0, 15.5, -300.25), (c, 0, s, 0, 1, 0, -s, 0, c))
    values = np.random.default_rng(0).integers(-1000, 400, grid.size[::-1]).astype(np.int16)
    folder = tmp_path_factory.mktemp("oblique") / "dicom"
    write_dicom_series(image_from_array(values, grid), folder)
    return folder


@pytest.fixture(scope="module")
def real_series(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    filled = tmp_path_factory.mktemp("ct") / "dicom"
    return {
        "ct": with_identifiers(data_folder / "ct_dicom_20_slices" / "dicom", filled),
        "sagittal-mr": data_folder / "dicom_mr",
        "jpeg-lossless-ct": data_folder / "airway_ricord" / "dicom",
    }


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
