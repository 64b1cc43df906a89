"""Forms of ``multipart/form-data``: read while they arrive, and written for an answer."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Protocol

from fastapi.responses import StreamingResponse
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from imbalanceseg.errors import InputError

FORM_TYPE = "multipart/form-data"
_MOST_PARTS = 16
_CHUNK = 1 << 20


class Sink(Protocol):
    """Takes the bytes of one file of a form."""

    def feed(self, piece: bytes) -> None:
        """The next bytes."""


class FormReader:
    """Takes a form piece by piece; files go on to sinks, and nothing is kept of their names.

    Args:
        content_type: of the request.
        sink_for: makes the sink of a file, by the name of its field; may refuse it.
        field_bytes: limit of all fields that are no files.

    Attributes:
        fields: those that are no files.
    """

    def __init__(
        self, content_type: str, sink_for: Callable[[str], Sink], field_bytes: int
    ) -> None:
        self.fields: dict[str, str] = {}
        self._sink_for, self._left = sink_for, field_bytes
        self._parts = 0
        self._header = [b"", b""]
        self._disposition: dict[bytes, bytes] = {}
        self._sink: Sink | None = None
        self._data = bytearray()
        self._ended = False
        _, options = parse_options_header(content_type)
        try:
            self._parser = MultipartParser(
                options.get(b"boundary", b""),
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": lambda data, a, b: self._add_header(0, data[a:b]),
                    "on_header_value": lambda data, a, b: self._add_header(1, data[a:b]),
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._begin_data,
                    "on_part_data": lambda data, a, b: self._add_data(data[a:b]),
                    "on_part_end": self._end_part,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise _damaged() from error

    def feed(self, piece: bytes) -> None:
        """Take the next bytes.

        Raises:
            InputError: ``form-damaged``, ``form-too-long``, or what a sink raises.
        """
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise _damaged() from error
        self._pass_on()

    def finish(self) -> None:
        """Say that everything was sent.

        Raises:
            InputError: ``upload-truncated``.
        """
        if not self._ended:
            raise InputError("upload-truncated", "The form ends too early.", "Send it again.")

    def _begin_part(self) -> None:
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise _too_long()
        self._disposition = {}

    def _add_header(self, which: int, data: bytes) -> None:
        self._header[which] += data

    def _end_header(self) -> None:
        name, value = self._header
        self._header = [b"", b""]
        if name.lower() == b"content-disposition":
            _, self._disposition = parse_options_header(value)

    def _begin_data(self) -> None:
        if b"filename" in self._disposition:
            self._sink = self._sink_for(self._name)

    def _add_data(self, data: bytes) -> None:
        # The parser cuts at every line break; sinks get what has come at once.
        self._data += data
        if self._sink is None:
            self._left -= len(data)
            if self._left < 0:
                raise _too_long()

    def _end_part(self) -> None:
        if self._sink is None:
            self.fields[self._name] = self._data.decode("utf-8", "replace")
        self._pass_on()
        self._sink = None
        self._data.clear()

    def _pass_on(self) -> None:
        if self._sink is not None and self._data:
            self._sink.feed(bytes(self._data))
            self._data.clear()

    def _end(self) -> None:
        self._ended = True

    @property
    def _name(self) -> str:
        return self._disposition.get(b"name", b"").decode("utf-8", "replace")


def form_response(params: str, name: str, file: IO[bytes]) -> StreamingResponse:
    """A form with ``params`` and a file, as clients of MONAI Label take it apart.

    Some of them cut it at strings: JSON comes first, the type is the last header of a part, and the
    length is told, because one of them reads past HTTP's chunks.

    Args:
        params: JSON.
        name: of the file.
        file: at its beginning; closed when it is sent.
    """
    boundary = secrets.token_hex(16)
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="params"\r\n'
        f"Content-Type: application/json\r\n\r\n{params}\r\n"
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    tail = f"\r\n--{boundary}--\r\n"
    media_type = f"multipart/form-data; boundary={boundary}"
    return _response(file, media_type, {}, head.encode("utf-8"), tail.encode("ascii"))


def file_response(name: str, file: IO[bytes], media_type: str) -> StreamingResponse:
    """A file alone, closed when it is sent."""
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return _response(file, media_type, headers)


def _response(
    file: IO[bytes],
    media_type: str,
    headers: Mapping[str, str],
    head: bytes = b"",
    tail: bytes = b"",
) -> StreamingResponse:
    file.seek(0, 2)
    length = len(head) + file.tell() + len(tail)
    file.seek(0)

    def pieces() -> Iterator[bytes]:
        with file:
            yield head
            while piece := file.read(_CHUNK):
                yield piece
            yield tail

    told = {**headers, "Content-Length": str(length)}
    return StreamingResponse(pieces(), headers=told, media_type=media_type)


def _damaged() -> InputError:
    return InputError(
        "form-damaged", "The request is no form that can be read.", "Send multipart/form-data."
    )


def _too_long() -> InputError:
    return InputError("form-too-long", "The fields of the form are too long or too many.")
