"""Series that are not simply slices in equal steps: read right side up, and segmented in place."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import gdcm
import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    generate_uid,
)

from imbalanceseg.cli.main import main
from imbalanceseg.dicom.seg import write_dicom_seg
from imbalanceseg.dicom.seg_reading import on_scan, read_dicom_seg
from imbalanceseg.dicom.series import write_dicom_series
from imbalanceseg.dicom_series import open_series
from imbalanceseg.errors import InputError
from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.io import read_image
from imbalanceseg.labels import TUMOR
from imbalanceseg.session import Session

from .test_seg import assert_valid, read_with_dcmqi

ANGLE = 0.4
C, S = np.cos(ANGLE), np.sin(ANGLE)
GRID = Grid((30, 26, 14), (0.8, 0.7, 2.5), (-11.0, 4.0, 20.0), (C, 0, S, 0, 1, 0, -S, 0, C))
GRID_OF_4 = Grid((6, 5, 4), (1.0, 1.0, 1.0), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
Edit = Callable[[int, Dataset], object]


def ramp(points: np.ndarray) -> np.ndarray:
    """A value that says where in the patient it is."""
    return 300 + points @ np.array([11.0, -7.0, 13.0])


def inside(points: np.ndarray) -> np.ndarray:
    """A ball about the middle of the grid."""
    middle = GRID.index_to_physical((np.array(GRID.size) - 1) / 2)
    return np.linalg.norm(points - middle, axis=-1) < 7


def points_of(grid: Grid) -> np.ndarray:
    k, j, i = np.indices(grid.size[::-1])
    return grid.index_to_physical(np.stack([i, j, k], axis=-1))


def points_of_slice(header: Dataset) -> np.ndarray:
    j, i = np.indices((header.Rows, header.Columns))
    cosines = np.array(header.ImageOrientationPatient, float)
    spacing = np.array(header.PixelSpacing, float)
    origin = np.array(header.ImagePositionPatient, float)
    along = i[..., None] * spacing[1] * cosines[:3] + j[..., None] * spacing[0] * cosines[3:]
    return np.asarray(origin + along)


def moved(header: Dataset, steps: float = 0.0, aside_mm: float = 0.0) -> None:
    cosines = np.array(header.ImageOrientationPatient, float)
    normal = np.cross(cosines[:3], cosines[3:])
    position = np.array(header.ImagePositionPatient, float)
    position += normal * steps * GRID.spacing_mm[2] + cosines[3:] * aside_mm
    header.ImagePositionPatient = [f"{x:.9f}"[:16] for x in position]


def series(folder: Path, edit: Edit = lambda n, h: None) -> Path:
    """The ramp as slices; ``edit`` may move a slice, or drop it with False; then it is painted."""
    empty = image_from_array(np.zeros(GRID.size[::-1], np.int16), GRID)
    for n, path in enumerate(write_dicom_series(empty, folder)):
        header = pydicom.dcmread(path)
        if edit(n, header) is False:
            path.unlink()
            continue
        values = np.rint(ramp(points_of_slice(header))).astype(np.int16)
        header.PixelData = values.tobytes()
        header.save_as(path)
    return folder


IRREGULAR: dict[str, tuple[Edit, str]] = {
    "one-missing": (lambda n, h: n != 5, "1 slice is missing, the first after slice 5;"),
    "two-missing": (lambda n, h: n not in (5, 9), "2 slices are missing"),
    "uneven": (lambda n, h: moved(h, 0.3 * (n % 3)), "apart; interpolated every"),
    "two-spacings": (lambda n, h: moved(h, max(0, n - 7)), "apart; interpolated every"),
    "tilted": (lambda n, h: moved(h, aside_mm=-0.6 * n), "Tilted by"),
    "tilted-and-missing": (
        lambda n, h: False if n == 5 else moved(h, aside_mm=0.9 * n),
        "Tilted by",
    ),
}


@pytest.mark.parametrize("name", IRREGULAR)
def test_values_are_where_they_were_in_the_patient(tmp_path: Path, name: str) -> None:
    edit, note = IRREGULAR[name]
    folder = series(tmp_path / "dicom", edit)
    with pytest.warns(UserWarning, match=note):
        image = read_image(folder)
    grid = Grid.of(image)
    points, values = points_of(grid), sitk.GetArrayFromImage(image)
    shown = values > values.min()
    gap = np.abs(values - ramp(points))
    # At its border a shifted slice is half a pixel of nothing.
    assert np.quantile(gap[shown], 0.9) <= 1.01
    first, last = (pydicom.dcmread(open_series(folder).files[n]) for n in (0, -1))
    for header, k in ((first, 0), (last, grid.size[2] - 1)):
        corners = points_of_slice(header)[[0, -1], [0, -1]]
        index = grid.physical_to_index(corners)
        np.testing.assert_allclose(index[:, 2], k, atol=1e-6)
        assert (index[:, :2] > -0.51).all()
        assert (index[:, :2] < np.array(grid.size[:2]) - 0.49).all()


@pytest.mark.parametrize("name", IRREGULAR)
def test_segments_lie_on_the_slices_of_the_scanner(tmp_path: Path, name: str) -> None:
    folder, path = series(tmp_path / "dicom", IRREGULAR[name][0]), tmp_path / "seg.dcm"
    opened = open_series(folder)
    labels = image_from_array(inside(points_of(opened.grid)).astype(np.uint8), opened.grid)
    write_dicom_seg(labels, folder, path, [TUMOR])
    assert_valid(path)
    seg = hd.seg.segread(path)
    uids = [str(header.SOPInstanceUID) for header in opened.headers]
    masks = seg.get_pixels_by_source_instance(uids, ignore_spatial_locations=True)[..., 0]
    agreement = []
    for mask, header in zip(masks, opened.headers, strict=True):
        wanted = inside(points_of_slice(header))
        agreement.append(((mask > 0) & wanted).sum() * 2 / max(1, (mask > 0).sum() + wanted.sum()))
        if not wanted.any():
            assert mask.sum() <= 12
    middle = agreement[len(agreement) // 2 - 2 : len(agreement) // 2 + 2]
    # Each pixel is that of the nearest voxel, up to half a slice away.
    assert np.median(middle) > 0.9
    assert min(middle) > 0.7


class TestWhatIsLeftOut:
    def told(self, folder: Path) -> str:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            image = read_image(folder)
        assert image.GetSize() == GRID.size
        return " ".join(str(w.message) for w in caught)

    def test_copies_of_a_file(self, tmp_path: Path) -> None:
        folder = series(tmp_path / "dicom")
        path = sorted(folder.iterdir())[3]
        (folder / "zz-copy.dcm").write_bytes(path.read_bytes())
        assert "1 copy of slices left out" in self.told(folder)

    def test_localisers(self, tmp_path: Path) -> None:
        folder = series(tmp_path / "dicom")
        for n in (2, 7):
            header = pydicom.dcmread(sorted(folder.iterdir())[n])
            header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            header.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
            header.ImageOrientationPatient = ["0", "1", "0", "0", "0", "-1"]
            header.save_as(folder / f"loc{n}.dcm")
        assert "2 localisers left out" in self.told(folder)

    def test_a_few_images_of_another_orientation(self, tmp_path: Path) -> None:
        folder = series(tmp_path / "dicom")
        header = pydicom.dcmread(sorted(folder.iterdir())[2])
        header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        header.ImageOrientationPatient = ["0", "1", "0", "0", "0", "-1"]
        header.save_as(folder / "other.dcm")
        assert "1 image of another size or orientation left out." in self.told(folder)

    def test_phases_are_told_apart_and_left_to_people(self, tmp_path: Path) -> None:
        folder = series(tmp_path / "dicom")
        for path in sorted(folder.iterdir()):
            header = pydicom.dcmread(path)
            header.EchoTime = "10"
            header.save_as(path)
            header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            header.EchoTime = "80"
            header.save_as(folder / f"echo2-{path.name}")
        with pytest.raises(InputError) as caught:
            read_image(folder)
        assert caught.value.code == "dicom-duplicate-positions"
        assert "EchoTime: 10, 80" in caught.value.message or "80, 10" in caught.value.message


class TestChoosing:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        place = tmp_path / "all"
        place.mkdir()
        kinds = (("CT", "Thorax native"), ("CT", "Thorax contrast"), ("MR", "Brain T1"))
        for n, (modality, description) in enumerate(kinds):
            image = image_from_array(np.full(GRID.size[::-1], n, np.int16), GRID)
            made = tmp_path / f"s{n}"
            write_dicom_series(image, made, modality=modality, description=description)
            for path in made.iterdir():
                path.rename(place / f"{n}-{path.name}")
        return place

    @pytest.mark.parametrize(
        ("words", "value"), [("native", 0), ("THORAX contrast", 1), ("mr", 2), ("t1 brain", 2)]
    )
    def test_words_of_one_description_pick_it(self, folder: Path, words: str, value: int) -> None:
        assert sitk.GetArrayViewFromImage(read_image(folder, words)).max() == value

    @pytest.mark.parametrize(
        ("words", "code"),
        [("thorax", "several-series"), ("CT", "several-series"), ("liver", "series-not-found"),
         ("", "series-not-found"), (" ", "series-not-found")],
    )  # fmt: skip
    def test_others_do_not(self, folder: Path, words: str, code: str) -> None:
        with pytest.raises(InputError) as caught:
            read_image(folder, words)
        assert caught.value.code == code


class TestMultiframe:
    @pytest.fixture(params=["as-stacked", "reversed"])
    def enhanced(self, request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
        """Folder of slices, and folder of the same in one file."""
        slices, folder = series(tmp_path / "slices"), tmp_path / "enhanced"
        folder.mkdir()
        headers = [pydicom.dcmread(path) for path in sorted(slices.iterdir())]
        if request.param == "reversed":
            headers.reverse()
        for header in headers:
            header.RescaleType = "HU"
        made = hd.legacy.LegacyConvertedEnhancedCTImage(
            headers, generate_uid(), 2, generate_uid(), 1
        )
        made.save_as(folder / "one.dcm")
        return slices, folder

    def test_it_is_the_volume_of_its_slices(self, enhanced: tuple[Path, Path]) -> None:
        slices, folder = (read_image(path) for path in enhanced)
        assert Grid.of(folder).same_as(Grid.of(slices))
        assert folder.GetPixelID() == slices.GetPixelID()
        np.testing.assert_array_equal(
            sitk.GetArrayFromImage(folder), sitk.GetArrayFromImage(slices)
        )

    def test_a_segmentation_of_it(self, enhanced: tuple[Path, Path], tmp_path: Path) -> None:
        folder, path = enhanced[1], tmp_path / "seg.dcm"
        labels = image_from_array(inside(points_of(GRID)).astype(np.uint8), GRID)
        write_dicom_seg(labels, folder, path, [TUMOR])
        assert_valid(path)
        ((image, _),) = read_dicom_seg(path).layers()
        np.testing.assert_array_equal(
            sitk.GetArrayFromImage(on_scan(image, GRID)), sitk.GetArrayFromImage(labels)
        )
        (seen,), _ = read_with_dcmqi(path, tmp_path / "out", GRID)
        np.testing.assert_array_equal(seen, sitk.GetArrayFromImage(labels))

    def test_that_of_another_program(self, data_folder: Path, tmp_path: Path) -> None:
        for kind in ("slices", "frames"):
            (tmp_path / kind).mkdir()
        source = data_folder / "dicom_seg_dcmqi"
        for path in source.glob("24x38x3__image__*.dcm"):
            (tmp_path / "slices" / path.name).write_bytes(path.read_bytes())
        frames = source / "24x38x3__multiframe__mf.dcm"
        (tmp_path / "frames" / frames.name).write_bytes(frames.read_bytes())
        slices, whole = (read_image(tmp_path / kind) for kind in ("slices", "frames"))
        assert Grid.of(whole).same_as(Grid.of(slices))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(whole), sitk.GetArrayFromImage(slices))

    def test_a_cut_file_is_told_without_a_trace(
        self, enhanced: tuple[Path, Path], capfd: pytest.CaptureFixture[str]
    ) -> None:
        (path,) = enhanced[1].iterdir()
        path.write_bytes(path.read_bytes()[:-1300])
        with pytest.raises(InputError) as caught:
            read_image(enhanced[1])
        assert caught.value.code in ("dicom-unreadable", "dicom-frames")
        assert capfd.readouterr() == ("", "")

    def test_two_volumes_in_one_file_are_refused(self, tmp_path: Path) -> None:
        slices, folder = series(tmp_path / "slices"), tmp_path / "enhanced"
        folder.mkdir()
        headers = [pydicom.dcmread(path) for path in sorted(slices.iterdir())]
        for header in list(headers):
            twin = pydicom.dcmread(header.filename)
            twin.SOPInstanceUID = generate_uid()
            headers.append(twin)
        made = hd.legacy.LegacyConvertedEnhancedCTImage(
            headers, generate_uid(), 2, generate_uid(), 1
        )
        made.save_as(folder / "one.dcm")
        with pytest.raises(InputError) as caught:
            read_image(folder)
        assert caught.value.code in ("dicom-frames", "dicom-unreadable")


def with_gdcm(source: Path, target: Path, syntax: int) -> None:
    reader = gdcm.ImageReader()
    reader.SetFileName(str(source))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(target))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()


@pytest.mark.parametrize(
    "name",
    [
        "JPEGLosslessProcess14_1",
        "JPEGLSLossless",
        "JPEG2000Lossless",
        "RLELossless",
        "ExplicitVRBigEndian",
    ],
)
def test_pixels_in_every_encoding(tmp_path: Path, name: str) -> None:
    plain, folder = series(tmp_path / "plain"), tmp_path / "compressed"
    folder.mkdir()
    for path in plain.iterdir():
        with_gdcm(path, folder / path.name, getattr(gdcm.TransferSyntax, name))
    syntax = pydicom.dcmread(next(folder.iterdir())).file_meta.TransferSyntaxUID
    assert syntax != pydicom.uid.ExplicitVRLittleEndian
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(read_image(folder)), sitk.GetArrayFromImage(read_image(plain))
    )


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_headers_in_other_encodings(tmp_path: Path, syntax: pydicom.uid.UID) -> None:
    plain, folder = series(tmp_path / "plain"), tmp_path / "other"
    folder.mkdir()
    for path in plain.iterdir():
        header = pydicom.dcmread(path)
        header.file_meta.TransferSyntaxUID = syntax
        header.save_as(folder / path.name, implicit_vr=syntax.is_implicit_VR)
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(read_image(folder)), sitk.GetArrayFromImage(read_image(plain))
    )


@pytest.mark.parametrize(("bits", "signed"), [(12, 0), (12, 1), (16, 0), (8, 0)])
def test_unsigned_and_short_pixels(tmp_path: Path, bits: int, signed: int) -> None:
    folder, top = tmp_path / "dicom", 2**bits - 1
    wanted = []
    empty = image_from_array(np.zeros((4, 5, 6), np.int16), GRID_OF_4)
    for path in write_dicom_series(empty, folder):
        header = pydicom.dcmread(path)
        stored = np.random.default_rng(len(wanted)).integers(0, top + 1, (5, 6))
        stored[0, 0], stored[0, 1] = 0, top
        stored -= (top + 1) // 2 if signed else 0
        header.BitsAllocated = 8 if bits == 8 else 16
        header.BitsStored, header.HighBit, header.PixelRepresentation = bits, bits - 1, signed
        masked = stored & top if bits < 16 else stored
        header.PixelData = masked.astype(np.uint8 if bits == 8 else "<u2").tobytes()
        header.RescaleIntercept, header.RescaleSlope = "-1024", "1"
        header.save_as(path)
        wanted.append(stored - 1024)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_image(folder)), np.stack(wanted))


def test_values_from_a_table(tmp_path: Path) -> None:
    folder = tmp_path / "dicom"
    values = np.random.default_rng(0).integers(0, 200, (4, 5, 6)).astype(np.int16)
    for path in write_dicom_series(image_from_array(values, GRID_OF_4), folder):
        header = pydicom.dcmread(path)
        del header.RescaleSlope, header.RescaleIntercept
        table = Dataset()
        table.add_new("LUTDescriptor", "US", [256, 0, 16])
        table.add_new("LUTData", "US", [3 * n + 7 for n in range(256)])
        table.ModalityLUTType = "US"
        header.PixelRepresentation = 0
        header.ModalityLUTSequence = [table]
        header.save_as(path)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_image(folder)), 3 * values + 7)


def test_decisions_stand_in_report_and_on_the_screen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = series(tmp_path / "dicom", lambda n, h: n != 5)
    session = Session.open(folder)
    assert session.notes == open_series(folder).notes
    assert len(session.notes) == 1
    output = str(tmp_path / "out")
    assert main(["segment", str(folder), "-m", "tumor", "-o", output, "--device", "cpu"]) == 0
    assert "note: 1 slice is missing" in capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert session.notes[0] in report["notes"]


def test_reading_never_changes_a_series(tmp_path: Path) -> None:
    folder = series(tmp_path / "dicom", IRREGULAR["tilted"][0])
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.warns(UserWarning, match="Tilted"):
        read_image(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


class TestIndex:
    def test_every_series_and_what_becomes_of_it(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        root = tmp_path / "disc"
        (root / "a").mkdir(parents=True)
        series(root / "a" / "gap", lambda n, h: n != 5)
        series(root / "plain")
        series(root / "one", lambda n, h: n == 3)
        (root / "notes.txt").write_text("hello")
        (root / "empty").mkdir()
        assert main(["series", str(root), "--json"]) == 0
        found = {Path(one["folder"]).name: one for one in json.loads(capsys.readouterr().out)}
        assert found.keys() == {"gap", "plain", "one"}
        assert found["plain"]["size"] == list(GRID.size)
        assert (found["plain"]["notes"], found["plain"]["problem"]) == ([], "")
        assert "1 slice is missing" in found["gap"]["notes"][0]
        assert "one slice only" in found["one"]["problem"]
        assert main(["series", str(root), "--modality", "mr"]) == 0
        assert "CT" not in capsys.readouterr().out

    def test_a_folder_without_any_is_told(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for path, code in ((tmp_path, "no-dicom"), (tmp_path / "none", "path-not-found")):
            assert main(["series", str(path)]) == 2
            assert code in capsys.readouterr().err
