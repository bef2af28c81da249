"""Headless Chromium, driven through its DevTools protocol over a pipe: no port, no driver, no package."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-pipe"),
)


def find() -> str | None:
    """The browser on this machine, None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Chromium:
    """One page; `requests` and `errors` are what it asked for and complained of since it was opened."""

    def __init__(self, executable: str, profile: Path) -> None:
        (reads, self._out), (self._in, writes) = os.pipe(), os.pipe()
        # the browser reads commands from descriptor 3 and writes answers to 4
        redirect = f'exec "$0" "$@" 3<&{reads} 4>&{writes}'
        command = ["bash", "-c", redirect, executable, *FLAGS, f"--user-data-dir={profile}"]
        self._process = subprocess.Popen(command, pass_fds=(reads, writes), stderr=subprocess.DEVNULL)
        os.close(reads)
        os.close(writes)
        self._buffer, self._count, self._session = b"", 0, {}
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.loaded = False
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self(f"{domain}.enable")

    def __call__(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command's result."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters, **self._session}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._count:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def _receive(self, patience: float = 120.0) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            assert select.select([self._in], [], [], patience)[0], "the browser is silent"
            part = os.read(self._in, 1 << 20)
            assert part, "the browser has gone"
            self._buffer += part
        message, self._buffer = self._buffer.split(b"\0", 1)
        event = json.loads(message)
        self._note(event.get("method", ""), event.get("params", {}))
        return event

    def _note(self, method: str, event: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(event["request"]["url"])
        elif method == "Page.loadEventFired":
            self.loaded = True
        elif method == "Runtime.exceptionThrown":
            self.errors.append(str(event["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and event["type"] in ("error", "warning", "assert"):
            self.errors.append(str(event["args"]))
        elif method == "Log.entryAdded" and event["entry"]["level"] in ("error", "warning"):
            self.errors.append(event["entry"]["text"])

    def open(
        self, address: str, width: int = 1280, height: int = 900, mobile: bool = False, dark: bool = False
    ) -> None:
        """Loads a page afresh in a window of this size."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
        self("Emulation.setDeviceMetricsOverride", **metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self("Emulation.setEmulatedMedia", features=[scheme])
        for each in ("about:blank", address):  # what differs after the # alone would not be loaded again
            self.loaded = False
            self("Page.navigate", url=each)
            while not self.loaded:
                self._receive()

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, waited for where it is a promise."""
        arguments = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        result = self("Runtime.evaluate", **arguments)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def press(self, key: str) -> None:
        """A key of the keyboard."""
        for kind in ("rawKeyDown", "keyUp"):
            self("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def screenshot(self, whole: bool = False) -> bytes:
        """What is seen, or the whole page, as a PNG file."""
        return base64.b64decode(self("Page.captureScreenshot", captureBeyondViewport=whole)["data"])

    def close(self) -> None:
        self._session = {}
        self("Browser.close")
        self._process.wait(timeout=60)
        os.close(self._in)
        os.close(self._out)
