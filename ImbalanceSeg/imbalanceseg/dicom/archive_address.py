"""Where an archive is and how one may enter: addresses, tokens and certificates."""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from imbalanceseg.dicom.archive import ArchiveError
from imbalanceseg.errors import DependencyError, InputError
from imbalanceseg.reading import printable

if TYPE_CHECKING:
    from imbalanceseg.dicom.archive import Archive

TOKEN_VARIABLE = "IMBALANCESEG_PACS_TOKEN"  # noqa: S105 -- a name, not a token
ADDRESS_VARIABLE = "IMBALANCESEG_PACS"

_HINT = (
    "Write https://HOST/dicom-web for DICOMweb, or dicom://TITLE@HOST:PORT for DIMSE "
    "(dicoms:// with TLS)."
)
_TITLE = re.compile(r"[\x21-\x5b\x5d-\x7e]{1,16}")


@dataclass(frozen=True)
class Entrance:
    """How one enters an archive.

    Attributes:
        token: sent as ``Authorization: Bearer`` with DICOMweb; empty for none.
        authorities: file of certificates that the archive's is checked with; None for the
            system's.
        certificate: file of one's own certificate and key, where the archive wants one.
        title: one's own application entity title, for DIMSE.
        listen_port: for DIMSE archives that send what is asked for over a connection of their own
            (C-MOVE); None to receive it over the same one (C-GET).
        timeout_s: seconds without an answer after which the line counts as broken.
    """

    token: str = ""
    authorities: Path | None = None
    certificate: Path | None = None
    title: str = "IMBALANCESEG"
    listen_port: int | None = None
    timeout_s: float = 30.0

    def tls(self) -> ssl.SSLContext:
        """What a protected line is checked with.

        Raises:
            InputError: ``certificate-unreadable``.
        """
        try:
            context = ssl.create_default_context(
                cafile=None if self.authorities is None else str(self.authorities)
            )
            if self.certificate is not None:
                context.load_cert_chain(str(self.certificate))
        except (OSError, ssl.SSLError) as error:
            raise InputError(
                "certificate-unreadable",
                f"The certificates cannot be used ({printable(error)}).",
                "Give files in PEM format; one's own holds certificate and key.",
            ) from error
        return context


def open_archive(address: str, entrance: Entrance | None = None) -> Archive:
    """The archive at an address; nothing is sent yet.

    Args:
        address: ``https://HOST/dicom-web``, ``dicom://TITLE@HOST:PORT``, or ``dicoms://`` with TLS.
        entrance: how one enters.

    Raises:
        InputError: ``archive-address``, ``archive-unprotected`` for a token that would travel
            unprotected to another machine, ``archive-title``.
        DependencyError: ``pacs-missing``.
    """
    entrance = entrance or Entrance()
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise _address_error(address) from error
    if parts.scheme not in ("http", "https", "dicom", "dicoms") or not host:
        raise _address_error(address)
    try:
        if parts.scheme.startswith("http"):
            if entrance.token and parts.scheme == "http" and not _is_here(host):
                raise InputError(
                    "archive-unprotected",
                    f"The token would travel to {host} unprotected.",
                    "Use an https:// address.",
                )
            from imbalanceseg.dicom.archive_web import WebArchive

            return WebArchive(address, entrance)
        if not port or not parts.username:
            raise _address_error(address)
        for title in (parts.username, entrance.title):
            if not _TITLE.fullmatch(title):
                raise InputError(
                    "archive-title",
                    f"{printable(title)!r} is no application entity title.",
                    "A title has 1 to 16 printable characters without spaces.",
                )
        from imbalanceseg.dicom.archive_dimse import DimseArchive

        return DimseArchive(host, port, parts.username, entrance, parts.scheme == "dicoms")
    except ImportError as error:
        raise DependencyError(
            "pacs-missing",
            f"To talk to an archive {error.name or 'a package'} is needed, which is not installed.",
            'Run: pip install "imbalanceseg[pacs]"',
        ) from error


def token_from(path: Path | None) -> str:
    """The token in a file, or else in the environment; empty where there is none.

    Raises:
        InputError: ``token-unreadable``.
    """
    if path is None:
        return os.environ.get(TOKEN_VARIABLE, "").strip()
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            "token-unreadable", f"There is no token in {path}.", "Give a text file that holds it."
        ) from error
    if not token or not token.isprintable() or " " in token:
        raise InputError(
            "token-unreadable", f"{path} holds no token.", "It is one line without spaces."
        )
    return token


def refused(what: str, why: object) -> ArchiveError:
    """The archive answers, but not with what was asked for."""
    return ArchiveError(
        "archive-refused",
        f"The archive refuses to {what} ({printable(why, 160)}).",
        "Check token, titles and rights with those who run the archive.",
    )


def _address_error(address: str) -> InputError:
    # A password that somebody put into the address is not shown.
    shown = re.sub(r"//[^/@]*@", "//…@", printable(address, 80))
    return InputError("archive-address", f"{shown!r} is no address of an archive.", _HINT)


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
