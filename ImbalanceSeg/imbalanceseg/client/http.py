"""Requests to an engine, and its answers, errors and events."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

import requests

from imbalanceseg.errors import ImbalanceSegError

PROTOCOL = 1
"""What this client speaks; the server names its own in ``GET /v1/info``."""

_SECONDS_TO_CONNECT = 5.0
_SECONDS_OF_SILENCE = 30.0
_SECONDS_OF_QUIET_STREAM = 10.0
_MOST_LINES = 32
_PIECE = 1 << 20


class EngineError(ImbalanceSegError):
    """The engine refused a request or failed a job, and said why."""


class EngineUnreachable(ImbalanceSegError):  # noqa: N818
    """The engine does not answer."""

    def __init__(self, why: str) -> None:
        super().__init__(
            "engine-unreachable",
            f"The engine does not answer ({why}).",
            "Check its address and the network, or start it again.",
        )


class Connection:
    """Talks to one engine, from any thread; lines are kept open for the next request.

    Args:
        url: of the engine, ``https://...`` or, on this computer, ``http://...``.
        token: that the engine asks for.
        verify: False takes any certificate; a path names the authority that signed it.
    """

    def __init__(self, url: str, token: str, verify: bool | str = True) -> None:
        self.url = url.rstrip("/")
        self.client = secrets.token_hex(8)
        self._session = requests.Session()
        # Proxies and .netrc of the environment are not for an engine in the house.
        self._session.trust_env = False
        self._session.verify = verify
        self._session.headers.update({"Authorization": f"Bearer {token}", "X-Client": self.client})
        lines = requests.adapters.HTTPAdapter(pool_maxsize=_MOST_LINES)
        self._session.mount(self.url, lines)

    @property
    def is_local(self) -> bool:
        """Whether the engine runs on this computer."""
        host = self.url.partition("://")[2]
        return host.startswith(("127.0.0.1", "localhost", "[::1]"))

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        data: Any = None,
        params: Mapping[str, Any] | None = None,
        seconds: float = _SECONDS_OF_SILENCE,
        allowed: tuple[int, ...] = (),
    ) -> requests.Response:
        """One request.

        Args:
            method: of HTTP.
            path: after the URL.
            body: JSON.
            data: bytes, or an iterable of bytes with a length.
            params: of the query.
            seconds: without a byte after which the engine is given up.
            allowed: status codes that are answers, though they say no.

        Raises:
            EngineError: it was refused.
            EngineUnreachable: there was no answer.
        """
        try:
            response = self._session.request(
                method,
                self.url + path,
                json=body,
                data=data,
                params=params,
                timeout=(_SECONDS_TO_CONNECT, seconds),
            )
        except requests.RequestException as error:
            raise _unanswered(error) from error
        if response.status_code >= 400 and response.status_code not in allowed:
            raise _refusal(response)
        return response

    def download(
        self, path: str, stream: IO[bytes], most_bytes: int, told: Callable[[int], None]
    ) -> None:
        """Write what lies at an address to a stream, from its beginning; errors as :meth:`call`.

        Args:
            path: after the URL.
            stream: that can be begun anew.
            most_bytes: more than these are refused.
            told: receives the bytes so far.
        """
        try:
            with self._session.get(
                self.url + path, stream=True, timeout=(_SECONDS_TO_CONNECT, _SECONDS_OF_SILENCE)
            ) as response:
                if response.status_code >= 400:
                    raise _refusal(response)
                stream.seek(0)
                stream.truncate()
                size = 0
                for piece in response.iter_content(_PIECE):
                    size += len(piece)
                    if size > most_bytes:
                        raise EngineError("answer-too-large", "The engine sends more than it may.")
                    stream.write(piece)
                    told(size)
        except requests.RequestException as error:
            raise _unanswered(error) from error

    def has(self, path: str) -> bool:
        """Whether there is something at an address; errors as :meth:`call`."""
        return self.call("HEAD", path, allowed=(404,)).status_code != 404

    def events(self, job: str, alive: Callable[[], None], after: int = 0) -> Iterator[Any]:
        """What happens to a job, number and JSON, until the stream ends.

        Args:
            job: number of the job.
            alive: called whenever anything arrives, heartbeats included.
            after: number of the last event that is known.

        Raises:
            EngineError: there is no such job.
            EngineUnreachable: the stream was cut, or nothing came for ten seconds.
        """
        try:
            with self._session.get(
                f"{self.url}/v1/jobs/{job}/events",
                headers={"Last-Event-ID": str(after)},
                stream=True,
                timeout=(_SECONDS_TO_CONNECT, _SECONDS_OF_QUIET_STREAM),
            ) as response:
                if response.status_code >= 400:
                    raise _refusal(response)
                number = after
                # Without asking for single bytes, requests would hold events back.
                for line in response.iter_lines(chunk_size=1):
                    alive()
                    name, _, value = line.partition(b": ")
                    if name == b"id":
                        number = int(value)
                    elif name == b"data":
                        yield number, json.loads(value)
        except requests.RequestException as error:
            raise _unanswered(error) from error

    def handshake(self) -> dict[str, Any]:
        """What the engine is, after a check that both speak the same protocol.

        Raises:
            EngineError: ``protocol-mismatch``, or the token is wrong.
            EngineUnreachable: there was no answer.
        """
        response = self.call("GET", "/v1/info")
        try:
            info: dict[str, Any] = response.json()
            theirs, version = int(info["protocol"]), str(info["version"])
        except (ValueError, KeyError, TypeError) as error:
            raise EngineError(
                "not-an-engine",
                f"What answers at {self.url} is no ImbalanceSeg engine.",
                "Check the address.",
            ) from error
        if theirs != PROTOCOL:
            import imbalanceseg

            older = "engine" if theirs < PROTOCOL else "program here"
            raise EngineError(
                "protocol-mismatch",
                f"The engine is version {version} and speaks protocol {theirs}; this program is "
                f"version {imbalanceseg.__version__} and speaks protocol {PROTOCOL}.",
                f"Update the {older}.",
            )
        return info

    def wait_until_up(self, seconds: float) -> dict[str, Any]:
        """:meth:`handshake`, tried again until it works or time is up; errors as there."""
        until = time.monotonic() + seconds
        while True:
            try:
                return self.handshake()
            except EngineUnreachable:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)


def _refusal(response: requests.Response) -> ImbalanceSegError:
    try:
        body = response.json()
        return EngineError(str(body["code"]), str(body["message"]), str(body.get("hint", "")))
    except (ValueError, KeyError, TypeError):
        return EngineError(
            "not-an-engine",
            f"The answer was status {response.status_code} and no word of an ImbalanceSeg engine.",
            "Check the address.",
        )


def _unanswered(error: requests.RequestException) -> ImbalanceSegError:
    """In few words; the whole chain of causes says little more."""
    if isinstance(error, requests.exceptions.SSLError):
        return EngineError(
            "certificate-not-trusted",
            "The certificate of the engine is not trusted here.",
            "Name the authority that signed it, or check the address.",
        )
    if isinstance(error, requests.Timeout):
        return EngineUnreachable("time is up")
    if isinstance(error, requests.ConnectionError | requests.exceptions.ChunkedEncodingError):
        return EngineUnreachable("the connection failed")
    return EngineError(
        "request-invalid",
        f"This cannot be asked of an engine ({type(error).__name__}).",
        "Check the address, and that all numbers are finite.",
    )
