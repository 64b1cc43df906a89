"""What clients of MONAI Label ask for, as jobs of the engine."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

from imbalanceseg.errors import InputError, OutputError
from imbalanceseg.server.monai_label.catalogue import Catalogue, Image, Label
from imbalanceseg.server.monai_label.clicks import latest_segmentation
from imbalanceseg.server.monai_label.images import ImageSink
from imbalanceseg.server.monai_label.label_files import annotation_from, recoded
from imbalanceseg.server.records import Job, JobState, StoredAnnotation
from imbalanceseg.server.requests import (
    DicomSegParameters,
    DicomSegRequest,
    FinetuneParameters,
    FinetuneRequest,
    SegmentParameters,
    SegmentRequest,
)
from imbalanceseg.server.service import EngineService
from imbalanceseg.server.volume_upload import VolumeUpload

STRATEGIES = {
    "random": "An image without a label, by lot; what was not proposed for long is more likely.",
    "first": "The first image without a label, in the order of the names.",
}
TRAINING_SECONDS = 60

_CLIENT = "monai-label"
_FILE = "monai_label.json"
_OURS = "kind = 'finetune' AND client LIKE 'monai-label%'"
_FAULTS_OF_ENGINE = (
    "disk-full",
    "internal",
    "interrupted",
    "out-of-memory",
    "results-lost",
    "worker-crashed",
    "worker-killed",
)
_LONGEST_TRAINING = 86_400


class MonaiLabelDesk:
    """Stands between clients that know images by name and the engine; no word of HTTP here.

    Args:
        service: of which images are cases, labels annotations, and training an adaptation.

    Attributes:
        service: the same.
        catalogue: names of images and sessions.

    Raises:
        OutputError: ``datastore-unreadable``.
    """

    def __init__(self, service: EngineService) -> None:
        self.service = service
        self.catalogue = Catalogue(
            service.store.folder / _FILE, lambda case: service.store.case(case) is not None
        )

    def models(self) -> dict[str, dict[str, Any]]:
        """What is known of every model, by its name."""
        return {model["id"]: model for model in self.service.shelf.summaries()}

    # images and labels

    def keep_image(self, sink: ImageSink) -> str:
        """Take an image in as a case, and return its address.

        Raises:
            InputError: ``upload-truncated``.
        """
        return self.service.library.keep_case(sink.upload, None).id

    def keep_label(
        self, image: str, tag: str, sink: ImageSink, names: Mapping[str, int]
    ) -> StoredAnnotation:
        """Take a label map in as an annotation of an image.

        Raises:
            InputError: ``image-unknown``, ``upload-truncated``, ``annotation-not-labels`` or
                ``image-not-3d``.
            GeometryError: ``grid-mismatch``.
        """
        received = sink.upload.finish()
        if received.header.channels > 1:
            raise InputError(
                "image-not-3d", "A label map is one volume.", "Save segments that do not overlap."
            )
        case = self.catalogue.image(image).case
        pieces = annotation_from(sink.upload.folder / "channel_0.nrrd")
        kept = self._keep_annotation(case, pieces)
        self.catalogue.add_label(image, tag, kept.id, names)
        return kept

    def remove_image(self, name: str) -> None:
        """Delete an image and its labels, and the case with its results where nobody else names it.

        Raises:
            InputError: ``image-unknown`` or ``case-busy``.
        """
        image = self.catalogue.image(name)
        others = [n for n, one in self.catalogue.images().items() if one.case == image.case]
        if others == [name] and self.service.jobs.unfinished(image.case):
            raise InputError(
                "case-busy", "Jobs of this image wait or run.", "Wait for them, or stop them."
            )
        self.catalogue.remove_image(name)
        for label in image.labels.values():
            self._drop_annotation(image.case, label)
        if not self.catalogue.names_case(image.case):
            self.service.delete_case(image.case, everything=False)

    def remove_label(self, name: str, tag: str) -> None:
        """Delete a label of an image.

        Raises:
            InputError: ``image-unknown`` or ``label-unknown``.
        """
        label = self.catalogue.label(name, tag)
        case = self.catalogue.image(name).case
        self.catalogue.remove_label(name, tag)
        self._drop_annotation(case, label)

    def next_image(self, strategy: str) -> tuple[str, dict[str, Any]] | None:
        """An image that a person should label next, and what the strategy says of it.

        Raises:
            InputError: ``strategy-unknown``.
        """
        if strategy not in STRATEGIES:
            raise InputError(
                "strategy-unknown",
                "There is no strategy of this name.",
                f"Choose one of {', '.join(STRATEGIES)}.",
            )
        images = {name: one for name, one in self.catalogue.images().items() if not one.labels}
        if not images:
            return None
        name, told = min(images), {}
        if strategy == "random":
            now = time.time()
            weights = {n: int(now - one.proposed.get(strategy, 0)) for n, one in images.items()}
            # All of them may have been proposed within this second.
            chances = [w + 1 for w in weights.values()]
            name = random.choices(list(weights), chances)[0]  # noqa: S311 -- which image is next
            told = {"weight": weights[name]}
        self.catalogue.propose(name, strategy)
        return name, told

    # jobs

    def segment(self, model: str, case: str, client: Any) -> Job:
        """Ask for a segmentation; errors as :meth:`JobBook.submit`."""
        parameters = SegmentParameters(model=model, maps=())
        request = SegmentRequest(kind="segment", case=case, parameters=parameters)
        return self.service.jobs.submit(_client(client), request)

    def root(self, model: str, case: str, client: Any) -> Job:
        """A segmentation for clicks to go on from, asked for where there is none."""
        return latest_segmentation(self.service, model, case) or self.segment(model, case, client)

    def dicom_seg(self, base: Job) -> Job:
        """Ask for a segmentation as DICOM; errors as :meth:`JobBook.submit`."""
        parameters = DicomSegParameters(base=base.id)
        request = DicomSegRequest(kind="dicom-seg", case=base.case, parameters=parameters)
        return self.service.jobs.submit(base.client, request)

    def train(self, model: str, params: Mapping[str, Any]) -> Job:
        """Ask that a model is adapted to the image that was labelled last.

        Raises:
            InputError: ``nothing-labelled``, or as :meth:`JobBook.submit`.
            ModelError: ``model-unknown``.
        """
        self.service.shelf.place(model)
        image, label = self._labelled_last()
        parameters = FinetuneParameters(
            model=model,
            annotation=self._for_model(image.case, label, label_names(self.models()[model])),
            seconds=_seconds(params.get("seconds")),
        )
        request = FinetuneRequest(kind="finetune", case=image.case, parameters=parameters)
        return self.service.jobs.submit(_client(params.get("client_id")), request)

    def trainable(self) -> list[str]:
        """Models that know a class of the label map saved last; all where it names none.

        Raises:
            InputError: ``nothing-labelled``.
        """
        _, label = self._labelled_last()
        models = {name: one for name, one in self.models().items() if one["case"] is None}
        fitting = [
            name for name, one in models.items() if label.names.keys() & label_names(one).keys()
        ]
        return fitting or list(models)

    def trainings(self) -> list[Job]:
        """All that such clients have asked for, the latest first."""
        return self.service.store.jobs(_OURS)

    def running_training(self) -> Job | None:
        """The one that runs or waits, if any."""
        unfinished = [job for job in self.trainings() if not job.state.is_final]
        return unfinished[-1] if unfinished else None

    def stop_trainings(self) -> Job | None:
        """Stop all that run or wait, and return the first of them."""
        first = self.running_training()
        for job in self.trainings():
            self.service.jobs.cancel(job.id)
        return first

    # inside

    def _labelled_last(self) -> tuple[Image, Label]:
        labelled = [
            (one, label) for one in self.catalogue.images().values() if (label := one.latest)
        ]
        if not labelled:
            raise InputError(
                "nothing-labelled",
                "No image of the datastore has a label.",
                "Save a label of an image first.",
            )
        return max(labelled, key=lambda pair: pair[1].saved)

    def _for_model(self, case: str, label: Label, names: Mapping[str, int]) -> str:
        """The annotation with the label values of a model: clients count segments of all models."""
        values = {label.names[name]: value for name, value in names.items() if name in label.names}
        if not values or label.names == names:
            return label.annotation
        source = self.service.store.annotation_file(case, label.annotation)
        return self._keep_annotation(case, recoded(source, values, values.values())).id

    def _keep_annotation(self, case: str, pieces: Iterator[bytes]) -> StoredAnnotation:
        library = self.service.library
        with ExitStack() as stack:
            upload: VolumeUpload = stack.enter_context(library.receive(as_sent=True))
            for piece in pieces:
                begun = upload.header is not None
                upload.feed(piece)
                if upload.header is not None and not begun:
                    stack.enter_context(library.room_for(upload.header.channel_bytes))
            return library.keep_annotation(case, upload)

    def _drop_annotation(self, case: str, label: Label) -> None:
        if not self.catalogue.names_annotation(case, label.annotation):
            self.service.store.drop_annotation(case, label.annotation)


def label_names(model: Mapping[str, Any]) -> dict[str, int]:
    """Names of the classes of a model with their labels, in the order of these."""
    segments = sorted(model["segments"], key=lambda segment: int(segment["label"]))
    return {segment["name"]: int(segment["label"]) for segment in segments}


def require_done(job: Job) -> None:
    """Refuse a job that is over and was not done.

    Raises:
        InputError: the fault of the job, or ``job-cancelled``.
        OutputError: the same, where the fault is the engine's.
    """
    if job.state is JobState.DONE:
        return
    if job.fault is None:
        raise InputError("job-cancelled", "The job was cancelled.", "Start it again.")
    kind = OutputError if job.fault.code in _FAULTS_OF_ENGINE else InputError
    raise kind(job.fault.code, job.fault.message, job.fault.hint)


def _client(given: Any) -> str:
    """Whoever takes turns; what clients call themselves may be a person's name."""
    if not given:
        return _CLIENT
    return f"{_CLIENT}-{hashlib.sha256(str(given).encode('utf-8', 'replace')).hexdigest()[:16]}"


def _seconds(given: Any) -> float:
    """Of training: a positive number, or the default."""
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if is_number and 0 < given <= _LONGEST_TRAINING:
        return float(given)
    return float(TRAINING_SECONDS)
