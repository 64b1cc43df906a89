"""What outlives the server: a folder of files and a SQLite table of what they are."""

from __future__ import annotations

import errno
import json
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from imbalanceseg.atomic import output_error
from imbalanceseg.errors import OutputError
from imbalanceseg.server.records import (
    Fault,
    Job,
    JobKind,
    JobState,
    StoredAnnotation,
    StoredCase,
    StoredModel,
)

_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE cases (
    id TEXT PRIMARY KEY, channels INTEGER, size TEXT, pixel_type TEXT, bytes INTEGER,
    created REAL, used REAL);
CREATE TABLE annotations (
    id TEXT, "case" TEXT, bytes INTEGER, created REAL, PRIMARY KEY (id, "case"));
CREATE TABLE models (
    id TEXT PRIMARY KEY, "case" TEXT, job TEXT, bytes INTEGER, created REAL);
CREATE TABLE jobs (
    id TEXT PRIMARY KEY, client TEXT, kind TEXT, "case" TEXT, parameters TEXT, created REAL,
    state TEXT, base TEXT, started REAL, finished REAL, fault TEXT, outcome TEXT, files TEXT,
    last_event INTEGER, bytes INTEGER, used REAL);
CREATE INDEX jobs_of_case ON jobs ("case");
CREATE INDEX jobs_by_use ON jobs (used);
"""
_JSON = ("parameters", "fault", "outcome", "files")


class Store:
    """Cases, annotations, adapted models, jobs and their results.

    Every file appears whole: it is made in :attr:`work` and renamed. Methods may be called from any
    thread.

    Args:
        folder: made when missing; one server at a time.

    Raises:
        OutputError: ``data-folder-in-use``, or ``data-folder``: it cannot be used, or a newer
            server has written it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.work = self.folder / "work"
        self._lock = threading.RLock()
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._database = sqlite3.connect(
                self.folder / "engine.sqlite", check_same_thread=False, isolation_level=None
            )
            self._open_database()
            shutil.rmtree(self.work, ignore_errors=True)
            for name in ("work", "cases", "annotations", "models", "results", "checkpoints"):
                (self.folder / name).mkdir(exist_ok=True, mode=0o700)
            for half_written in (self.folder / "checkpoints").glob(".*"):
                half_written.unlink()
        except (OSError, sqlite3.Error) as error:
            if getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY"):
                raise OutputError(
                    "data-folder-in-use",
                    f"Another server uses the data folder {folder}.",
                    "Stop that one, or choose another folder with --data.",
                ) from error
            raise OutputError(
                "data-folder",
                f"The data folder {folder} cannot be used ({error}).",
                "Choose a folder in which you may write.",
            ) from error

    def close(self) -> None:
        """Close the table; nothing is lost without it."""
        with self._lock:
            self._database.close()

    # cases

    def case_folder(self, case: str) -> Path:
        """Where the channels of a case lie, ``channel_0.nrrd`` and so on."""
        return self.folder / "cases" / case

    def dicom_folder(self, case: str) -> Path:
        """Where the headers of the series lie that a case came from."""
        return self.case_folder(case) / "dicom"

    def add_case(self, case: StoredCase, made: Path) -> None:
        """Take over a folder that was filled in :attr:`work`."""
        with self._transaction():
            if self.case(case.id) is not None:
                shutil.rmtree(made)
                return
            shutil.rmtree(self.case_folder(case.id), ignore_errors=True)
            made.rename(self.case_folder(case.id))
            row = asdict(case) | {"size": json.dumps(case.size), "used": time.time()}
            self._insert("cases", row)

    def case(self, case: str) -> StoredCase | None:
        """What is known of a case."""
        row = self._one("SELECT * FROM cases WHERE id = ?", case)
        if row is None:
            return None
        x, y, z = json.loads(row["size"])
        return StoredCase(
            row["id"], row["channels"], (x, y, z), row["pixel_type"], row["bytes"], row["created"]
        )

    def cases(self) -> list[StoredCase]:
        """All, the latest first."""
        rows = self._all("SELECT id FROM cases ORDER BY created DESC")
        return [case for row in rows if (case := self.case(row["id"]))]

    def grow_case(self, case: str, more_bytes: int) -> None:
        """Count files that were added to a case."""
        with self._transaction() as database:
            database.execute("UPDATE cases SET bytes = bytes + ? WHERE id = ?", (more_bytes, case))

    def drop_case(self, case: str) -> None:
        """Forget the voxels of a case; annotations, models and jobs stay."""
        with self._transaction() as database:
            database.execute("DELETE FROM cases WHERE id = ?", (case,))
        shutil.rmtree(self.case_folder(case), ignore_errors=True)

    # annotations

    def annotation_file(self, case: str, annotation: str) -> Path:
        """Where an annotation lies."""
        return self.folder / "annotations" / case / f"{annotation}.nrrd"

    def add_annotation(self, annotation: StoredAnnotation, made: Path) -> None:
        """Take over a file; the same content again counts as the latest."""
        with self._transaction() as database:
            target = self.annotation_file(annotation.case, annotation.id)
            target.parent.mkdir(exist_ok=True, mode=0o700)
            made.replace(target)
            key = (annotation.id, annotation.case)
            database.execute('DELETE FROM annotations WHERE id = ? AND "case" = ?', key)
            self._insert("annotations", asdict(annotation))

    def annotations(self, case: str) -> list[StoredAnnotation]:
        """Of a case, the latest first."""
        rows = self._all(
            'SELECT * FROM annotations WHERE "case" = ? ORDER BY created DESC, rowid DESC', case
        )
        return [StoredAnnotation(**dict(row)) for row in rows]

    def drop_annotation(self, case: str, annotation: str) -> None:
        """Delete an annotation, because somebody said so."""
        with self._transaction() as database:
            database.execute(
                'DELETE FROM annotations WHERE id = ? AND "case" = ?', (annotation, case)
            )
        self.annotation_file(case, annotation).unlink(missing_ok=True)

    # models

    def model_folder(self, model: str) -> Path:
        """Where an adapted model lies."""
        return self.folder / "models" / model

    def add_model(self, model: StoredModel, made: Path) -> None:
        """Take over a bundle that was written in :attr:`work`."""
        with self._transaction():
            made.rename(self.model_folder(model.id))
            self._insert("models", asdict(model))

    def model(self, model: str) -> StoredModel | None:
        """What is known of an adapted model."""
        row = self._one("SELECT * FROM models WHERE id = ?", model)
        return None if row is None else StoredModel(**dict(row))

    def models(self) -> list[StoredModel]:
        """All that were adapted here, the latest first."""
        rows = self._all("SELECT * FROM models ORDER BY created DESC")
        return [StoredModel(**dict(row)) for row in rows]

    def drop_model(self, model: str) -> None:
        """Delete an adapted model, because somebody said so."""
        with self._transaction() as database:
            database.execute("DELETE FROM models WHERE id = ?", (model,))
        shutil.rmtree(self.model_folder(model), ignore_errors=True)

    # jobs

    def result_folder(self, job: str) -> Path:
        """Where the results of a job lie."""
        return self.folder / "results" / job

    def checkpoint_file(self, job: str) -> Path:
        """Where an adaptation leaves what it needs to go on after it was killed."""
        return self.folder / "checkpoints" / f"{job}.safetensors"

    def save_job(self, job: Job, made: Path | None = None) -> None:
        """Write down how a job stands, and take over the folder of its results."""
        row = asdict(job)
        row |= {name: json.dumps(row[name]) for name in _JSON}
        row |= {"bytes": sum(job.files.values()), "used": time.time()}
        columns = ", ".join(f'"{name}"' for name in row)
        marks = ", ".join(f":{name}" for name in row)
        with self._transaction() as database:
            if made is not None:
                shutil.rmtree(self.result_folder(job.id), ignore_errors=True)
                made.rename(self.result_folder(job.id))
            database.execute(f"INSERT OR REPLACE INTO jobs ({columns}) VALUES ({marks})", row)

    def job(self, job: str) -> Job | None:
        """A job by its number."""
        row = self._one("SELECT * FROM jobs WHERE id = ?", job)
        return None if row is None else _job(row)

    def jobs(self, where: str = "1", *values: Any, limit: int = 1000) -> list[Job]:
        """Jobs that fulfil a condition of SQL, the latest first."""
        rows = self._all(
            f"SELECT * FROM jobs WHERE {where} ORDER BY created DESC, rowid DESC LIMIT ?",
            *values,
            limit,
        )
        return [_job(row) for row in rows]

    def chain(self, job: str) -> list[Job]:
        """A job, the one it goes on from, and so on to the first that is no click; all are used."""
        query = (
            "WITH RECURSIVE chain(id, depth) AS (SELECT ?, 0 UNION ALL"
            " SELECT jobs.base, depth + 1 FROM chain JOIN jobs ON jobs.id = chain.id"
            " WHERE jobs.kind = 'click')"
        )
        rows = self._all(
            f"{query} SELECT jobs.* FROM chain JOIN jobs USING (id) ORDER BY depth", job
        )
        with self._transaction() as database:
            database.execute(
                f"{query} UPDATE jobs SET used = ? WHERE id IN (SELECT id FROM chain)",
                (job, time.time()),
            )
        return [_job(row) for row in rows]

    def drop_results(self, job: str) -> None:
        """Delete the files of a job; what was asked for, and what came of it, stays known."""
        with self._transaction() as database:
            database.execute("UPDATE jobs SET files = '{}', bytes = 0 WHERE id = ?", (job,))
        shutil.rmtree(self.result_folder(job), ignore_errors=True)

    def drop_job(self, job: str) -> None:
        """Forget a job."""
        with self._transaction() as database:
            database.execute("DELETE FROM jobs WHERE id = ?", (job,))
        shutil.rmtree(self.result_folder(job), ignore_errors=True)

    # space

    def touch(self, table: str, identifier: str) -> None:
        """Count a case or a job as used now."""
        with self._transaction() as database:
            database.execute(f"UPDATE {table} SET used = ? WHERE id = ?", (time.time(), identifier))

    def used_bytes(self) -> int:
        """Of everything that is kept."""
        row = self._one(
            "SELECT (SELECT ifnull(sum(bytes), 0) FROM cases)"
            " + (SELECT ifnull(sum(bytes), 0) FROM annotations)"
            " + (SELECT ifnull(sum(bytes), 0) FROM models)"
            " + (SELECT ifnull(sum(bytes), 0) FROM jobs) AS total"
        )
        assert row is not None
        return int(row["total"])

    def least_recently_used(self) -> list[tuple[str, str, int]]:
        """Table, number and bytes of the cases and results that no job needs now, oldest first.

        A case is older than its results, so that these are not left without it for nothing.
        """
        rows = self._all(
            "SELECT 'jobs' AS place, id, bytes, used FROM jobs WHERE bytes > 0"
            " AND state NOT IN ('queued', 'running')"
            " AND id NOT IN (SELECT base FROM jobs WHERE base IS NOT NULL"
            "                AND state IN ('queued', 'running'))"
            " UNION ALL SELECT 'cases', id, bytes, used FROM cases"
            " WHERE id NOT IN (SELECT \"case\" FROM jobs WHERE state IN ('queued', 'running'))"
            " ORDER BY used"
        )
        return [(row["place"], row["id"], row["bytes"]) for row in rows]

    # table

    def _open_database(self) -> None:
        database = self._database
        database.row_factory = sqlite3.Row
        # Held as long as the server runs, so that a second one cannot take the folder.
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA busy_timeout = 1000")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute("BEGIN EXCLUSIVE")
        database.execute("COMMIT")
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            database.executescript(
                f"BEGIN;{_SCHEMA}PRAGMA user_version = {_SCHEMA_VERSION};COMMIT;"
            )
        elif version != _SCHEMA_VERSION:
            raise sqlite3.DatabaseError(f"it has version {version}, {_SCHEMA_VERSION} is known")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._faults_told():
            if self._database.in_transaction:
                yield self._database
                return
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                # Where the disk is full, SQLite gives a transaction up by itself.
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    @contextmanager
    def _faults_told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise output_error(self.folder, error) from error
        except sqlite3.OperationalError as error:
            full = getattr(error, "sqlite_errorname", "") == "SQLITE_FULL"
            told = OSError(errno.ENOSPC if full else errno.EIO, str(error))
            raise output_error(self.folder, told) from error

    def _insert(self, table: str, row: Mapping[str, Any]) -> None:
        columns = ", ".join(f'"{name}"' for name in row)
        marks = ", ".join(f":{name}" for name in row)
        self._database.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", dict(row))

    def _one(self, query: str, *values: Any) -> sqlite3.Row | None:
        with self._lock:
            row: sqlite3.Row | None = self._database.execute(query, values).fetchone()
            return row

    def _all(self, query: str, *values: Any) -> list[sqlite3.Row]:
        with self._lock:
            return self._database.execute(query, values).fetchall()


def _job(row: sqlite3.Row) -> Job:
    values = {key: row[key] for key in row.keys() if key not in ("bytes", "used")}  # noqa: SIM118
    values |= {name: json.loads(values[name]) for name in _JSON}
    fault = values.pop("fault")
    return Job(
        **values
        | {
            "kind": JobKind(values["kind"]),
            "state": JobState(values["state"]),
            "fault": None if fault is None else Fault(**fault),
        }
    )
