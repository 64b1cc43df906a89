"""Every reader of the engine with good files for it, tiny and made here."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from imbalanceseg.geometry import Grid, image_from_array

GRID = Grid((7, 6, 5), (0.8, 0.9, 2.0), (-3.0, 4.0, 5.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
DICOM_GRID = Grid((9, 8, 4), (0.8, 0.9, 2.0), (-3.0, 4.0, 5.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))


@dataclass(frozen=True)
class Reader:
    """What is tried.

    Attributes:
        suffix: of the file.
        seeds: makes good contents in a folder.
        read: reads a file; raises errors that are told.
    """

    suffix: str
    seeds: Callable[[Path], list[bytes]]
    read: Callable[[Path], object]


def _images(suffix: str, *, compress: bool = False) -> Callable[[Path], list[bytes]]:
    def make(folder: Path) -> list[bytes]:
        draw = np.random.default_rng(0)
        made = []
        kinds = (np.int16, np.uint8, np.float32)
        for number, dtype in enumerate(kinds):
            values = draw.integers(0, 100, GRID.size[::-1]).astype(dtype)
            path = folder / f"seed{number}{suffix}"
            sitk.WriteImage(image_from_array(values, GRID), str(path), compress)
            made.append(path.read_bytes())
        volumes = [sitk.GetImageFromArray(np.zeros((2, 3, 4, 5), np.int16), isVector=False)]
        if suffix != ".nrrd":
            volumes.append(sitk.GetImageFromArray(np.zeros((3, 4, 5, 3), np.uint8), isVector=True))
        for number, image in enumerate(volumes):
            path = folder / f"other{number}{suffix}"
            sitk.WriteImage(image, str(path), compress)
            made.append(path.read_bytes())
        return made

    return make


def _read_image(path: Path) -> object:
    from imbalanceseg.io import read_image

    return sitk.GetArrayViewFromImage(read_image(path)).sum()


def _slices(folder: Path) -> list[bytes]:
    from imbalanceseg.dicom.series import write_dicom_series

    values = np.random.default_rng(0).integers(-1000, 400, DICOM_GRID.size[::-1]).astype(np.int16)
    image = image_from_array(values, DICOM_GRID)
    return [p.read_bytes() for p in write_dicom_series(image, folder / "series", seed="campaign")]


def _read_series(path: Path) -> object:
    """The slice among good ones of its series."""
    place = path.parent / "series"
    if not place.is_dir():
        place.mkdir()
        (path.parent / "made").mkdir()
        seeds = _slices(path.parent / "made")
        for number, content in enumerate(seeds[1:]):
            (place / f"good{number}.dcm").write_bytes(content)
    (place / "mutated.dcm").write_bytes(path.read_bytes())
    return _read_image(place)


def _frames(folder: Path) -> list[bytes]:
    import highdicom as hd
    import pydicom
    from pydicom.uid import generate_uid

    from imbalanceseg.dicom.series import write_dicom_series

    image = image_from_array(np.ones(DICOM_GRID.size[::-1], np.int16), DICOM_GRID)
    headers = [pydicom.dcmread(p) for p in write_dicom_series(image, folder / "s", seed="frames")]
    for header in headers:
        header.RescaleType = "HU"
    made = hd.legacy.LegacyConvertedEnhancedCTImage(headers, generate_uid(), 2, generate_uid(), 1)
    made.save_as(folder / "frames.dcm")
    return [(folder / "frames.dcm").read_bytes()]


def _read_frames(path: Path) -> object:
    place = path.parent / "frames"
    place.mkdir(exist_ok=True)
    (place / "one.dcm").write_bytes(path.read_bytes())
    return _read_image(place)


def _segmentations(folder: Path) -> list[bytes]:
    from imbalanceseg.dicom.seg import write_dicom_seg
    from imbalanceseg.dicom.series import write_dicom_series
    from imbalanceseg.labels import LESION

    values = np.zeros(DICOM_GRID.size[::-1], np.uint8)
    write_dicom_series(
        image_from_array(values.astype(np.int16), DICOM_GRID), folder / "s", seed="s"
    )
    values[1:3, 2:5, 2:6] = 1
    labels = image_from_array(values, DICOM_GRID)
    made = []
    for kind in ("binary", "labelmap"):
        write_dicom_seg(labels, folder / "s", folder / f"{kind}.dcm", [LESION], kind=kind)
        made.append((folder / f"{kind}.dcm").read_bytes())
    return made


def _read_segmentation(path: Path) -> object:
    from imbalanceseg.dicom.seg_reading import read_dicom_seg

    return read_dicom_seg(path).layers()


def _annotations(folder: Path) -> list[bytes]:
    from imbalanceseg.annotation.annotation import Annotation, ConfirmedSlice
    from imbalanceseg.annotation.files import save_annotation

    values = np.full(GRID.size[::-1], 255, np.uint8)
    values[2] = 0
    values[2, 2:4, 2:5] = 1
    confirmed = [ConfirmedSlice(2, 2)]
    annotation = Annotation.from_labels(image_from_array(values, GRID), confirmed, [1])
    save_annotation(annotation, folder / "a.nrrd")
    return [(folder / "a.nrrd").read_bytes()]


def _read_annotation(path: Path) -> object:
    from imbalanceseg.annotation.files import load_annotation

    return load_annotation(path)


def _bundle(name: str) -> Callable[[Path], list[bytes]]:
    def make(folder: Path) -> list[bytes]:
        from imbalanceseg.models.bundle import load_model

        path = load_model("tumor").path
        return [(path / name).read_bytes()]

    return make


def _with(name: str, *, weights: bool) -> Callable[[Path], object]:
    def read(path: Path) -> object:
        import shutil

        from imbalanceseg.models.bundle import load_model, sha256_of

        place = path.parent / "bundle"
        if not place.is_dir():
            shutil.copytree(load_model("tumor").path, place)
        (place / name).write_bytes(path.read_bytes())
        if weights:
            # Whoever makes a bundle makes its checksum, too.
            metadata = place / "configs" / "metadata.json"
            card = json.loads(metadata.read_text())
            card["imbalanceseg"]["weights"][0]["sha256"] = sha256_of(place / name)
            metadata.write_text(json.dumps(card))
        loaded = load_model(place)
        return loaded.networks if weights else loaded.segments

    return read


def _recipes(folder: Path) -> list[bytes]:
    from imbalanceseg.training import recipe_files

    places = Path(recipe_files.__file__).parent / "recipes"
    return [path.read_bytes() for path in sorted(places.glob("*.yaml"))]


def _read_recipe(path: Path) -> object:
    from imbalanceseg.training.recipe_files import read_recipe

    return read_recipe(str(path))


def _json_files(folder: Path) -> list[bytes]:
    cases = [{"image": "a.nii.gz", "label": "b.nii.gz", "fold": 1}, {"image": ["c.nii", "d.nii"]}]
    labels = {"background": 0, "a": 1, "ignore": 7}
    made = {"name": "x", "channel_names": {"0": "CT"}, "labels": labels, "training": cases}
    return [json.dumps(made, indent=1).encode(), json.dumps(made | {"validation": cases}).encode()]


def _read_datalist(path: Path) -> object:
    from imbalanceseg.planning.dataset import open_dataset

    return open_dataset(path)


def _tables(folder: Path) -> list[bytes]:
    return [b"case,a,b\nx,1,0\ny,0,0\n", "\ufeffcase,a,b\r\nü,1,1\r\n".encode()]


def _read_table(path: Path) -> object:
    from imbalanceseg.planning.image_labels import read_image_labels

    return read_image_labels(path, {0: "background", 1: "a", 2: "b"})


def _segments(folder: Path) -> list[bytes]:
    code = {"CodeValue": "1", "CodingSchemeDesignator": "SCT", "CodeMeaning": "x"}
    item = {
        "labelID": 1,
        "SegmentLabel": "a",
        "SegmentedPropertyCategoryCodeSequence": code,
        "SegmentedPropertyTypeCodeSequence": code,
        "recommendedDisplayRGBValue": [1, 2, 3],
    }
    return [json.dumps({"segmentAttributes": [[item], [item | {"labelID": 2}]]}, indent=1).encode()]


def _read_segments(path: Path) -> object:
    from imbalanceseg.dicom.segments_file import read_segments_file

    return read_segments_file(path)


def _streams(folder: Path) -> list[bytes]:
    return _images(".nrrd")(folder)[:3]


def _read_stream(path: Path) -> object:
    from imbalanceseg.nrrd_stream import parse_header

    return parse_header(path.read_bytes())


METADATA, WEIGHTS = "configs/metadata.json", "models/model.safetensors"

READERS: dict[str, Reader] = {
    "nifti": Reader(".nii", _images(".nii"), _read_image),
    "nifti-gz": Reader(".nii.gz", _images(".nii.gz"), _read_image),
    "nrrd": Reader(".nrrd", _images(".nrrd"), _read_image),
    "nrrd-gz": Reader(".nrrd", _images(".nrrd", compress=True), _read_image),
    "mha": Reader(".mha", _images(".mha"), _read_image),
    "dicom": Reader(".dcm", _slices, _read_series),
    "dicom-frames": Reader(".dcm", _frames, _read_frames),
    "dicom-seg": Reader(".dcm", _segmentations, _read_segmentation),
    "annotation": Reader(".nrrd", _annotations, _read_annotation),
    "card": Reader(".json", _bundle(METADATA), _with(METADATA, weights=False)),
    "weights": Reader(".safetensors", _bundle(WEIGHTS), _with(WEIGHTS, weights=True)),
    "recipe": Reader(".yaml", _recipes, _read_recipe),
    "datalist": Reader(".json", _json_files, _read_datalist),
    "image-labels": Reader(".csv", _tables, _read_table),
    "segments": Reader(".json", _segments, _read_segments),
    "stream": Reader(".nrrd", _streams, _read_stream),
}
