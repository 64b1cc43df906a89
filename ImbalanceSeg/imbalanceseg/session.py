"""One patient being worked on: the scan, where it came from, and its result."""

from __future__ import annotations

import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import SimpleITK as sitk

from imbalanceseg.errors import InputError, OutputError
from imbalanceseg.io import atomic_path, read_image, write_image, write_json
from imbalanceseg.privacy import case_title
from imbalanceseg.progress import ProgressCallback, ProgressEvent, ignore_progress

if TYPE_CHECKING:
    from imbalanceseg.annotation.annotation import Annotation
    from imbalanceseg.annotation.suggest import SliceSuggestion
    from imbalanceseg.inference.segmentation import Segmentation
    from imbalanceseg.models.bundle import Model
    from imbalanceseg.training.clicks import Clicked, Clicks
    from imbalanceseg.training.finetune import FineTuned

RESULT_FILES = (
    "labels.nrrd",
    "hardness.nrrd",
    "attention.nrrd",
    "segmentation.dcm",
    "overview.png",
    "report.json",
)
_MOST_UNDONE = 20
_IMAGE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm")


@dataclass(frozen=True)
class _Earlier:
    """What a session held before a step; the annotation only where the step changed it."""

    result: Segmentation | None
    model: Model | None
    annotation: Annotation | None


