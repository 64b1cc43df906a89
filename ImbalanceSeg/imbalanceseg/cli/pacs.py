"""``imbalanceseg pacs``: find series in an archive, get them, and send results to it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imbalanceseg.cli.console import ProgressStyle, print_json, print_table, show_progress
from imbalanceseg.cli.models import JsonOption
from imbalanceseg.errors import InputError

if TYPE_CHECKING:
    from imbalanceseg.dicom.archive import Archive

app = typer.Typer(
    help="Find, get and send DICOM series: DICOMweb or DIMSE.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

ArchiveOption = Annotated[
    str,
    typer.Option(
        "--archive",
        metavar="URL",
        envvar="IMBALANCESEG_PACS",
        help="https://HOST/dicom-web, or dicom://TITLE@HOST:PORT (dicoms:// with TLS).",
    ),
]
TokenOption = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help="Holds the token for DICOMweb; else IMBALANCESEG_PACS_TOKEN does.",
    ),
]
AuthoritiesOption = Annotated[
    Path | None,
    typer.Option("--ca-file", metavar="PEM", help="Authorities that the archive is checked with."),
]
CertificateOption = Annotated[
    Path | None,
    typer.Option("--certificate", metavar="PEM", help="One's own certificate and key."),
]
TitleOption = Annotated[
    str, typer.Option("--title", metavar="AE", help="One's own title, for DIMSE.")
]
TimeoutOption = Annotated[
    float, typer.Option("--timeout", min=1, metavar="S", help="Seconds to wait for an answer.")
]
ListenOption = Annotated[
    int | None,
    typer.Option(
        "--listen",
        metavar="PORT",
        min=1,
        max=65535,
        help="Be sent to on this port (C-MOVE) instead of fetching (C-GET).",
    ),
]


@app.command()
def find(
    archive: ArchiveOption,
    patient: Annotated[str, typer.Option(metavar="ID", help="Patient ID; * for any text.")] = "",
    modality: Annotated[str, typer.Option(metavar="CT|MR|SEG|...")] = "",
    description: Annotated[str, typer.Option(metavar="TEXT", help="Of the series.")] = "",
    date: Annotated[str, typer.Option(metavar="YYYYMMDD[-YYYYMMDD]", help="Of the study.")] = "",
    study: Annotated[str, typer.Option(metavar="UID")] = "",
    token_file: TokenOption = None,
    authorities: AuthoritiesOption = None,
    certificate: CertificateOption = None,
    title: TitleOption = "IMBALANCESEG",
    timeout: TimeoutOption = 30.0,
    as_json: JsonOption = False,
) -> None:
    """List series of an archive, the newest study first."""
    from imbalanceseg.dicom.archive import SeriesQuery, find_series

    opened = _opened(archive, token_file, authorities, certificate, title, None, timeout)
    found = find_series(opened, SeriesQuery(patient, modality, description, date, study))
    if as_json:
        print_json([asdict(series) for series in found])
        return
    rows = [("date", "patient", "modality", "description", "images", "series")]
    for series in found:
        count = "" if series.instances is None else str(series.instances)
        rows.append(
            (
                series.date,
                series.patient_id,
                series.modality,
                series.description,
                count,
                series.series_uid,
            )
        )
    print_table(rows)


@app.command()
def get(
    uid: Annotated[str, typer.Argument(metavar="SERIES", help="UID of the series.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for its files.")
    ],
    archive: ArchiveOption,
    study: Annotated[
        str, typer.Option(metavar="UID", help="Its study, where the archive is slow without.")
    ] = "",
    token_file: TokenOption = None,
    authorities: AuthoritiesOption = None,
    certificate: CertificateOption = None,
    title: TitleOption = "IMBALANCESEG",
    listen: ListenOption = None,
    timeout: TimeoutOption = 30.0,
) -> None:
    """Fetch a series; the same command goes on after an interruption."""
    from imbalanceseg.dicom.archive import SeriesQuery, find_series, get_series
    from imbalanceseg.session import output_folder

    opened = _opened(archive, token_file, authorities, certificate, title, listen, timeout)
    found = find_series(opened, SeriesQuery(series_uid=uid, study_uid=study))
    if not found:
        raise InputError(
            "series-not-found",
            f"The archive has no series {uid}.",
            "See what it has: imbalanceseg pacs find.",
        )
    with output_folder(output), show_progress(ProgressStyle.BAR) as tell:
        result = get_series(opened, found[0], output, tell)
    print(f"{result.done} files fetched, {result.before} were there already: {output}")


@app.command()
def send(
    paths: Annotated[list[Path], typer.Argument(metavar="FILE|DIR...", help="DICOM files.")],
    archive: ArchiveOption,
    token_file: TokenOption = None,
    authorities: AuthoritiesOption = None,
    certificate: CertificateOption = None,
    title: TitleOption = "IMBALANCESEG",
    timeout: TimeoutOption = 30.0,
) -> None:
    """Send files to an archive; what it has already is left out."""
    from imbalanceseg.dicom.archive import dicom_files, send_files

    opened = _opened(archive, token_file, authorities, certificate, title, None, timeout)
    files = dicom_files(paths)
    with show_progress(ProgressStyle.BAR) as tell:
        result = send_files(opened, files, tell)
    print(f"{result.done} files sent, {result.before} were there already.")


def _opened(
    address: str,
    token_file: Path | None,
    authorities: Path | None,
    certificate: Path | None,
    title: str,
    listen: int | None,
    timeout: float,
) -> Archive:
    from imbalanceseg.dicom.archive_address import Entrance, open_archive, token_from

    token = token_from(token_file)
    return open_archive(address, Entrance(token, authorities, certificate, title, listen, timeout))
