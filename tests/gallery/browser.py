"""A page as headless Chromium sees it: its requests, console errors, width and a screenshot."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import websocket

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars --remote-debugging-port=0 --remote-allow-origins=*"
).split()


@dataclass
class Visit:
    """What one page did."""

    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    screenshot: bytes = b""
    values: dict[str, Any] = field(default_factory=dict)


class Browser:
    """Chromium without a screen; a context manager."""

    def __enter__(self) -> Browser:
        self._profile = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        self._process = subprocess.Popen(
            [CHROMIUM, *FLAGS, f"--user-data-dir={self._profile.name}", "about:blank"], stderr=subprocess.DEVNULL
        )
        port_file, end = Path(self._profile.name) / "DevToolsActivePort", time.monotonic() + 60
        while not (port_file.is_file() and port_file.read_text().strip()):
            assert time.monotonic() < end, "Chromium didn't start"
            time.sleep(0.1)
        port = port_file.read_text().split()[0]
        pages = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/json"))
        address = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
        self._socket, self._ids = websocket.create_connection(address, timeout=60), itertools.count()
        self._events: list[dict[str, Any]] = []
        for domain in ("Page", "Network", "Runtime", "Log"):
            self._call(f"{domain}.enable")
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._process.kill()
        self._process.wait()
        self._profile.cleanup()

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while (message := json.loads(self._socket.recv())).get("id") != number:
            self._events.append(message)
        assert "error" not in message, message
        return message["result"]

    def evaluate(self, expression: str) -> Any:
        """A JavaScript expression's value; promises are awaited."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        return answer["result"].get("value")

    def type(self, text: str) -> None:
        """Press the keys of `text`, for whatever has the focus."""
        for letter in text:
            self._call("Input.dispatchKeyEvent", type="keyDown", text=letter, key=letter)
            self._call("Input.dispatchKeyEvent", type="keyUp", key=letter)

    def visit(self, address: str, width: int, height: int = 900, **expressions: str) -> Visit:
        """Open a page at a width in CSS pixels, let it settle, and evaluate the named expressions."""
        self._events.clear()
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self._call("Page.navigate", url=address)
        end = time.monotonic() + 60
        while self.evaluate("document.readyState") != "complete" and time.monotonic() < end:
            time.sleep(0.1)
        self.evaluate("new Promise(done => window.MathJax ? MathJax.Hub.Queue(() => done(1)) : done(0))")
        self.evaluate("document.fonts.ready.then(() => 1)")
        visit = Visit(values={name: self.evaluate(expression) for name, expression in expressions.items()})
        shot = self._call("Page.captureScreenshot", captureBeyondViewport=False)
        visit.screenshot = base64.b64decode(shot["data"])
        for event in self._events:
            parameters = event.get("params", {})
            if event["method"] == "Network.requestWillBeSent":
                visit.requests.append(parameters["request"]["url"])
            elif event["method"] == "Runtime.exceptionThrown":
                visit.errors.append(parameters["exceptionDetails"]["text"])
            elif event["method"] == "Log.entryAdded" and parameters["entry"]["level"] == "error":
                visit.errors.append(parameters["entry"]["text"])
            elif event["method"] == "Runtime.consoleAPICalled" and parameters["type"] == "error":
                visit.errors.append(str(parameters["args"]))
        return visit
