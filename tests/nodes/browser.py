"""A headless Chromium, driven over the DevTools protocol: just what the test of the page needs."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run", "--disable-extensions", "--mute-audio", "--hide-scrollbars",
    "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-dev-shm-usage",
    "--remote-debugging-port=0", "--remote-allow-origins=*",
)  # fmt: skip
PATIENCE = 90.0
"""Before it first draws, a browser without a GPU works for some eight seconds, and answers nothing."""


class Browser:
    """One window with one page; ``with`` ends it."""

    def __init__(self, folder: Path, width: int = 860, height: int = 560) -> None:
        assert CHROMIUM
        size = f"--window-size={width},{height}"
        profile = Path(tempfile.mkdtemp(dir=folder))
        port = profile / "DevToolsActivePort"
        self._output = (profile / "chromium.log").open("wb")
        self._process = subprocess.Popen(
            ["nice", "-n", "5", CHROMIUM, *FLAGS, size, f"--user-data-dir={profile}", "about:blank"],
            stdout=self._output,
            stderr=self._output,
            process_group=0,
        )
        self.width, self.height = width, height
        self._next = 0
        self._session: str | None = None
        try:
            self._until(lambda: port.exists() and port.read_text().count("\n"), "the browser starts")
            number, path = port.read_text().split()
            self._socket = connect(f"ws://127.0.0.1:{number}{path}", max_size=None)
            (page,) = (t for t in self._send("Target.getTargets")["targetInfos"] if t["type"] == "page")
            attached = self._send("Target.attachToTarget", targetId=page["targetId"], flatten=True)
            self._session = attached["sessionId"]
            metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
            self.call("Emulation.setDeviceMetricsOverride", **metrics)
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._end()

    def _end(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # the head of a group of its own, with many helpers
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._output.close()

    def call(self, method: str, **params: Any) -> Any:
        """One DevTools command to the page, and its result."""
        return self._send(method, self._session, **params)

    def _send(self, method: str, session: str | None = None, **params: Any) -> Any:
        self._next += 1
        message = {"id": self._next, "method": method, "params": params}
        self._socket.send(json.dumps(message | ({"sessionId": session} if session else {})))
        while True:
            answer = json.loads(self._socket.recv(timeout=PATIENCE))
            if answer.get("id") == self._next:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def text(self) -> str:
        """What a person reads on the page."""
        return self.evaluate("document.body ? document.body.innerText : ''")

    def middle(self, selector: str, words: str = "") -> tuple[float, float]:
        """Where the first element is that matches a selector and begins with these words [pixels]."""
        found = self.evaluate(
            f"""(() => {{
                const all = [...document.querySelectorAll({json.dumps(selector)})];
                const one = all.find(e => e.innerText.trim().startsWith({json.dumps(words)}));
                if (!one) return null;
                const r = one.getBoundingClientRect();
                return [r.x + r.width / 2, r.y + r.height / 2, r.width, r.height];
            }})()"""
        )
        assert found, f"nothing matches {selector} '{words}':\n{self.text()}"
        return found[0], found[1]

    def mouse(self, kind: str, x: float, y: float, pressed: bool = False) -> None:
        self.call(
            "Input.dispatchMouseEvent",
            type=kind, x=x, y=y, button="left" if kind != "mouseMoved" or pressed else "none",
            buttons=int(pressed), clickCount=0 if kind == "mouseMoved" else 1,
        )  # fmt: skip

    def click(self, x: float, y: float) -> None:
        self.mouse("mouseMoved", x, y)
        self.mouse("mousePressed", x, y, pressed=True)
        self.mouse("mouseReleased", x, y)

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    @staticmethod
    def _until(condition: Callable[[], Any], what: str) -> None:
        give_up = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < give_up, f"{what}: not within {PATIENCE} s"
            time.sleep(0.02)