class Session:
    """A scan and, once :meth:`segment` has run, its segmentation.

    Attributes:
        image: the scan; a 2D image is a volume of one slice.
        channels: further images on its grid, for models of several channels.
        name: the last part of the path it was read from, without its endings, or its pseudonym;
            see :mod:`imbalanceseg.privacy`.
        source: the file it was read from, or the folder of its DICOM series, or None.
        series_uid: which series of that folder, where it was said, or None.
        model: the model that made the result, or None.
        result: labels and maps, or None.
        annotation: what was painted and clicked; empty at first.
        notes: what was decided while reading it, sentences for people.
        seconds: wall time of reading and writing.
    """

    def __init__(
        self,
        image: sitk.Image,
        name: str = "scan",
        source: Path | None = None,
        series_uid: str | None = None,
        channels: Sequence[sitk.Image] = (),
    ) -> None:
        self.image = image
        self.channels = tuple(channels)
        self.name = name
        self.source = source
        self.series_uid = series_uid
        self.model: Model | None = None
        self.result: Segmentation | None = None
        self._annotation: Annotation | None = None
        self._earlier: list[_Earlier] = []
        self._clicks: Clicks | None = None
        self.notes: tuple[str, ...] = ()
        self.seconds: dict[str, float] = {}
        self._quotable = False

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        series_uid: str | None = None,
        channels: Sequence[str | os.PathLike[str]] = (),
        model: Model | None = None,
    ) -> Session:
        """Read a scan and check that it can be worked on.

        Args:
            path: an image file, a folder that holds a DICOM series, or one file of a series.
            series_uid: which series of the folder, where there are several.
            channels: further images, for a model of several channels.
            model: what the scan is for: its card says whether 2D images are taken, and how many
                images there must be.

        Raises:
            InputError: the scan cannot be read or cannot be used.
            GeometryError: its grid is not usable.
        """
        from pydicom.misc import is_dicom

        from imbalanceseg.dicom_series import SeriesDecision, series_uid_of
        from imbalanceseg.preprocessing.scan import check_scan

        start = time.perf_counter()
        source = Path(path)
        flat = model is not None and model.card.spatial_dims == 2
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", SeriesDecision)
            images = [_read(source, series_uid, flat)]
            images += [_read(Path(c), None, flat) for c in channels]
        if model is None:
            for image in images:
                check_scan(image)
        else:
            from imbalanceseg.inference.channels import input_channels

            images = input_channels(images, model.card, model.name)
        name = case_title(case_name(source))
        if source.is_file() and is_dicom(source):
            series_uid = series_uid or series_uid_of(source)
            source = source.parent
        session = cls(images[0], name, source, series_uid, images[1:])
        decisions = [str(w.message) for w in told if issubclass(w.category, SeriesDecision)]
        session.notes = tuple(dict.fromkeys(decisions))
        session.seconds["read"] = time.perf_counter() - start
        return session

    def segment(
        self,
        model: Model,
        device: str = "auto",
        maps: Sequence[str] = ("hardness",),
        progress: ProgressCallback | None = None,
        **settings: Any,
    ) -> Segmentation:
        """Segment the scan and keep the result; arguments and errors of ``segment``."""
        from imbalanceseg.inference.segment import segment

        images = [self.image, *self.channels]
        result = segment(
            images, model, device=device, maps=tuple(maps), progress=progress, **settings
        )
        self.result = replace(result, notes=(*self.notes, *result.notes))
        self.model = model
        self._clicks = None
        return self.result

    @property
    def annotation(self) -> Annotation:
        """What was painted and clicked."""
        from imbalanceseg.annotation.annotation import Annotation

        if self._annotation is None:
            self._annotation = Annotation.of(self.image)
        return self._annotation

    @annotation.setter
    def annotation(self, annotation: Annotation) -> None:
        from imbalanceseg.annotation.annotation import require_annotation_of

        require_annotation_of(self.image, annotation)
        self._annotation = annotation

    def finetune(
        self,
        model: Model | None = None,
        device: str = "auto",
        progress: ProgressCallback | None = None,
        **settings: Any,
    ) -> FineTuned:
        """Adapt a model to the annotation; its segmentation and itself become the session's.

        Args:
            model: what to start from; None begins from the painted slices alone. Give the model
                that was shipped, not an earlier child: the annotation holds all that child knew.
            device: as :meth:`segment`.
            progress: receives stage ``"finetune"`` with ``loss`` and ``held_out_dice``.
            settings: further arguments of :func:`~imbalanceseg.training.finetune.finetune`.

        Raises:
            InputError, GeometryError, ModelError: as there. The result stays what it was.
        """
        from imbalanceseg.training.finetune import finetune

        images = [self.image, *self.channels]
        tuned = finetune(
            images, self.annotation, model, device=device, progress=progress, **settings
        )
        self._remember(None)
        segmentation = tuned.segmentation
        self.result = replace(segmentation, notes=(*self.notes, *segmentation.notes))
        self.model = tuned.model
        self._clicks = None
        return tuned

    def suggest(self, n: int = 5) -> list[SliceSuggestion]:
        """The slices that are best painted next; none where that is not worth it any more.

        Raises:
            RuntimeError: nothing was segmented yet.
        """
        from imbalanceseg.annotation.suggest import suggest_slices

        return suggest_slices(self._segmented(), self._annotation, n)

    def prepare_clicks(self, device: str = "auto", memory_gb: float | None = None) -> None:
        """Make the features that clicks need, which takes as long as a segmentation.

        The first click does it otherwise.

        Raises:
            RuntimeError: nothing was segmented yet.
        """
        from imbalanceseg.inference.memory import memory_budget
        from imbalanceseg.training.clicks import Clicks
        from imbalanceseg.training.patient import Patient

        if self._clicks is not None:
            return
        self._segmented()
        assert self.model is not None
        patient = Patient([self.image, *self.channels], self.model, memory_budget(memory_gb))
        patient.look(self.model.network, self.model.card.network, device, ignore_progress)
        self._clicks = Clicks(patient)

    def click(self, point_mm: Sequence[float], label: int, **settings: Any) -> Clicked:
        """Say what is at a point; the labels around it follow.

        Args:
            point_mm: LPS.
            label: 1..K for a structure that was missed, 0 where something was found wrongly.
            settings: further arguments of :meth:`~imbalanceseg.training.clicks.Clicks.answer`.

        Raises:
            InputError: the point or the label cannot be used.
            RuntimeError: nothing was segmented yet.
        """
        result = self._segmented()
        self.prepare_clicks()
        assert self._clicks is not None
        before = self.annotation.copy()
        clicked = self._clicks.answer(self.annotation, result.labels, point_mm, label, **settings)
        self._remember(before)
        self.result = replace(result, labels=clicked.labels)
        return clicked

    def undo(self) -> bool:
        """Take the last click or adaptation back; False where there is none."""
        if not self._earlier:
            return False
        earlier = self._earlier.pop()
        if earlier.model is not self.model:
            self._clicks = None
        self.result, self.model = earlier.result, earlier.model
        if earlier.annotation is not None:
            self._annotation = earlier.annotation
        return True

    def forget_earlier(self) -> None:
        """Let go of what :meth:`undo` would bring back: of a large scan that is gigabytes."""
        self._earlier.clear()

    def _segmented(self) -> Segmentation:
        if self.result is None:
            raise RuntimeError("Session.segment or Session.finetune must run first")
        return self.result

    def _remember(self, annotation: Annotation | None) -> None:
        self._earlier.append(_Earlier(self.result, self.model, annotation))
        del self._earlier[:-_MOST_UNDONE]

    @property
    def from_dicom(self) -> bool:
        """Whether the scan was read from a folder, so that DICOM objects can refer to it."""
        return self.source is not None and self.source.is_dir()

    def require_dicom(self) -> Path:
        """The folder of the DICOM series, after a check that DICOM objects can refer to it.

        Raises:
            InputError: the scan is not from a DICOM folder, or its files lack what must be quoted.
        """
        if self.source is None or not self.from_dicom:
            raise InputError(
                "dicom-seg-needs-series",
                f"A DICOM-SEG refers to the slices of a DICOM series, and {self.name} is none.",
                "Give the folder of the series, or leave out the DICOM-SEG.",
            )
        if not self._quotable:
            from imbalanceseg.dicom.seg import require_quotable

            require_quotable(self.source, self.series_uid)
            self._quotable = True
        return self.source

    def write(
        self,
        folder: str | os.PathLike[str],
        dicom_seg: bool = False,
        progress: ProgressCallback | None = None,
    ) -> list[Path]:
        """Write the result, each file whole or not at all.

        Writes ``labels.nrrd``, ``hardness.nrrd``, ``attention.nrrd`` and, one a level,
        ``attention_1.nrrd``, ``attention_2.nrrd``, ... as far as computed,
        ``segmentation.dcm`` when asked, ``overview.png``, and last ``report.json``. Files of these
        names that an earlier run left there, and that this result does not have, are removed.

        Args:
            folder: where the files go; made when missing.
            dicom_seg: also write a DICOM Segmentation; an empty result has none.
            progress: receives one event a file, stage ``"write"``.

        Returns:
            The files, in the order they were written.

        Raises:
            InputError: a DICOM-SEG is asked for and the scan is not from a DICOM folder.
            OutputError: a file cannot be written.
            RuntimeError: nothing was segmented yet.
        """
        if dicom_seg:
            self.require_dicom()
        writers = self._writers(dicom_seg)
        tell = progress or ignore_progress
        start = time.perf_counter()
        with output_folder(Path(folder)) as target:
            for done, (name, write) in enumerate(writers.items()):
                tell(ProgressEvent("write", done, len(writers), name))
                self.seconds["write"] = time.perf_counter() - start
                write(target / name)
            levels = {path.name for path in target.glob("attention_[0-9]*.nrrd")}
            for name in {*RESULT_FILES, *levels} - set(writers):
                (target / name).unlink(missing_ok=True)
            tell(ProgressEvent("write", len(writers), len(writers)))
        return [target / name for name in writers]

    def _writers(self, dicom_seg: bool) -> dict[str, Callable[[Path], None]]:
        """The files of the result and what writes each, in order."""
        if self.result is None or self.model is None:
            raise RuntimeError("Session.segment must run before Session.write")
        result, model = self.result, self.model
        writers: dict[str, Callable[[Path], None]] = {"labels.nrrd": partial(_write_labels, result)}
        for name, image in (("hardness", result.hardness), ("attention", result.attention)):
            if image is not None:
                writers[f"{name}.nrrd"] = partial(_write_map, image)
        for number, image in enumerate(result.attention_levels, start=1):
            writers[f"attention_{number}.nrrd"] = partial(_write_map, image)
        if dicom_seg and bool(sitk.GetArrayViewFromImage(result.labels).any()):
            writers["segmentation.dcm"] = self._write_dicom_seg
        writers["overview.png"] = partial(_write_overview, self.image, result, model)
        writers["report.json"] = partial(self._write_report, files=[*writers, "report.json"])
        return writers

    def _write_dicom_seg(self, path: Path) -> None:
        from imbalanceseg.dicom.seg import write_dicom_seg

        assert self.result is not None
        write_dicom_seg(
            self.result.labels,
            self.require_dicom(),
            path,
            self.result.segments,
            algorithm_name=f"ImbalanceSeg {self.result.model_name}",
            algorithm_version=self.result.model_version,
            series_uid=self.series_uid,
        )

    def _write_report(self, path: Path, files: Sequence[str]) -> None:
        from imbalanceseg.reporting.report import build_report

        assert self.result is not None
        assert self.model is not None
        report = build_report(
            self.image,
            self.result,
            self.model,
            case=self.name,
            seconds=self.seconds,
            files=files,
        )
        write_json(path, report)


