"""The phantoms that are shipped are what the code says, small, and can be made again."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from urllib.request import url2pathname

import numpy as np
import pytest
import SimpleITK as sitk

from ImbalanceSegLib.Logic import SampleData

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=SampleData.phantoms(), ids=lambda phantom: phantom.stem)
def phantom(request):
    return request.param


def test_checksumsAgree(phantom):
    assert hashlib.sha256(phantom.image.read_bytes()).hexdigest() == phantom.sha256


def test_imagesAreReadable(phantom):
    image = sitk.ReadImage(str(phantom.image))
    assert image.GetDimension() == 3
    assert image.GetPixelID() == sitk.sitkInt16
    assert sitk.GetArrayViewFromImage(image).std() > 10


def test_thumbnailsHaveTheSizeThatSlicerShows(phantom):
    from PIL import Image

    with Image.open(phantom.thumbnail) as picture:
        assert (picture.format, picture.size) == ("PNG", (260, 280))


def test_allOfThemAreSmall():
    assert sum(path.stat().st_size for path in SampleData.FOLDER.iterdir()) < 3e6


def test_nobodyTakesThemForPatients(phantom):
    assert phantom.name.endswith("Phantom")


def test_sampleDataModuleGetsThem(monkeypatch):
    seen = []

    class SampleDataLogic:
        @staticmethod
        def registerCustomSampleDataSource(
            category,
            sampleName,
            uris,
            fileNames,
            nodeNames,
            thumbnailFileName,
            loadFileTypes,
            checksums,
        ):
            seen.append((category, sampleName, uris, fileNames, checksums, thumbnailFileName))

    module = ModuleType("SampleData")
    module.SampleDataLogic = SampleDataLogic
    monkeypatch.setitem(sys.modules, "SampleData", module)
    SampleData.registerSampleData()
    assert [one[1] for one in seen] == [one.name for one in SampleData.phantoms()]
    for category, _name, uri, fileName, checksum, picture in seen:
        assert category == "ImbalanceSeg"
        path = Path(url2pathname(uri.removeprefix("file://")))
        assert fileName == f"ImbalanceSeg_{path.name}"
        assert checksum == f"SHA256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
        assert Path(picture).is_file()


@pytest.mark.slow
def test_phantomsCanBeMadeAgain(phantom):
    script = ROOT / "Resources" / "make_sample_data.py"
    spec = importlib.util.spec_from_file_location("make_sample_data", script)
    maker = importlib.util.module_from_spec(spec)
    # Its dataclass asks for the module by name.
    sys.modules[spec.name] = maker
    spec.loader.exec_module(maker)
    sample = maker.SAMPLES[phantom.stem.partition("_")[0]]
    made, _labels = maker.sample_image(sample)
    shipped = sitk.ReadImage(str(phantom.image))
    assert made.GetSpacing() == pytest.approx(shipped.GetSpacing())
    assert made.GetOrigin() == pytest.approx(shipped.GetOrigin())
    new, old = (sitk.GetArrayFromImage(image).astype(int) for image in (made, shipped))
    # Other processors round some voxels to the grey value beside.
    assert np.abs(new - old).max() <= sample.step
    assert (new == old).mean() > 0.999
