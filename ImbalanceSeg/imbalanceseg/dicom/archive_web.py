"""Archives over DICOMweb: QIDO-RS to find, WADO-RS to fetch, STOW-RS to send."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
from dicomweb_client.api import DICOMwebClient
from requests.adapters import HTTPAdapter

from imbalanceseg.dicom.archive import (
    Archive,
    ArchiveError,
    ArchiveUnreachableError,
    Keep,
    RemoteSeries,
    SeriesQuery,
    remote_series,
)
from imbalanceseg.dicom.archive_address import refused
from imbalanceseg.dicom_tags import tag_text
from imbalanceseg.reading import printable, quiet_readers

if TYPE_CHECKING:
    from imbalanceseg.dicom.archive_address import Entrance

_BUSY = {408, 425, 429, 500, 502, 503, 504}
_FIELDS = (
    "PatientID",
    "StudyDate",
    "StudyInstanceUID",
    "SeriesDescription",
    "NumberOfSeriesRelatedInstances",
)
# The archive's own encoding: pixels are neither decoded nor encoded again on the way.
_AS_STORED = (("application/dicom", "*"),)
_AT_ONCE = 1 << 40


class WebArchive(Archive):
    """See :class:`~imbalanceseg.dicom.archive.Archive`.

    Args:
        address: of the service, under which ``/studies`` lies.
        entrance: token and certificates.
    """

    def __init__(self, address: str, entrance: Entrance) -> None:
        session = requests.Session()
        # Proxies and passwords of the surroundings are not for an archive.
        session.trust_env = False
        if entrance.token:
            session.headers["Authorization"] = f"Bearer {entrance.token}"
        session.mount("http://", _Adapter())
        if address.startswith("https:"):
            session.mount("https://", _ProtectedAdapter(entrance))
        # A body that is sent in chunks could not be sent again, and some archives take none.
        self._client = DICOMwebClient(
            address.rstrip("/"), session, chunk_size=_AT_ONCE, timeout=entrance.timeout_s
        )
        self._client.set_http_retry_params(retry=False)

    def find(self, query: SeriesQuery) -> list[RemoteSeries]:
        """QIDO-RS on series."""
        asked = {
            "PatientID": query.patient_id,
            "Modality": query.modality,
            "SeriesDescription": query.description,
            "StudyDate": query.date,
            "SeriesInstanceUID": query.series_uid,
        }
        with _told("find series"):
            found = self._client.search_for_series(
                query.study_uid or None,
                search_filters={name: value for name, value in asked.items() if value},
                fields=list(_FIELDS),
            )
            items = [_dataset(item) for item in found]
        return [remote_series(item) for item in items if item.get("SeriesInstanceUID")]

    def instances(self, study_uid: str, series_uid: str) -> list[str]:
        """QIDO-RS on instances; none where the archive does not know the series."""
        try:
            with _told("list a series"):
                found = self._client.search_for_instances(study_uid, series_uid)
                return [tag_text(_dataset(item), "SOPInstanceUID") for item in found]
        except _NotThereError:
            return []

    def fetch(self, series: RemoteSeries, wanted: Sequence[str], keep: Keep) -> None:
        """WADO-RS, instance by instance: what has arrived need not come again."""
        for uid in wanted:
            with _told("give an instance"):
                instance = self._client.retrieve_instance(
                    series.study_uid, series.series_uid, uid, media_types=_AS_STORED
                )
            keep(instance)

    def store(self, path: Path) -> None:
        """STOW-RS."""
        import pydicom

        with quiet_readers():
            instance = pydicom.dcmread(path)
        with _told("store a file"):
            answer = self._client.store_instances([instance])
        failed = answer.get("FailedSOPSequence")
        if failed:
            raise refused(f"store {path.name}", f"reason {failed[0].get('FailureReason', '?')}")


class _Adapter(HTTPAdapter):
    """Leaves the stars of a query as they are: Orthanc, for one, does not take ``%2A`` for one."""

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> Any:
        request.url = str(request.url).replace("%2A", "*")
        return super().send(request, *args, **kwargs)


class _ProtectedAdapter(_Adapter):
    """Checks the archive's certificate with the authorities that were named."""

    def __init__(self, entrance: Entrance) -> None:
        self._context = entrance.tls()
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, ssl_context=self._context)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """The context decides alone; requests would put its own authorities in its place."""


class _NotThereError(ArchiveError):
    """Status 404."""


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Errors of the line and of the archive as sentences."""
    try:
        with quiet_readers():
            yield
    except requests.HTTPError as error:
        status = 0 if error.response is None else error.response.status_code
        if status in _BUSY:
            raise ArchiveUnreachableError(
                "archive-busy",
                f"The archive cannot {what} now (HTTP {status}).",
                "Try again later.",
            ) from error
        if status == 404:
            raise _NotThereError(
                "archive-not-found",
                f"The archive knows nothing of it: it cannot {what} (HTTP 404).",
                "Check the address, which ends like /dicom-web, and the identifiers.",
            ) from error
        raise refused(what, f"HTTP {status}") from error
    except requests.exceptions.SSLError as error:
        raise ArchiveError(
            "archive-certificate",
            "The line to the archive cannot be protected: certificates do not fit "
            f"({printable(error, 100)}).",
            "Name the archive's authorities with --ca-file.",
        ) from error
    except requests.exceptions.JSONDecodeError as error:
        raise _not_dicom(error) from error
    except requests.RequestException as error:
        raise ArchiveUnreachableError(
            "archive-unreachable",
            f"The archive cannot be reached ({type(error).__name__}).",
            "Check the address and the network.",
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, EOFError) as error:
        raise _not_dicom(error) from error


def _not_dicom(error: Exception) -> ArchiveError:
    return ArchiveError(
        "archive-answer",
        f"The archive answers with something that is not DICOM ({printable(error, 100)}).",
        "Check the address, which ends like /dicom-web.",
    )


def _dataset(item: dict[str, Any]) -> Any:
    import pydicom

    return pydicom.Dataset.from_json(item)
