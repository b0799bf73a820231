"""Serve the reports of some runs; each page refreshes itself when its run has come further."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from data.data_error import DataError
from train.report.charts import line_chart
from train.report.page import RUN_STYLE, escaped, html_page
from train.report.run_files import SOURCES, read_run

log = logging.getLogger(__name__)

NAME = "report.html"
#: Asks every two seconds whether there is a newer version of the page.
REFRESH = """<script>
setInterval(async () => {
  try {
    const answer = await fetch(location.href, {method: "HEAD", cache: "no-store"});
    if (answer.headers.get("ETag") !== "VERSION") location.reload();
  } catch {}  // the server has ended
}, 2000);
</script>
"""


class Reports:
    """The pages of some runs at `/0`, `/1`, ...; `/` is a list of them, or the only page.

    A page is report.html, or is made anew if another file of the run is newer.
    """

    def __init__(self, folders: Sequence[Path]):
        self.folders = folders
        self._made: dict[int, tuple[str, str]] = {}  # number of a run -> version, page
        self._lock = threading.Lock()

    def number(self, path: str) -> int | None:
        """Return which run an address asks for; None: the list of all. Raises KeyError."""
        if path == "/":
            return 0 if len(self.folders) == 1 else None
        return {f"/{number}": number for number in range(len(self.folders))}[path]

    def version(self, number: int | None) -> str:
        """Return a word that changes whenever the page does."""
        if number is None:
            return "-".join(map(self.version, range(len(self.folders))))
        return f"{_changed(self.folders[number], SOURCES):x}"

    def page(self, number: int | None) -> tuple[str, str]:
        """Return the version and the html of a page."""
        version = self.version(number)
        if number is None:
            page = self._list()
        else:
            with self._lock:
                if self._made.get(number, ("",))[0] != version:
                    self._made[number] = version, self._report(self.folders[number])
                page = self._made[number][1]
        return version, page.replace("</body>", f"{REFRESH.replace('VERSION', version)}</body>")

    def _report(self, folder: Path) -> str:
        written = _changed(folder, [NAME])
        try:
            if written and written >= _changed(folder, SOURCES):
                return (folder / NAME).read_text(encoding="utf-8")
            from train.report.run_report import run_page  # imports torch

            return run_page(read_run(folder))
        except (DataError, OSError) as error:
            return html_page(folder.name, [f"<h1>{escaped(folder)}</h1><p>{escaped(error)}</p>"])

    def _list(self) -> str:
        rows, lines = [], {}
        for number, folder in enumerate(self.folders):
            link = f'<a href="/{number}">{escaped(folder)}</a>'
            try:
                run = read_run(folder)
            except (DataError, OSError) as error:
                rows.append(f"<tr><td>{link}</td><td colspan=2>{escaped(error)}</td></tr>")
                continue
            best = max((row["Top1"] for row in run.val.rows), default=None)
            rows.append(
                f"<tr><td>{link}</td><td>{run.epoch} of {run.epochs}</td>"
                f"<td>{'' if best is None else f'{best:.1f} %'}</td></tr>"
            )
            if run.val.rows:
                lines[str(folder)] = run.val.column("Epoch"), run.val.column("Top1")
        parts = [
            "<h1>Reports</h1><table><tr><th>run</th><th>epoch</th><th>best top-1</th></tr>",
            *rows,
            "</table>",
        ]
        if lines:
            parts.append(line_chart("top-1 accuracy in validation (%)", lines))
        return html_page("Reports", parts, style=RUN_STYLE)


def _changed(folder: Path, names: Sequence[str]) -> int:
    """Return when the newest of some files was written, in nanoseconds; 0 if there is none."""
    times = [0]
    for name in names:
        with contextlib.suppress(OSError):  # it is not there
            times.append((folder / name).stat().st_mtime_ns)
    return max(times)


def handler_of(reports: Reports) -> type[BaseHTTPRequestHandler]:
    """Return the class that answers the requests for `reports`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(with_page=True)

        def do_HEAD(self) -> None:
            self._answer(with_page=False)

        def _answer(self, *, with_page: bool) -> None:
            try:
                number = reports.number(urlsplit(self.path).path)
            except KeyError:
                self.send_error(404)
                return
            content = b""
            if with_page:
                version, page = reports.page(number)
                content = page.encode()
            else:
                version = reports.version(number)
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("ETag", version)
            self.send_header("Cache-Control", "no-store")
            if with_page:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            log.debug(format, *args)

    return Handler


def server_of(folders: Sequence[Path], host: str, port: int) -> ThreadingHTTPServer:
    """Return a server that is ready to serve the reports of `folders`.

    Raises:
        DataError: host and port cannot be used.
    """
    try:
        server = ThreadingHTTPServer((host, port), handler_of(Reports(folders)))
    except OSError as error:
        raise DataError(
            f"--host {host} --port {port}: cannot be served at ({error.strerror}); give others"
        ) from error
    server.daemon_threads = True
    return server


def serve(folders: Sequence[Path], host: str, port: int) -> None:
    """Serve the reports until Ctrl-C. Raises DataError if host and port cannot be used."""
    with server_of(folders, host, port) as server:
        print(f"http://{host}:{server.server_port}/ (Ctrl-C ends it)", flush=True)
        server.serve_forever()
