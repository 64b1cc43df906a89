"""A written series is valid DICOM and gives its image back."""

from __future__ import annotations

import datetime
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from imbalanceseg.dicom.series import write_dicom_series
from imbalanceseg.errors import InputError, OutputError
from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.io import list_series, read_image

WHEN = datetime.datetime(2024, 5, 6, 7, 8, 9)


def volume(grid: Grid | None = None) -> sitk.Image:
    grid = grid or Grid((5, 4, 3), (0.7, 0.8, 2.5), (-1.5, 2.25, 3.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    values = np.random.default_rng(0).integers(-32768, 32767, grid.size[::-1])
    return image_from_array(values.astype(np.int16), grid)


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(*[st.floats(-180, 180)] * 3),
    st.tuples(*[st.floats(0.3, 6.0)] * 3),
    st.tuples(*[st.floats(-400, 400)] * 3),
)
def test_any_right_handed_grid_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    angles: tuple[float, float, float],
    spacing: tuple[float, float, float],
    origin: tuple[float, float, float],
) -> None:
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    image = volume(Grid((5, 4, 3), spacing, origin, tuple(turn.ravel())))
    folder = tmp_path_factory.mktemp("series")
    write_dicom_series(image, folder)
    back = read_image(folder)
    assert Grid.of(back).same_as(Grid.of(image), 1e-6)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(image))


def test_a_left_handed_image_keeps_its_voxels_in_place(tmp_path: Path) -> None:
    grid = Grid((5, 4, 3), (0.7, 0.8, 2.5), (-1.5, 2.25, 3.0), (1, 0, 0, 0, 1, 0, 0, 0, -1))
    write_dicom_series(volume(grid), tmp_path / "dicom")
    back = read_image(tmp_path / "dicom")
    assert Grid.of(back).same_as(grid.oriented_lps())
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(volume(grid))[::-1]
    )


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_dciodvfy_finds_no_error(tmp_path: Path, modality: str) -> None:
    if not shutil.which("dciodvfy"):
        pytest.skip("dciodvfy (Debian package dicom3tools) is not installed.")
    for path in write_dicom_series(volume(), tmp_path / "dicom", modality=modality):
        done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True)
        assert "Error" not in done.stdout + done.stderr
        assert f"{modality}Image" in done.stdout + done.stderr


def test_identity_of_the_made_up_patient(tmp_path: Path) -> None:
    files = write_dicom_series(
        volume(), tmp_path / "dicom", description="Airway", patient_id="P1", when=WHEN
    )
    header = pydicom.dcmread(files[0])
    assert str(header.PatientName) == "Phantom^ImbalanceSeg"
    assert (header.PatientID, header.SeriesDescription) == ("P1", "Airway")
    assert (header.StudyDate, header.StudyTime) == ("20240506", "070809")
    assert [pydicom.dcmread(f).InstanceNumber for f in files] == [1, 2, 3]
    assert [i.description for i in list_series(tmp_path / "dicom")] == ["Airway"]


def test_equal_seeds_give_equal_files(tmp_path: Path) -> None:
    one = write_dicom_series(volume(), tmp_path / "a", seed="7", when=WHEN)
    same = write_dicom_series(volume(), tmp_path / "b", seed="7", when=WHEN)
    other = write_dicom_series(volume(), tmp_path / "c", seed="8", when=WHEN)
    assert [p.read_bytes() for p in one] == [p.read_bytes() for p in same]
    uids = [[pydicom.dcmread(p).SOPInstanceUID for p in files] for files in (one, other)]
    assert len({uid for pair in uids for uid in pair}) == 6


def test_series_of_one_seed_share_the_study(tmp_path: Path) -> None:
    headers = [
        pydicom.dcmread(
            write_dicom_series(volume(), tmp_path / str(n), seed="7", series_number=n)[0]
        )
        for n in (1, 2)
    ]
    assert headers[0].StudyInstanceUID == headers[1].StudyInstanceUID
    assert headers[0].FrameOfReferenceUID == headers[1].FrameOfReferenceUID
    assert headers[0].SeriesInstanceUID != headers[1].SeriesInstanceUID


def test_real_values_are_rounded(tmp_path: Path) -> None:
    image = sitk.Cast(volume(), sitk.sitkFloat32) / 1000 + 0.3
    write_dicom_series(image, tmp_path / "dicom")
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(read_image(tmp_path / "dicom")),
        np.rint(sitk.GetArrayFromImage(image)),
    )


@pytest.mark.parametrize("value", [40000.0, -32769.0, float("nan"), float("inf")])
def test_values_beyond_16_bits_are_refused(tmp_path: Path, value: float) -> None:
    image = sitk.Cast(volume(), sitk.sitkFloat32)
    image[1, 1, 1] = value
    with pytest.raises(InputError) as caught:
        write_dicom_series(image, tmp_path / "dicom")
    assert caught.value.code == "values-beyond-16-bit"
    assert not (tmp_path / "dicom").exists()


def test_another_modality_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        write_dicom_series(volume(), tmp_path / "dicom", modality="US")
    assert caught.value.code == "modality-unknown"


def test_a_folder_with_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(OutputError) as caught:
        write_dicom_series(volume(), tmp_path)
    assert caught.value.code == "output-folder-not-empty"
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_a_missing_parent_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught:
        write_dicom_series(volume(), tmp_path / "none" / "dicom")
    assert caught.value.code == "output-not-writable"
