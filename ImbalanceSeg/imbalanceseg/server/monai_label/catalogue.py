"""Names of clients for what the engine addresses by content: images, their labels, and sessions.

A name is a key and nothing else: no file is ever called so.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from imbalanceseg.atomic import write_json
from imbalanceseg.errors import InputError, OutputError

_VERSION = 1
_MOST_ENTRIES = 10_000
_LONGEST_SESSION = 3600


@dataclass(frozen=True)
class Label:
    """A label map that a client has saved.

    Attributes:
        annotation: address of it among those of the case.
        names: what its values stand for, as the client says; empty where it does not.
        saved: seconds since 1970.
    """

    annotation: str
    names: Mapping[str, int]
    saved: float


@dataclass
class Image:
    """An image of the datastore.

    Attributes:
        case: address of the scan.
        added: seconds since 1970.
        labels: by tag.
        proposed: when each strategy has proposed it last, in seconds since 1970.
    """

    case: str
    added: float
    labels: dict[str, Label] = field(default_factory=dict)
    proposed: dict[str, float] = field(default_factory=dict)

    @property
    def latest(self) -> Label | None:
        """The label map saved last."""
        return max(self.labels.values(), key=lambda label: label.saved, default=None)


@dataclass
class Session:
    """An image that a client works on without a name.

    Attributes:
        case: address of the scan.
        created, used: seconds since 1970.
        expiry: seconds without use after which it ends.
    """

    case: str
    created: float
    used: float
    expiry: int


class Catalogue:
    """Images and sessions; safe to use from any thread.

    Args:
        path: JSON file that keeps them.
        is_here: whether the voxels of a case are.

    Raises:
        OutputError: ``datastore-unreadable``.
    """

    def __init__(self, path: Path, is_here: Callable[[str], bool]) -> None:
        self._path, self._is_here = path, is_here
        self._lock = threading.RLock()
        self._images: dict[str, Image] = {}
        self._sessions: dict[str, Session] = {}
        if path.exists():
            self._load()

    def images(self) -> dict[str, Image]:
        """Those whose voxels are here, by name."""
        with self._lock:
            return {name: one for name, one in self._images.items() if self._is_here(one.case)}

    def image(self, name: str) -> Image:
        """An image by its name.

        Raises:
            InputError: ``image-unknown``.
        """
        found = self._images.get(name)
        if found is None or not self._is_here(found.case):
            raise InputError(
                "image-unknown", "There is no image of this name here.", "Upload the image first."
            )
        return found

    def label(self, name: str, tag: str) -> Label:
        """A label map of an image.

        Raises:
            InputError: ``image-unknown`` or ``label-unknown``.
        """
        found = self.image(name).labels.get(tag)
        if found is None:
            raise InputError("label-unknown", "The image has no label of this tag.", "Save one.")
        return found

    def session(self, number: str) -> Session:
        """A session; it counts as used.

        Raises:
            InputError: ``session-unknown``.
        """
        with self._lock:
            found = self._sessions.get(number)
            now = time.time()
            if found is None or now > found.used + found.expiry or not self._is_here(found.case):
                raise InputError(
                    "session-unknown", "There is no such session, or it has expired.", "Begin one."
                )
            found.used = now
            return found

    def add_image(self, name: str, case: str) -> None:
        """Give a case a name; the labels of another case of that name are let go.

        Raises:
            InputError: ``datastore-full``.
            OutputError: the disk is full.
        """
        with self._changing():
            known = self._images.get(name)
            if known is None or known.case != case:
                self._images[name] = Image(case, time.time())

    def add_label(self, name: str, tag: str, annotation: str, names: Mapping[str, int]) -> None:
        """Say that an annotation is the label of an image; errors as :meth:`image`."""
        with self._changing():
            self.image(name).labels[tag] = Label(annotation, dict(names), time.time())

    def add_session(self, case: str, expiry: int) -> str:
        """Begin a session, and return its number; errors as :meth:`add_image`."""
        number = secrets.token_hex(16)
        now = time.time()
        seconds = min(expiry, _LONGEST_SESSION) if expiry > 0 else _LONGEST_SESSION
        with self._changing():
            self._sessions[number] = Session(case, now, now, seconds)
        return number

    def propose(self, name: str, strategy: str) -> None:
        """Note that a strategy has proposed an image; errors as :meth:`image`."""
        with self._changing():
            self.image(name).proposed[strategy] = time.time()

    def remove_image(self, name: str) -> None:
        """Forget an image and its labels; errors as :meth:`image`."""
        with self._changing():
            self.image(name)
            del self._images[name]

    def remove_label(self, name: str, tag: str) -> None:
        """Forget a label; errors as :meth:`label`."""
        with self._changing():
            self.label(name, tag)
            del self._images[name].labels[tag]

    def remove_session(self, number: str) -> Session:
        """End a session; errors as :meth:`session`."""
        with self._changing():
            found = self.session(number)
            del self._sessions[number]
            return found

    def names_case(self, case: str) -> bool:
        """Whether an image or a session is of this case."""
        with self._lock:
            cases = {one.case for one in self._images.values()}
            return case in cases | {one.case for one in self._sessions.values()}

    def names_annotation(self, case: str, annotation: str) -> bool:
        """Whether an annotation of a case is the label of an image."""
        with self._lock:
            return any(
                label.annotation == annotation
                for image in self._images.values()
                if image.case == case
                for label in image.labels.values()
            )

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Write down what the block changes, or take it back."""
        with self._lock:
            before = self._told()
            try:
                yield
                self._drop_ended()
                if len(self._images) + len(self._sessions) > _MOST_ENTRIES:
                    raise InputError(
                        "datastore-full",
                        f"The datastore has {_MOST_ENTRIES} images and sessions already.",
                        "Remove images that are not needed.",
                    )
                write_json(self._path, self._told())
            except BaseException:
                self._take(before)
                raise

    def _drop_ended(self) -> None:
        now = time.time()
        self._sessions = {
            number: one for number, one in self._sessions.items() if now <= one.used + one.expiry
        }
        self._images = {
            name: one for name, one in self._images.items() if one.labels or self._is_here(one.case)
        }

    def _told(self) -> dict[str, Any]:
        return {
            "version": _VERSION,
            "images": {name: asdict(one) for name, one in self._images.items()},
            "sessions": {number: asdict(one) for number, one in self._sessions.items()},
        }

    def _take(self, told: dict[str, Any]) -> None:
        if told["version"] != _VERSION:
            raise ValueError
        self._images = {name: _image(one) for name, one in told["images"].items()}
        self._sessions = {number: Session(**one) for number, one in told["sessions"].items()}

    def _load(self) -> None:
        try:
            self._take(json.loads(self._path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise OutputError(
                "datastore-unreadable",
                f"The names of images in {self._path} cannot be read ({type(error).__name__}).",
                "Remove the file; scans and annotations stay, their names go.",
            ) from error


def _image(told: dict[str, Any]) -> Image:
    labels = {tag: Label(**label) for tag, label in told["labels"].items()}
    return Image(**{**told, "labels": labels})
