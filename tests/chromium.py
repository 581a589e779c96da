"""A headless Chromium for tests and for the pictures in docs/: opens pages, and says what is seen.

Speaks the DevTools protocol over two pipes, so that there is no port and no other program.
"""

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-default-apps", "--disable-dev-shm-usage", "--disable-extensions", "--mute-audio",
    "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip
ANSWER_S, SEEN_S, ASK_S = 30.0, 30.0, 0.05
END = b"\0"


class Chromium:
    """The browser; a context manager."""

    def __init__(self, folder: Path) -> None:
        """folder: for its profile and its log."""
        self._folder = folder
        self._numbers = itertools.count(1)
        self._held = b""
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> "Chromium":
        theirs_in, self._to = os.pipe()
        self._from, theirs_out = os.pipe()
        # Chromium reads from 3 and writes to 4.
        command = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
        profile = f"--user-data-dir={self._folder / 'profile'}"
        with (self._folder / "chromium.log").open("wb") as log:
            self._process = subprocess.Popen(
                ["bash", "-c", command, str(CHROMIUM), *FLAGS, profile, "about:blank"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(theirs_in, theirs_out),
            )
        os.close(theirs_in)
        os.close(theirs_out)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def page(
        self, url: str, *, width: int = 1366, height: int = 900, dark: bool = False,
        phone: bool = False,
    ) -> "BrowserPage":  # fmt: skip
        """Open a page in a tab of its own."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = BrowserPage(self, session, target)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.ask(f"{domain}.enable")
        page.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=phone,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.ask("Emulation.setEmulatedMedia", features=[scheme])
        page.ask("Page.navigate", url=url)
        return page

    def ask(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """The answer to one command."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + END)
        until_s = time.monotonic() + ANSWER_S
        while True:
            said = self._next(until_s)
            if said.get("id") != number:
                self.events.append(said)
                continue
            assert "error" not in said, f"{method}: {said['error']}"
            result: dict[str, Any] = said["result"]
            return result

    def _next(self, until_s: float) -> dict[str, Any]:
        while END not in self._held:
            ready, _, _ = select.select([self._from], [], [], max(0.0, until_s - time.monotonic()))
            data = os.read(self._from, 1 << 20) if ready else b""
            assert data, (self._folder / "chromium.log").read_text()
            self._held += data
        said, _, self._held = self._held.partition(END)
        found: dict[str, Any] = json.loads(said)
        return found


class BrowserPage:
    """One tab."""

    def __init__(self, browser: Chromium, session: str, target: str) -> None:
        self._browser, self._session, self._target = browser, session, target

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.ask(method, self._session, **parameters)

    def value(self, script: str) -> Any:
        """What an expression is."""
        said = self.ask(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    def seen(self, script: str, limit_s: float = SEEN_S) -> Any:
        """Wait until an expression is true, and return it."""
        until_s = time.monotonic() + limit_s
        while True:
            found = self.value(
                f"(async () => {{ const found = await ({script});"
                " return found instanceof Node ? true : found; })()"
            )
            if found:
                return found
            text = self.value("document.body?.innerText")
            assert time.monotonic() < until_s, f"{script} is not so; the page says:\n{text}"
            time.sleep(ASK_S)

    def key(self, name: str, code: int = 0) -> None:
        """Press a key."""
        text = {"text": "\r"} if name == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.ask(
                "Input.dispatchKeyEvent",
                type=kind, key=name, code=name, windowsVirtualKeyCode=code, **text,
            )  # fmt: skip

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """Write what is seen as a PNG. whole: all of the page, and not the window's part only."""
        said = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(said["data"]))

    def said(self, method: str) -> list[dict[str, Any]]:
        """The parameters of all events of a kind until now."""
        self.value("0")
        return [
            event["params"]
            for event in self._browser.events
            if event.get("method") == method and event.get("sessionId") == self._session
        ]

    @property
    def mistakes(self) -> list[str]:
        """Errors of scripts, and what the page's policy forbade."""
        thrown = [str(said["exceptionDetails"]) for said in self.said("Runtime.exceptionThrown")]
        logged = [
            f"{said['entry']['text']} {said['entry'].get('url', '')}"
            for said in self.said("Log.entryAdded")
            if said["entry"]["level"] == "error"
        ]
        return thrown + logged

    @property
    def asked(self) -> list[str]:
        """The URLs that the page has asked for."""
        return [said["request"]["url"] for said in self.said("Network.requestWillBeSent")]

    def close(self) -> None:
        self._browser.ask("Target.closeTarget", targetId=self._target)
