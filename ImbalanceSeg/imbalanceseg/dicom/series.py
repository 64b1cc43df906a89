"""Images as classic DICOM series: phantoms, and series whose voxels are known."""

from __future__ import annotations

import datetime
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pydicom.valuerep import DS

from imbalanceseg import __version__
from imbalanceseg.errors import InputError, OutputError
from imbalanceseg.geometry import Grid
from imbalanceseg.reading import printable

_STORAGE = {"CT": CTImageStorage, "MR": MRImageStorage}
_BODY_PART = {"CT": "CHEST", "MR": "BRAIN"}


def write_dicom_series(
    image: sitk.Image,
    folder: str | os.PathLike[str],
    *,
    modality: str = "CT",
    description: str = "ImbalanceSeg phantom",
    patient_id: str = "PHANTOM",
    series_number: int = 1,
    seed: str | None = None,
    when: datetime.datetime | None = None,
) -> list[Path]:
    """Write a 3D image as a series of one file a slice, made-up patient ``Phantom^ImbalanceSeg``.

    Reading the folder gives the image back, voxel for voxel, if its index axes are right-handed;
    the slices of a left-handed image come back in reverse order, each in its place.

    Args:
        image: 3D scalar image; values are rounded to whole numbers (HU for CT).
        folder: created; must not exist or must be empty.
        modality: ``"CT"`` or ``"MR"``.
        description: Series Description.
        patient_id: Patient ID.
        series_number: Series Number.
        seed: equal seeds give equal identifiers; images of one seed share study and frame of
            reference, ``series_number`` tells them apart. None draws new identifiers.
        when: date and time written into the files; the present if None.

    Returns:
        The files, in slice order.

    Raises:
        InputError: values beyond 16 bits, another modality, or an image that is not 3D.
        OutputError: the folder is not empty or cannot be written.

    Source: DICOM PS3.3 sections A.3 and A.4.
    """
    if modality not in _STORAGE:
        raise InputError(
            "modality-unknown",
            f"A series of modality {printable(modality)} cannot be written.",
            "Use CT or MR.",
        )
    grid = Grid.of(image)
    voxels = _as_int16(image)
    common = _Common(modality, description, patient_id, series_number, seed, when)
    slices = [_slice(common, grid, voxels[k], k) for k in range(grid.size[2])]
    return _write_folder(slices, Path(folder))


class _Common:
    """What all slices of the series share."""

    def __init__(
        self,
        modality: str,
        description: str,
        patient_id: str,
        series_number: int,
        seed: str | None,
        when: datetime.datetime | None,
    ) -> None:
        self.modality = modality
        self.description = printable(description, 64)
        self.patient_id = printable(patient_id, 64)
        self.series_number = series_number
        self.when = when or datetime.datetime.now()
        self._seed = seed
        self.study = self.uid("study")
        self.frame_of_reference = self.uid("frame of reference")
        self.series = self.uid("series", str(series_number))

    def uid(self, *what: str) -> UID:
        return generate_uid(entropy_srcs=None if self._seed is None else [self._seed, *what])


def _as_int16(image: sitk.Image) -> np.ndarray:
    values = sitk.GetArrayViewFromImage(image)
    limits = np.iinfo(np.int16)
    low, high = float(values.min()), float(values.max())
    if not (limits.min - 0.5 <= low and high < limits.max + 0.5):
        raise InputError(
            "values-beyond-16-bit",
            f"The image holds values from {low:g} to {high:g}, a DICOM slice holds 16 bits.",
            "Rescale the image first.",
        )
    return np.rint(values).astype(np.int16) if values.dtype.kind == "f" else values.astype(np.int16)


def _slice(common: _Common, grid: Grid, plane: np.ndarray, k: int) -> FileDataset:
    storage = _STORAGE[common.modality]
    instance = common.uid("slice", str(common.series_number), str(k))
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = storage
    meta.MediaStorageSOPInstanceUID = instance
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID = storage
    data.SOPInstanceUID = instance
    _add_identity(data, common)
    _add_acquisition(data, common.modality)
    _add_plane(data, grid, k)
    _add_pixels(data, plane, common.modality)
    return data


