"""Label maps slice by slice: taken in as annotations, and told in the form that a client wants."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from imbalanceseg.annotation.files import (
    CLASSES_KEY,
    CONFIRMED_KEY,
    FORMAT_VERSION,
    VERSION_KEY,
)
from imbalanceseg.errors import InputError
from imbalanceseg.labels import BACKGROUND, UNLABELLED
from imbalanceseg.nrrd_stream import LARGEST_HEADER, ParsedHeader, VolumeHeader, parse_header
from imbalanceseg.server.monai_label.nifti import nifti_header

if TYPE_CHECKING:
    from numpy.typing import NDArray

_AXIS_OF_SLICES = 2
_SEGMENTATION = ".seg.nrrd"
_EXTENSIONS = (".nii.gz", ".nii", ".nrrd", _SEGMENTATION)
_PIXEL_TYPES = ("uint8", "uint16", "int16", "int32", "uint32", "float32")
_FAST = 1


@dataclass(frozen=True)
class LabelForm:
    """How a client wants a label map.

    Attributes:
        extension: of the file, which says its format; ``.seg.nrrd`` is as the engine has it, with
            the names and colours of the segments.
        pixel_type: of the voxels.
        compress: whether a NRRD file is compressed; NIfTI is as the extension says.
    """

    extension: str = ".nii.gz"
    pixel_type: str = "uint8"
    compress: bool = True

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> LabelForm:
        """From ``result_extension``, ``result_dtype`` and ``result_compress``.

        Raises:
            InputError: ``result-form``.
        """
        form = cls(
            params.get("result_extension") or cls.extension,
            params.get("result_dtype") or cls.pixel_type,
            params.get("result_compress") is not False,
        )
        if form.extension not in _EXTENSIONS or form.pixel_type not in _PIXEL_TYPES:
            raise InputError(
                "result-form",
                "The labels cannot be told in the form that is asked for.",
                f"Ask for {', '.join(_EXTENSIONS)} of {', '.join(_PIXEL_TYPES)}.",
            )
        return form

    def write(self, source: Path, target: IO[bytes], only: int | None = None) -> None:
        """Write a label map of the engine in this form; what is unlabelled becomes background.

        Args:
            source: NRRD file of this server, uint8.
            target: open file.
            only: a label that becomes 1, while all others become background.
        """
        if self.extension == _SEGMENTATION and only is None:
            target.write(source.read_bytes())
            return
        parsed, planes = read_slices(source)
        header = replace(parsed.volume, pixel_type=self.pixel_type)
        is_nrrd = self.extension.endswith(".nrrd")
        if is_nrrd:
            target.write(header.text("gzip" if self.compress else "raw"))
        with ExitStack() as stack:
            into: IO[bytes] | gzip.GzipFile = target
            if self.extension == ".nii.gz" or (is_nrrd and self.compress):
                into = stack.enter_context(gzip.GzipFile("", "wb", _FAST, target, 0))
            if not is_nrrd:
                into.write(nifti_header(header))
            for plane in planes:
                shown = np.where(plane == UNLABELLED, BACKGROUND, plane)
                if only is not None:
                    shown = shown == only
                into.write(shown.astype(np.dtype(self.pixel_type).newbyteorder("<")).tobytes())


def read_slices(path: Path) -> tuple[ParsedHeader, Iterator[NDArray[Any]]]:
    """The header, and the slices ``[y, x]`` along k, of a volume that this server has written."""
    with path.open("rb") as stream:
        parsed = parse_header(stream.read(LARGEST_HEADER))
    assert parsed is not None
    return parsed, _slices(path, parsed)


def annotation_from(saved: Path) -> Iterator[bytes]:
    """A label map that a person has saved, as an annotation: the bytes of its NRRD file.

    Slices in which something is labelled are finished; in all others nothing is known. A map that
    has voxels 255 says itself what is unlabelled, and is taken as it is.

    Args:
        saved: volume of this server, of any pixel type.

    Raises:
        InputError: ``annotation-not-labels``.
    """
    _, planes = read_slices(saved)
    finished: list[int] = []
    says_itself = False
    for k, plane in enumerate(planes):
        labels = _checked(plane)
        says_itself = says_itself or bool((labels == UNLABELLED).any())
        if labels.any():
            finished.append(k)
    if says_itself:
        finished = []
    confirmed = [[_AXIS_OF_SLICES, k] for k in finished]
    fields = {VERSION_KEY: str(FORMAT_VERSION), CONFIRMED_KEY: json.dumps(confirmed)}
    parsed, planes = read_slices(saved)
    known = set(finished)
    labelled = (
        _checked(plane) if says_itself or k in known else np.full(plane.shape, UNLABELLED, np.uint8)
        for k, plane in enumerate(planes)
    )
    yield from _nrrd(parsed.volume, fields, labelled)


def recoded(annotation: Path, values: Mapping[int, int], classes: Iterable[int]) -> Iterator[bytes]:
    """An annotation with other label values: the bytes of its NRRD file.

    Args:
        annotation: of this server, uint8.
        values: new value of each old one; others become background.
        classes: that were looked for, by their new values.
    """
    table = np.zeros(256, np.uint8)
    table[UNLABELLED] = UNLABELLED
    for old, new in values.items():
        table[old] = new
    parsed, planes = read_slices(annotation)
    fields = {**parsed.fields, CLASSES_KEY: json.dumps(sorted(classes))}
    yield from _nrrd(parsed.volume, fields, (table[plane] for plane in planes))


def centroids(labels: Path, names: Mapping[str, int]) -> dict[str, list[float]]:
    """Label and centre (i, j, k) in voxels of every class that occurs.

    Args:
        labels: NRRD file of this server, uint8.
        names: of the classes, with their labels.
    """
    sums = np.zeros((256, 4))
    for k, plane in enumerate(read_slices(labels)[1]):
        j, i = np.nonzero(plane)
        found = plane[j, i]
        for column, weights in enumerate((np.ones(len(i)), i, j, np.full(len(i), k))):
            sums[:, column] += np.bincount(found, weights, 256)
    return {
        name: [label, *(round(float(x), 2) for x in sums[label, 1:] / sums[label, 0])]
        for name, label in names.items()
        if sums[label, 0]
    }


def _slices(path: Path, parsed: ParsedHeader) -> Iterator[NDArray[Any]]:
    x, y, z = parsed.volume.size
    pixel_type = np.dtype(parsed.volume.pixel_type).newbyteorder("<")
    with path.open("rb") as stream:
        stream.seek(parsed.length)
        voxels: IO[bytes] | gzip.GzipFile = stream
        if parsed.encoding == "gzip":
            voxels = gzip.GzipFile(fileobj=stream)
        for _ in range(z):
            yield np.frombuffer(voxels.read(x * y * pixel_type.itemsize), pixel_type).reshape(y, x)


def _nrrd(
    volume: VolumeHeader, fields: Mapping[str, str], planes: Iterable[NDArray[np.uint8]]
) -> Iterator[bytes]:
    yield replace(volume, pixel_type="uint8").text("gzip", fields)
    packer = zlib.compressobj(_FAST, wbits=31)
    for plane in planes:
        yield packer.compress(plane.tobytes())
    yield packer.flush()


def _checked(plane: NDArray[Any]) -> NDArray[np.uint8]:
    labels = plane.astype(np.uint8)
    if (labels == plane).all():
        return labels
    raise InputError(
        "annotation-not-labels",
        "The label map holds values that are not whole numbers from 0 to 255.",
        "Give 0 for background, 1 and up for classes and 255 for what is not labelled.",
    )
