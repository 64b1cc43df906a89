"""How much a client may ask for."""

from __future__ import annotations

from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True)
class Limits:
    """Bounds that keep one client from taking everything.

    Attributes:
        upload_bytes: of one body, as it is sent.
        volume_bytes: of one case or annotation, decompressed.
        dicom_file_bytes: of one DICOM file.
        dicom_files: of one case.
        model_bytes: of a model that is handed out.
        json_bytes: of a request that is no upload.
        queued_jobs: that wait, of all clients.
        queued_jobs_of_client: that wait, of one client.
        uploads: at the same time.
        disk_bytes: of everything that is kept; the oldest results and cases go first.
    """

    upload_bytes: int = 4 * GIB
    volume_bytes: int = 8 * GIB
    dicom_file_bytes: int = GIB
    dicom_files: int = 10_000
    model_bytes: int = 4 * GIB
    json_bytes: int = 2**20
    queued_jobs: int = 256
    queued_jobs_of_client: int = 64
    uploads: int = 8
    disk_bytes: int = 50 * GIB
