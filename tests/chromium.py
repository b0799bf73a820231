"""A headless Chromium, steered through its DevTools protocol, for tests of html pages."""

import base64
import contextlib
import fcntl
import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE = 120  # seconds


def installed() -> str | None:
    """The browser's program; None where there is none (Debian: apt-get install chromium)."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """One page of a browser, and every address that it has asked for."""

    def __init__(self, commands: int, answers: int):
        self._commands, self._answers = commands, answers
        self._unread, self._events, self._numbers = b"", [], itertools.count(1)
        self._session: dict[str, str] = {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._session = {"sessionId": session}
        for domain in ("Page", "Network", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params):
        """The result of a method of the protocol."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params, **self._session}
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]
            self._events.append(answer)

    def wait_for(self, event: str) -> None:
        """Return when the event has come."""
        while not any(answer.get("method") == event for answer in self._events):
            self._events.append(self._receive())

    def open(self, address: str) -> None:
        """Load a page, with its pictures."""
        self.forget()
        self.call("Page.navigate", url=address)
        self.wait_for("Page.loadEventFired")

    def forget(self) -> None:
        """Forget the events that have come so far."""
        self._events.clear()

    def width(self, pixels: int, height: int = 800) -> None:
        """Make the window so wide, as a phone if it is narrow."""
        self.call("Emulation.setDeviceMetricsOverride", width=pixels, height=height,
                  deviceScaleFactor=1, mobile=pixels < 600)  # fmt: skip

    def value(self, script: str):
        """The value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True,
                           awaitPromise=True)  # fmt: skip
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def requests(self) -> list[str]:
        """All addresses that the page has asked for since it was opened, without data: ones."""
        asked = [
            answer["params"]["request"]["url"]
            for answer in self._events
            if answer.get("method") == "Network.requestWillBeSent"
        ]
        return [address for address in asked if not address.startswith("data:")]

    def screenshot(self, path: Path) -> None:
        """Write a picture of the whole page."""
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(answer["data"]))

    def _receive(self) -> dict:
        end = time.monotonic() + PATIENCE
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._answers], [], [], max(0, end - time.monotonic()))
            assert ready, "the browser does not answer"
            got = os.read(self._answers, 1 << 20)
            assert got, "the browser has ended"
            self._unread += got
        message, _, self._unread = self._unread.partition(b"\0")
        return json.loads(message)


def _pipe() -> list[int]:
    """A pipe whose file descriptors are at least 10."""
    ends = []
    for end in os.pipe():
        ends.append(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10))
        os.close(end)
    return ends


@contextlib.contextmanager
def browser() -> Iterator[Page]:
    """Start the browser for the block; it has no network but this machine's."""
    to_browser, commands = _pipe()
    answers, from_browser = _pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # the protocol is spoken through the file descriptors 3 and 4; the pipes' own are higher
        script = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
        words = [
            installed(), "--headless=new", "--no-sandbox", "--disable-gpu",
            "--disable-dev-shm-usage", "--remote-debugging-pipe", f"--user-data-dir={profile}",
            "--no-first-run", "--disable-background-networking", "--hide-scrollbars",
        ]  # fmt: skip
        process = subprocess.Popen(
            ["bash", "-c", script, "bash", *words],
            pass_fds=(to_browser, from_browser),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(to_browser)
        os.close(from_browser)
        try:
            yield Page(commands, answers)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            os.close(commands)
            os.close(answers)