def _add_identity(data: FileDataset, common: _Common) -> None:
    date, time = common.when.strftime("%Y%m%d"), common.when.strftime("%H%M%S")
    data.SpecificCharacterSet = "ISO_IR 192"
    data.PatientName = "Phantom^ImbalanceSeg"
    data.PatientID = common.patient_id
    data.PatientBirthDate = ""
    data.PatientSex = ""
    data.StudyInstanceUID = common.study
    data.StudyDate = data.SeriesDate = data.AcquisitionDate = data.ContentDate = date
    data.StudyTime = data.SeriesTime = data.AcquisitionTime = data.ContentTime = time
    data.ReferringPhysicianName = ""
    data.StudyID = "1"
    data.AccessionNumber = ""
    data.SeriesInstanceUID = common.series
    data.SeriesNumber = common.series_number
    data.SeriesDescription = common.description
    data.Modality = common.modality
    data.FrameOfReferenceUID = common.frame_of_reference
    data.PositionReferenceIndicator = ""
    data.Manufacturer = "ImbalanceSeg"
    data.ManufacturerModelName = "ImbalanceSeg phantom"
    data.SoftwareVersions = __version__


def _add_acquisition(data: FileDataset, modality: str) -> None:
    data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL" if modality == "CT" else "OTHER"]
    data.PatientPosition = "HFS"
    data.BodyPartExamined = _BODY_PART[modality]
    data.AcquisitionNumber = 1
    if modality == "CT":
        data.KVP = ""
        data.RescaleIntercept = 0
        data.RescaleSlope = 1
        data.RescaleType = "HU"
        return
    data.ScanningSequence = "RM"
    data.SequenceVariant = "NONE"
    data.ScanOptions = ""
    data.MRAcquisitionType = "3D"
    data.EchoTime = ""
    data.EchoTrainLength = ""
    data.RepetitionTime = ""


def _add_plane(data: FileDataset, grid: Grid, k: int) -> None:
    position = grid.index_to_physical((0, 0, k))
    cosines = grid.matrix
    data.InstanceNumber = k + 1
    data.ImagePositionPatient = _decimals(position)
    data.ImageOrientationPatient = _decimals([*cosines[:, 0], *cosines[:, 1]])
    data.PixelSpacing = _decimals([grid.spacing_mm[1], grid.spacing_mm[0]])
    data.SliceThickness = _decimals([grid.spacing_mm[2]])[0]
    data.SpacingBetweenSlices = data.SliceThickness
    data.SliceLocation = _decimals([float(position @ cosines[:, 2])])[0]


def _decimals(values: Sequence[float] | np.ndarray) -> list[DS]:
    return [DS(float(v), auto_format=True) for v in values]


def _add_pixels(data: FileDataset, plane: np.ndarray, modality: str) -> None:
    data.SamplesPerPixel = 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.Rows, data.Columns = plane.shape
    data.BitsAllocated = 16
    data.BitsStored = 16
    data.HighBit = 15
    data.PixelRepresentation = 1
    if modality == "CT":
        data.WindowCenter, data.WindowWidth = -500, 1500
    data.PixelData = np.ascontiguousarray(plane, dtype="<i2").tobytes()


def _write_folder(slices: Sequence[FileDataset], folder: Path) -> list[Path]:
    if folder.is_dir() and any(folder.iterdir()):
        raise OutputError(
            "output-folder-not-empty",
            f"The folder {folder} is not empty, and a series must not mix with other files.",
            "Choose a new folder.",
        )
    names = [f"IM{k + 1:04d}.dcm" for k in range(len(slices))]
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            for name, data in zip(names, slices, strict=True):
                data.save_as(temporary / name, enforce_file_format=True)
            temporary.chmod(0o755)
            if folder.is_dir():
                folder.rmdir()
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise OutputError(
            "output-not-writable",
            f"The folder {folder} cannot be written ({printable(error.strerror).lower()}).",
            "Choose a folder in which you may write.",
        ) from error
    return [folder / name for name in names]
