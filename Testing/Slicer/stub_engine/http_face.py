"""The routes of the protocol (Docs/server.md), on the standard library alone."""

from __future__ import annotations

import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from job_book import FINAL, JobBook
from work import Fault

_SECONDS_OF_HEARTBEAT = 1.0
_ADDRESS, _NUMBER = "(?P<case>[0-9a-f]{64})", "(?P<job>[0-9a-f]{32})"
_ROUTES = (
    ("GET", "/v1/info", "info"),
    ("HEAD", f"/v1/cases/{_ADDRESS}", "has_case"),
    ("GET", f"/v1/cases/{_ADDRESS}", "get_case"),
    ("PUT", f"/v1/cases/{_ADDRESS}", "put_case"),
    ("DELETE", f"/v1/cases/{_ADDRESS}", "delete_case"),
    ("GET", "/v1/cases", "all_cases"),
    ("POST", "/v1/cases", "post_case"),
    ("PUT", f"/v1/cases/{_ADDRESS}/annotation", "put_annotation"),
    ("GET", f"/v1/cases/{_ADDRESS}/annotations", "all_annotations"),
    ("PUT", f"/v1/cases/{_ADDRESS}/dicom/(?P<file>[0-9]{{1,5}})", "put_dicom"),
    ("POST", "/v1/jobs", "post_job"),
    ("GET", "/v1/jobs", "all_jobs"),
    ("GET", f"/v1/jobs/{_NUMBER}", "get_job"),
    ("DELETE", f"/v1/jobs/{_NUMBER}", "delete_job"),
    ("POST", f"/v1/jobs/{_NUMBER}/finish", "finish_job"),
    ("GET", f"/v1/jobs/{_NUMBER}/preview", "preview"),
    ("GET", f"/v1/jobs/{_NUMBER}/events", "events"),
    ("GET", f"/v1/jobs/{_NUMBER}/results/(?P<name>[A-Za-z0-9_.-]{{1,64}})", "result"),
    ("GET", "/v1/models/(?P<model>[a-z0-9-]{1,80})", "get_model"),
    ("DELETE", "/v1/models/(?P<model>[a-z0-9-]{1,80})", "delete_model"),
)


def make_server(host: str, port: int, token: str, book: JobBook) -> ThreadingHTTPServer:
    """A server that waits to be started.

    Args:
        host: to listen on.
        port: 0 takes a free one.
        token: that clients show.
        book: what they ask.
    """

    class Handler(_Handler):
        pass

    Handler.token, Handler.book = token, book
    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    return server


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    token: str
    book: JobBook

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def log_message(self, *arguments: Any) -> None:
        pass

    def _answer(self) -> None:
        self._content: bytes | None = None
        place = urlsplit(self.path)
        self.query = {key: values[-1] for key, values in parse_qs(place.query).items()}
        try:
            # What is sent is taken, whatever the answer is: the line goes on after it.
            self._content = self._body()
            if self.headers.get("Authorization") != f"Bearer {self.token}":
                raise Fault("token-wrong", "The token is wrong.", "Check the token.", 401)
            for method, pattern, name in _ROUTES:
                found = re.fullmatch(pattern, place.path)
                if method == self.command and found:
                    getattr(self, f"_{name}")(**found.groupdict())
                    return
            raise Fault("not-found", "There is nothing at this address.", status=404)
        except Fault as fault:
            self._send(fault.body, fault.status)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(pieces)

    def _send(self, body: Any, status: int = 200, media: str = "application/json") -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode("utf-8")
        if status == 204:
            content = b""
        self.send_response(status)
        self.send_header("Content-Type", media)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _info(self) -> None:
        self._send(self.book.info())

    def _has_case(self, case: str) -> None:
        self.book.require_case(case)
        self._send(b"")

    def _get_case(self, case: str) -> None:
        self.book.require_case(case)
        self._send(self.book.cases[case])

    def _put_case(self, case: str) -> None:
        self._send(self.book.keep_case(case, self._content), 201)

    def _post_case(self) -> None:
        self._send(self.book.keep_case(None, self._content), 201)

    def _delete_case(self, case: str) -> None:
        self.book.drop_case(case)
        self._send(b"", 204)

    def _all_cases(self) -> None:
        self._send(list(self.book.cases.values())[::-1])

    def _put_annotation(self, case: str) -> None:
        self._send(self.book.keep_annotation(case, self._content), 201)

    def _all_annotations(self, case: str) -> None:
        kept = self.book.annotations.get(case, {})
        self._send([self.book.annotation_view(case, one) for one in reversed(kept)])

    def _put_dicom(self, case: str, file: str) -> None:
        self.book.require_case(case)
        self.book.series.setdefault(case, {})[int(file)] = self._content
        self._send(b"", 204)

    def _post_job(self) -> None:
        client = self.headers.get("X-Client", "anonymous")
        try:
            job = self.book.submit(client, json.loads(self._content))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Fault("request-invalid", f"The request is damaged ({error!r}).") from error
        if seconds := float(self.query.get("wait", 0)):
            self.book.wait(job["id"], seconds)
        self._send(self.book.job(job["id"]), 202)

    def _all_jobs(self) -> None:
        found = list(self.book.jobs.values())[::-1]
        case = self.query.get("case")
        found = [job for job in found if case in (None, job["case"])]
        self._send(found[: int(self.query.get("limit", 100))])

    def _get_job(self, job: str) -> None:
        self._send(self.book.job(job))

    def _delete_job(self, job: str) -> None:
        self._send(b"", self.book.delete(job))

    def _result(self, job: str, name: str) -> None:
        if self.book.job(job)["state"] not in FINAL:
            raise Fault("job-unfinished", "The job is not over.", status=409)
        made = self.book.made.get(job)
        if made is None or name not in made.files:
            raise Fault("result-unknown", "The job has no such file.", status=404)
        self._send(made.files[name], media="application/octet-stream")

    def _finish_job(self, job: str) -> None:
        self._send(self.book.finish(job), 202)

    def _preview(self, job: str) -> None:
        self.book.job(job)
        if job not in self.book.previews:
            raise Fault("preview-unknown", "The job shows nothing yet.", status=404)
        self._send(self.book.previews[job], media="application/octet-stream")

    def _get_model(self, model: str) -> None:
        self._send(self.book.archive(model), media="application/zip")

    def _delete_model(self, model: str) -> None:
        if self.book.adapted.pop(model, None) is None:
            raise Fault("model-unknown", "No such model was adapted here.", status=404)
        self._send(b"", 204)

    def _events(self, job: str) -> None:
        self.book.job(job)
        after = int(self.headers.get("Last-Event-ID", 0))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        while True:
            news = self.book.events(job, after)
            for event in news:
                after += 1
                self._write(f"id: {after}\ndata: {json.dumps(event)}\n\n")
                if event["event"] == "state" and event["job"]["state"] in FINAL:
                    return
            if not news and not self._wait_for_news(job, after):
                self._write(": still here\n\n")

    def _wait_for_news(self, job: str, after: int) -> bool:
        book = self.book
        with book.news:
            return book.news.wait_for(lambda: book.events(job, after), _SECONDS_OF_HEARTBEAT)

    def _write(self, text: str) -> None:
        self.wfile.write(text.encode("utf-8"))
        self.wfile.flush()
