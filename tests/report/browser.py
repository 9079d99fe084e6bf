"""A headless Chromium driven over its debugging pipe: opens a page, evaluates, types keys, collects complaints.

One browser serves all tests of a process, since starting one takes longer than most of them. Each page has a context of
its own, as a private window has: nothing that one page keeps is seen by another.
"""

import atexit
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)


def chromium() -> str | None:
    """Path of the browser, `None` if there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Browser:
    """A running browser."""

    def __init__(self) -> None:
        command = chromium()
        assert command is not None
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        (their_read, our_write), (our_read, their_write) = os.pipe(), os.pipe()
        words = ("bash", "-c", f'exec "$0" "$@" 3<&{their_read} 4>&{their_write}', command, *FLAGS)
        silent = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        self._process = subprocess.Popen(
            [*words, f"--user-data-dir={self._profile.name}"], pass_fds=(their_read, their_write), **silent
        )
        os.close(their_read)
        os.close(their_write)
        self._read, self._write = os.fdopen(our_read, "rb", buffering=0), os.fdopen(our_write, "wb", buffering=0)
        self._number, self._rest = 0, b""

    def call(self, method: str, page: "Page | None" = None, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if page is not None:
            message["sessionId"] = page.session
        self._write.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            if page is not None and answer.get("sessionId") == page.session:
                page.note(answer)

    def close(self) -> None:
        self._read.close()
        self._write.close()
        self._process.terminate()
        self._process.wait(timeout=30)
        self._profile.cleanup()

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            data = self._read.read(1 << 20)
            if not data:
                raise RuntimeError("the browser went away")
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)


@cache
def browser() -> Browser:
    """The browser of this process, ended with it."""
    started = Browser()
    atexit.register(started.close)
    return started


class Page:
    """One open page.

    Args:
        browser: where it is open.
        context: its private window.
    """

    def __init__(self, browser: Browser, context: str) -> None:
        self._browser = browser
        place = {"browserContextId": context, "width": 1366, "height": 768}
        target = browser.call("Target.createTarget", url="about:blank", **place)["targetId"]
        self.session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.complaints: list[str] = []
        self.requests: list[str] = []

    def open(self, url: str) -> None:
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=url)
        while not self.evaluate("document.documentElement?.dataset.ready === 'yes'"):
            time.sleep(0.05)

    def evaluate(self, expression: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"].get("description"))
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=key if len(key) == 1 else "")
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def resize(self, width: int, height: int) -> None:
        """Show the page on a screen of so many pixels, as a phone would."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def screenshot(self, path: Path) -> None:
        import base64

        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, self, **parameters)

    def note(self, event: dict[str, Any]) -> None:
        details = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(str(details["exceptionDetails"].get("exception", {}).get("description")))
        elif event.get("method") == "Log.entryAdded" and details["entry"]["level"] == "error":
            self.complaints.append(details["entry"]["text"])
        elif event.get("method") == "Runtime.consoleAPICalled" and details["type"] in ("error", "warning"):
            self.complaints.append(str(details["args"]))
        elif event.get("method") == "Network.requestWillBeSent":
            self.requests.append(details["request"]["url"])


@contextmanager
def browsing(url: str) -> Generator[Page]:
    """A page open at the address, closed at the end."""
    context = browser().call("Target.createBrowserContext")["browserContextId"]
    try:
        page = Page(browser(), context)
        page.open(url)
        yield page
    finally:
        browser().call("Target.disposeBrowserContext", browserContextId=context)
