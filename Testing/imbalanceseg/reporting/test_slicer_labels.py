"""Labels as 3D Slicer reads them, judged by slicerio, a reader of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from imbalanceseg.geometry import Grid
from imbalanceseg.io import write_image
from imbalanceseg.labels import AIRWAY_TREE, LESION, SegmentInfo
from imbalanceseg.reporting.slicer_labels import slicer_labels, without_metadata

SEGMENTS = (
    AIRWAY_TREE,
    SegmentInfo(2, "Lesion", LESION.category, LESION.type, LESION.color),
)


@pytest.fixture
def labels() -> sitk.Image:
    image = sitk.Image(7, 6, 5, sitk.sitkUInt8)
    image[1, 2, 3] = 1
    image[4, 4, 4] = 2
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((-12.0, 33.5, 101.25))
    image.SetDirection(sitk.Euler3DTransform((0, 0, 0), 0.1, -0.2, 0.3).GetMatrix())
    image.SetMetaData("0010|0010", "Somebody^Real")
    return image


def test_slicerio_reads_names_colours_codes_and_place(labels: sitk.Image, tmp_path: Path) -> None:
    slicerio = pytest.importorskip("slicerio")
    path = tmp_path / "labels.nrrd"
    write_image(slicer_labels(labels, SEGMENTS, "ImbalanceSeg airway 0.1.0"), path)
    read = slicerio.read_segmentation(str(path))
    assert read["masterRepresentation"] == "Binary labelmap"
    assert read["containedRepresentationNames"] == ["Binary labelmap"]
    assert np.array_equal(read["voxels"].T, sitk.GetArrayViewFromImage(labels))
    first, second = read["segments"]
    assert (first["name"], second["name"]) == ("Airway tree", "Lesion")
    assert (first["labelValue"], second["labelValue"]) == (1, 2)
    assert first["color"] == pytest.approx([c / 255 for c in AIRWAY_TREE.color], abs=1e-5)
    assert first["extent"] == [0, 6, 0, 5, 0, 4]
    assert first["terminology"]["type"] == ["SCT", "110726009", "Trachea and bronchus"]
    assert first["tags"]["DICOM.SegmentAlgorithmType"] == "AUTOMATIC"
    assert first["tags"]["DICOM.SegmentAlgorithmName"] == "ImbalanceSeg airway 0.1.0"
    assert first["id"] != second["id"]


def test_the_geometry_text_is_the_index_to_ras_matrix(labels: sitk.Image) -> None:
    text = slicer_labels(labels, SEGMENTS, "x").GetMetaData("Segmentation_ConversionParameters")
    name, geometry, _ = text.rstrip("&").split("|")
    assert name == "Reference image geometry"
    numbers = [float(v) for v in geometry.rstrip(";").split(";")]
    matrix = np.array(numbers[:16]).reshape(4, 4)
    assert numbers[16:] == [0, 6, 0, 5, 0, 4]
    point_lps = Grid.of(labels).index_to_physical((3, 2, 1))
    assert (matrix @ (3, 2, 1, 1))[:3] == pytest.approx(point_lps * (-1, -1, 1))


def test_no_field_of_the_scan_reaches_the_file(labels: sitk.Image, tmp_path: Path) -> None:
    path = tmp_path / "labels.nrrd"
    write_image(slicer_labels(labels, SEGMENTS, "x"), path)
    assert b"Somebody" not in path.read_bytes()
    assert without_metadata(labels).GetMetaDataKeys() == ()
    assert labels.GetMetaData("0010|0010") == "Somebody^Real"
