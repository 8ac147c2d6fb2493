"""A headless Chromium, driven by its DevTools protocol over one web socket."""

import base64
import itertools
import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

import cv2
import numpy as np

NAMES = ("chromium", "chromium-headless-shell", "chromium-browser", "google-chrome")
PATIENCE = 60.0  # seconds; a busy machine with WebGL in software is slow


def find_browser() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """One page. A context manager; leaving it ends the browser."""

    def __init__(self, program: str, url: str, profile: Path):
        options = ["--headless", "--no-sandbox", "--disable-gpu-sandbox", "--use-angle=swiftshader"]
        options += ["--enable-unsafe-swiftshader", "--remote-debugging-port=0", "--window-size=1000,700"]
        self._process = subprocess.Popen(
            [program, *options, f"--user-data-dir={profile}", url], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        port_file = profile / "DevToolsActivePort"
        wait_for(lambda: port_file.exists() and port_file.read_text().count("\n"), "the browser to start")
        address = f"http://127.0.0.1:{port_file.read_text().splitlines()[0]}/json/list"
        self._numbers = itertools.count()
        self._socket = self._connect(address)

    def evaluate(self, expression: str):
        """The value of a JavaScript expression."""
        return self._call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def press(self, key: str, times: int = 1) -> None:
        """Keys to whatever has the focus."""
        for _ in range(times):
            for kind in ("keyDown", "keyUp"):
                self._call("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def picture(self) -> np.ndarray:
        """The page's pixels, RGB."""
        data = base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"])
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]

    def _connect(self, address: str):
        from websockets.sync.client import connect

        def page():
            with urllib.request.urlopen(address) as response:
                return next((one for one in json.load(response) if one["type"] == "page"), None)

        return connect(wait_for(page, "the page to open")["webSocketDebuggerUrl"], max_size=None)

    def _call(self, method: str, **parameters):
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv(timeout=PATIENCE))
            if answer.get("id") == number:
                assert "error" not in answer, answer["error"]
                return answer["result"]

    def __enter__(self) -> "Page":
        return self

    def __exit__(self, *_) -> None:
        # The program may be a shell script: the browser ends itself.
        self._call("Browser.close")
        self._socket.close()
        self._process.wait(timeout=PATIENCE)


def wait_for(condition, what: str):
    """The first true value of `condition()`; a failure that names `what` if there is none in time."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"waited {PATIENCE:.0f} s for {what}")
