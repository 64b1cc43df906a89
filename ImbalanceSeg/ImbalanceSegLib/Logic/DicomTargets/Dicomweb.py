"""An archive that is reached by DICOMweb."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from slicer.i18n import tr as _

if TYPE_CHECKING:
    from imbalanceseg.dicom.archive import Archive

_SECONDS_TO_CONNECT = 10.0
_SECONDS_OF_SILENCE = 120.0
_FAILED_SEQUENCE = "00081198"
_FAILURE_REASON = "00081197"


@dataclass(frozen=True)
class Dicomweb:
    """An archive that is reached by DICOMweb.

    Attributes:
        url: base address of the service, such as ``https://pacs.hospital.org/dicom-web``.
        token: bearer token; empty for none.
        certificate: file of the authority that signed the archive's certificate; empty for one
            that is trusted anyway.
        allowHttp: whether the user has agreed that image data and token travel readable by others.
    """

    url: str
    token: str = ""
    certificate: str = ""
    allowHttp: bool = False
    isRemote: ClassVar[bool] = True

    def whyNot(self) -> str:
        """One sentence that says what the address lacks; empty when it can be tried."""
        try:
            parts = urlsplit(self.url.strip())
            usable = parts.scheme in ("http", "https") and bool(parts.hostname)
        except ValueError:
            usable = False
        if not usable:
            return _("Enter the DICOMweb address of the archive, which begins with https://.")
        if parts.username is not None or parts.query or parts.fragment:
            return _("Enter the DICOMweb address without user name and without ? or #.")
        if parts.scheme == "http" and not self.allowHttp:
            return _(
                "The address begins with http://, so others in the network could read the data. "
                "Use https://, or agree to send it unprotected."
            )
        return ""

    def deliver(self, content: bytes, name: str) -> str:
        """Store the file.

        Args:
            content: of the file.
            name: is not used.

        Returns:
            Name of the archive's computer.

        Raises:
            RuntimeError: the address is not usable, or the archive did not take the file.
        """
        if problem := self.whyNot():
            raise RuntimeError(problem)
        import requests

        boundary = secrets.token_hex(16)
        try:
            response = requests.post(
                f"{self.url.strip().rstrip('/')}/studies",
                data=_multipart(content, boundary),
                headers={
                    "Accept": "application/dicom+json",
                    "Content-Type": f'multipart/related; type="application/dicom"; '
                    f"boundary={boundary}",
                },
                auth=self._sign,
                verify=self.certificate or True,
                timeout=(_SECONDS_TO_CONNECT, _SECONDS_OF_SILENCE),
                # Another place might be less trusted, and would be sent the token.
                allow_redirects=False,
            )
        except requests.exceptions.SSLError as error:
            raise RuntimeError(self._notTrusted()) from error
        except (requests.RequestException, OSError) as error:
            raise RuntimeError(self._unreachable()) from error
        self._requireStored(response.status_code, response.content)
        return self._host

    def open(self) -> Archive:
        """The engine's way to it, to find and get scans; nothing is sent yet.

        Raises:
            ImbalanceSegError: the token would travel unprotected, or the certificate is unusable.
        """
        from imbalanceseg.dicom.archive_address import Entrance, open_archive

        authorities = Path(self.certificate) if self.certificate else None
        return open_archive(self.url.strip(), Entrance(self.token, authorities))

    @property
    def _host(self) -> str:
        return urlsplit(self.url.strip()).hostname or ""

    def _sign(self, request: Any) -> Any:
        # As an authorisation of its own, because a .netrc of the user would replace the header.
        if self.token:
            request.headers["Authorization"] = f"Bearer {self.token}"
        return request

    def _requireStored(self, status: int, body: bytes) -> None:
        if status in (401, 403):
            raise RuntimeError(
                _("The archive {host} refused the token; ask its administrator for one.").format(
                    host=self._host
                )
            )
        if 300 <= status < 400:
            raise RuntimeError(
                _("The archive {host} wants another address; ask its administrator.").format(
                    host=self._host
                )
            )
        if status not in (200, 202) or _wasRefused(body):
            raise RuntimeError(
                _(
                    "The archive {host} did not store the file (status {status}{reason}). Check "
                    "the address and that the archive takes segmentations."
                ).format(host=self._host, status=status, reason=_reasonIn(body))
            )

    def _notTrusted(self) -> str:
        return _(
            "The certificate of the archive {host} is not trusted here. Name the file of the "
            "authority that signed it, or check the address."
        ).format(host=self._host)

    def _unreachable(self) -> str:
        return _("The archive {host} does not answer. Check the address and the network.").format(
            host=self._host
        )


def _multipart(content: bytes, boundary: str) -> bytes:
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode("ascii")
    return b"".join((head, content, f"\r\n--{boundary}--\r\n".encode("ascii")))


def _failures(body: bytes) -> list[Any]:
    try:
        found = json.loads(body).get(_FAILED_SEQUENCE, {}).get("Value", [])
    except (ValueError, AttributeError):
        return []
    return found if isinstance(found, list) else []


def _wasRefused(body: bytes) -> bool:
    return bool(_failures(body))


def _reasonIn(body: bytes) -> str:
    """The archive's reason as DICOM counts them (PS3.3 C.12.1.1.13); empty where it tells none."""
    for failure in _failures(body):
        try:
            return f", {int(failure[_FAILURE_REASON]['Value'][0]):04X}"
        except (KeyError, IndexError, TypeError, ValueError):
            continue
    return ""