def _read(path: Path, series_uid: str | None, flat: bool) -> sitk.Image:
    """A volume, or a 2D image where those are taken."""
    if flat and path.is_file():
        from imbalanceseg.preprocessing.picture import read_picture

        picture = read_picture(path)
        if picture is not None:
            return picture
    return read_image(path, series_uid)


def _write_labels(result: Segmentation, path: Path) -> None:
    from imbalanceseg.reporting.slicer_labels import slicer_labels

    made_by = f"ImbalanceSeg {result.model_name} {result.model_version}"
    write_image(slicer_labels(result.labels, result.segments, made_by), path)


def _write_map(image: sitk.Image, path: Path) -> None:
    from imbalanceseg.reporting.slicer_labels import without_metadata

    write_image(without_metadata(image), path)


def _write_overview(image: sitk.Image, result: Segmentation, model: Model, path: Path) -> None:
    from imbalanceseg.reporting.overview import write_overview

    window = model.card.window.model_dump() if model.card.window else None
    with atomic_path(path) as temporary:
        write_overview(image, result, temporary, window=window)


def case_name(path: Path) -> str:
    """The last part of a path without the endings of image files."""
    name = path.resolve().name
    for ending in _IMAGE_ENDINGS:
        if name.lower().endswith(ending) and len(name) > len(ending):
            return name[: -len(ending)]
    return name or "scan"


@contextmanager
def output_folder(folder: Path) -> Iterator[Path]:
    """Make a folder for results and prove that files can be written there.

    A folder made here is removed again if the block fails before anything lies in it.

    Raises:
        OutputError: it cannot be made, or nothing can be written into it.
    """
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".imbalanceseg-"):
            pass
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise OutputError(
            "output-not-writable",
            f"Nothing can be written into the folder {folder} ({reason}).",
            "Choose a folder in which you may write.",
        ) from error
    try:
        yield folder
    except BaseException:
        if made and not any(folder.iterdir()):
            folder.rmdir()
        raise
