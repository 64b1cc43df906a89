"""Phantoms that the Sample Data module offers; they come with the module, not from the network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "Resources" / "SampleData"
_CATEGORY = "ImbalanceSeg"


@dataclass(frozen=True)
class Phantom:
    """One phantom: a scan of nobody, made by ``Resources/make_sample_data.py``.

    Attributes:
        stem: of its files, an image and a thumbnail.
        name: of the sample, for people and scripts, and of the volume that it is loaded as.
        sha256: of the image file.
    """

    stem: str
    name: str
    sha256: str

    @property
    def image(self) -> Path:
        """The image file."""
        return FOLDER / f"{self.stem}.nrrd"

    @property
    def thumbnail(self) -> Path:
        """The picture of it."""
        return FOLDER / f"{self.stem}.png"


def phantoms() -> tuple[Phantom, ...]:
    """All that are shipped."""
    return (
        Phantom(
            "airway_phantom",
            "AirwayPhantom",
            "0769c67c82c921ce3291d8894abdda6810c3bb3b88d3b254676832628a1261f4",
        ),
        Phantom(
            "tumor_phantom",
            "TumorPhantom",
            "97e6ee40600c390bd5f3d74bf54231ba85ebc003d08b524b268e1d96c062a706",
        ),
        Phantom(
            "lesion_phantom",
            "LesionPhantom",
            "b99fedd2349644252b8cd81a589cca87132f23789bca420e5cf6f8a5ee6fb281",
        ),
    )


def registerSampleData() -> None:
    """Offer the phantoms in the Sample Data module; to be called when Slicer has started."""
    import SampleData

    for phantom in phantoms():
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            category=_CATEGORY,
            sampleName=phantom.name,
            # The cache is shared by all modules, so the name says whose file it is.
            fileNames=f"ImbalanceSeg_{phantom.image.name}",
            uris=phantom.image.as_uri(),
            checksums=f"SHA256:{phantom.sha256}",
            nodeNames=phantom.name,
            thumbnailFileName=str(phantom.thumbnail),
            loadFileTypes="VolumeFile",
        )
