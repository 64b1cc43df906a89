"""The cases of a folder: image files, the channels of one case, and DICOM series."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from imbalanceseg.cohort_table import TABLE_FILE
from imbalanceseg.dicom_series import SeriesInfo, holds_image, list_series
from imbalanceseg.errors import InputError
from imbalanceseg.privacy import case_title
from imbalanceseg.progress import ProgressCallback, ProgressEvent, ignore_progress

if TYPE_CHECKING:
    from imbalanceseg.models.bundle import Model
    from imbalanceseg.models.card import ModelCard

VOLUME_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
PICTURE_ENDINGS = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")
_HEADER_ENDINGS = (".nhdr", ".mhd")
_SHORTEST_UID = 8


@dataclass(frozen=True)
class Case:
    """One case of a cohort.

    Attributes:
        name: unique in the cohort whatever the case of its letters, and the name of its results'
            folder.
        input: where it lies in the folder that was searched, for people.
        source: image file, or folder of its DICOM series.
        channels: further image files, for a model of several channels.
        series_uid: which series of ``source``, where there are several.
        files: what it is read from; a change of these makes it another input.
    """

    name: str
    input: str
    source: Path
    channels: tuple[Path, ...] = ()
    series_uid: str | None = None
    files: tuple[Path, ...] = ()

    def fingerprint(self) -> str:
        """Digits that change when a file of the case gets another size or modification time."""
        digest = hashlib.sha256()
        for path in self.files or (self.source, *self.channels):
            try:
                state = path.stat()
                known = f"{state.st_size} {state.st_mtime_ns}"
            except OSError:
                known = "missing"
            digest.update(f"{path.name!r} {known}\n".encode())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class _Found:
    """A case and the names it may get, the shortest first."""

    names: tuple[str, ...]
    case: Case


def is_folder_of_cases(path: str | os.PathLike[str]) -> bool:
    """Whether ``path`` is a folder, and not one that directly holds the images of a DICOM series.

    Raises:
        InputError: the folder cannot be opened.
    """
    return Path(path).is_dir() and not holds_image(path)


def find_cases(
    folder: str | os.PathLike[str],
    model: Model,
    output: str | os.PathLike[str] | None = None,
    progress: ProgressCallback | None = None,
) -> list[Case]:
    """The cases of a folder and of the folders directly in it.

    A case is an image file; or, for a model of several channels, the files ``CASE_0000``,
    ``CASE_0001``, ... of nnU-Net; or a DICOM series in a folder of the folder. Hidden files,
    folders that hold a result, and ``output`` are passed over. What cannot be read is a case
    too: its error is told when it is its turn.

    A case is named like its file without the ending, or like the folder of its series. Where
    several would have one name, the ending, the folder, or the first characters of the series UID
    tell them apart.

    Args:
        folder: what to search.
        model: says whether pictures are taken, and how many channels there are.
        output: folder of the results, which may lie in ``folder``.
        progress: receives events of stage ``"find"``, one for every folder that is looked into.

    Returns:
        The cases, sorted by name.

    Raises:
        InputError: ``no-cases``; ``output-is-input`` where the results would lie among the images;
            ``file-not-readable`` where the folder cannot be opened.
    """
    tell = progress or ignore_progress
    root = Path(folder)
    target = None if output is None else Path(output).resolve()
    if target == root.resolve():
        raise InputError(
            "output-is-input",
            f"The results would be written among the images of {root}.",
            "Choose another folder for them; it may lie inside that one.",
        )
    listed = _listed(root)
    found = _image_cases(listed, root, model.card)
    folders = [p for p in listed if p.is_dir() and p.resolve() != target and not _is_result(p)]
    for done, inner in enumerate(folders):
        tell(ProgressEvent("find", done, len(folders), case_title(printable_name(inner.name))))
        found += _cases_inside(inner, root, model.card)
    if folders:
        tell(ProgressEvent("find", len(folders), len(folders)))
    if not found:
        raise InputError(
            "no-cases",
            f"The folder {root} holds no image that could be segmented.",
            "Give the folder that holds the image files, or one folder for each DICOM series.",
        )
    reserved = {TABLE_FILE}
    if target == root.resolve().parent:
        reserved.add(root.resolve().name)
    return sorted(_named(found, reserved), key=lambda case: case.name.casefold())


def image_files(folder: Path, endings: Sequence[str] = VOLUME_ENDINGS) -> list[Path]:
    """Files directly in ``folder`` that have one of ``endings``, hidden ones left out, sorted."""
    return [path for path in _listed(folder) if _split(path, endings) and not path.is_dir()]


def printable_name(name: str) -> str:
    """A file name with what cannot be shown or written as UTF-8 replaced."""
    return "".join(c if c.isprintable() else "_" for c in name)


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise InputError(
            "file-not-readable",
            f"The folder {folder} cannot be opened ({(error.strerror or 'unknown').lower()}).",
            "Check that you may read the folder.",
        ) from error


def _is_result(folder: Path) -> bool:
    return (folder / "report.json").is_file() and (folder / "labels.nrrd").is_file()


def _cases_inside(folder: Path, root: Path, card: ModelCard) -> list[_Found]:
    """Series and images of a folder in the folder; one that cannot be opened is a case."""
    broken = _Found((folder.name,), Case("", _shown(folder, root), folder))
    try:
        images = _image_cases(_listed(folder), root, card)
    except InputError:
        return [broken]
    try:
        series = list_series(folder)
    except InputError as error:
        none = error.code in ("no-dicom", "folder-empty")
        unread_image = bool(images) and isinstance(error.__cause__, OSError)
        return images if none or unread_image else [broken, *images]
    return [*_series_cases(folder, root, series), *images]


def _series_cases(folder: Path, root: Path, series: Sequence[SeriesInfo]) -> list[_Found]:
    """The volumes among the series; where there is none, all of them, which will be refused."""
    chosen = [one for one in series if one.kind != "unplaced"] or list(series)
    shown = _shown(folder, root)
    if len(chosen) == 1:
        return [_Found((folder.name,), Case("", shown, folder, files=chosen[0].files))]
    uids = [one.uid for one in chosen]
    return [
        _Found(
            (f"{folder.name}-{re.sub(r'[^0-9A-Za-z.-]', '_', start) or 'no-uid'}",),
            Case("", f"{shown} {one.uid}", folder, series_uid=one.uid, files=one.files),
        )
        for one, start in zip(chosen, _shortened(uids), strict=True)
    ]


def _shortened(uids: Sequence[str]) -> list[str]:
    """The first characters of each, as many as tell all apart; none ends with a dot."""
    for length in range(_SHORTEST_UID, max(map(len, uids))):
        starts = [uid[:length] for uid in uids]
        if len(set(starts)) == len(uids) and not any(start.endswith(".") for start in starts):
            return starts
    return list(uids)


def _image_cases(listed: Sequence[Path], root: Path, card: ModelCard) -> list[_Found]:
    """Image files, those of several channels put together, broken links included."""
    endings = VOLUME_ENDINGS + (PICTURE_ENDINGS if card.spatial_dims == 2 else ())
    found: list[_Found] = []
    channels: dict[tuple[str, str], dict[int, Path]] = {}
    for path in listed:
        parts = _split(path, endings)
        if parts is None or path.is_dir():
            continue
        stem, ending = parts
        numbered = re.fullmatch(r"(.+)_(\d{4})", stem) if len(card.channels) > 1 else None
        if numbered:
            channels.setdefault((numbered[1], ending), {})[int(numbered[2])] = path
        else:
            found.append(_image_case((path,), stem, ending, root))
    for (stem, ending), files in channels.items():
        # A channel that is missing is named, so that it is told of when the case is read.
        folder = next(iter(files.values())).parent
        wanted = sorted({*files, *range(len(card.channels))})
        paths = (files.get(n, folder / f"{stem}_{n:04d}{ending}") for n in wanted)
        found.append(_image_case(tuple(paths), stem, ending, root))
    return found


def _image_case(paths: tuple[Path, ...], stem: str, ending: str, root: Path) -> _Found:
    folder = paths[0].parent
    names: tuple[str, ...] = (stem, stem + ending)
    if folder != root:
        names = (stem, f"{folder.name}-{stem}", f"{folder.name}-{stem}{ending}")
    files = [file for path in paths for file in (path, *_data_files(path))]
    case = Case("", _shown(paths[0], root), paths[0], paths[1:], files=tuple(files))
    return _Found(names, case)


def _data_files(path: Path) -> list[Path]:
    """Where a header that keeps its voxels in a file of its own may keep them."""
    parts = _split(path, _HEADER_ENDINGS)
    if parts is None:
        return []
    return [p for p in _listed(path.parent) if p.name.startswith(f"{parts[0]}.") and p != path]


def _split(path: Path, endings: Sequence[str]) -> tuple[str, str] | None:
    """File name without the first of ``endings`` that it has, and that ending as it is written."""
    for ending in endings:
        if path.name.lower().endswith(ending) and len(path.name) > len(ending):
            return path.name[: -len(ending)], path.name[-len(ending) :]
    return None


def _shown(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _named(found: Sequence[_Found], reserved: set[str]) -> list[Case]:
    """Every case with the first of its names that no other has."""
    level = [0] * len(found)
    while True:
        names = [printable_name(one.names[n]) for one, n in zip(found, level, strict=True)]
        count = Counter(name.casefold() for name in (*names, *reserved))
        clashing = [
            number
            for number, name in enumerate(names)
            if count[name.casefold()] > 1 and level[number] + 1 < len(found[number].names)
        ]
        if not clashing:
            break
        for number in clashing:
            level[number] += 1
    used = {name.casefold() for name in reserved}
    cases = []
    for one, name in zip(found, names, strict=True):
        unique, number = name, 2
        while unique.casefold() in used:
            unique, number = f"{name}-{number}", number + 1
        used.add(unique.casefold())
        where = printable_name(one.case.input)
        cases.append(replace(one.case, name=case_title(unique), input=case_title(where)))
    return cases
