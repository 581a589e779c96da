"""Pages in Chromium that call the gateway from another origin, with `fetch`."""

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

# Each call is done by the page and told back to the server that the page came from.
PAGE = """<!doctype html><meta charset="utf-8"><title>calls</title><script>
const base = "BASE", model = "MODEL";
const headers = {"content-type": "application/json", "authorization": "Bearer sk-a"};
const body = {model, max_tokens: 12, ignore_eos: true,
              messages: [{role: "user", content: "say a few words please"}]};
const post = (path, value) =>
  fetch(base + path, {method: "POST", headers, body: JSON.stringify(value)});
const calls = {
  models: async () => (await (await fetch(base + "/v1/models", {headers})).json()).data[0].id,
  whole: async () => {
    const reply = await post("/v1/chat/completions", body);
    return (await reply.json()).choices[0].message.content;
  },
  streamed: async () => {
    const reply = await post("/v1/chat/completions", {...body, stream: true});
    const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "", pieces = 0, held = "", last = "";
    for (;;) {
      const {done, value} = await reader.read();
      if (done) break;
      pieces += 1;
      const lines = (held + value).split("\\n\\n");
      held = lines.pop();
      for (const line of lines) {
        last = line;
        if (line.startsWith("data: {"))
          text += JSON.parse(line.slice(6)).choices[0]?.delta?.content ?? "";
      }
    }
    return {text, pieces, last};
  },
  refused: async () => {
    const reply = await post("/v1/chat/completions", {...body, model: "nope"});
    return {status: reply.status, code: (await reply.json()).error.code};
  },
  left: async () => {
    const stop = new AbortController();
    const long = JSON.stringify({...body, stream: true, max_tokens: 4000});
    const reply = await fetch(base + "/v1/chat/completions",
                              {method: "POST", headers, body: long, signal: stop.signal});
    await reply.body.getReader().read();
    stop.abort();
    return reply.status;
  },
};
(async () => {
  const told = {};
  for (const [name, call] of Object.entries(calls)) {
    try { told[name] = await call(); } catch (error) { told[name] = String(error); }
  }
  await fetch("/told", {method: "POST", body: JSON.stringify(told)});
})();
</script>"""
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-default-apps", "--disable-dev-shm-usage", "--remote-debugging-port=0",
)  # fmt: skip
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
TOLD_S = 60.0

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")


class Site:
    """An origin with one page, and what this page told."""

    def __init__(self) -> None:
        self.page = b""
        self.told: dict[str, Any] = {}
        self.heard = threading.Event()


def handler(site: Site) -> type[BaseHTTPRequestHandler]:
    """What the server of a site answers."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._say(site.page if self.path == "/" else b"")

        def do_POST(self) -> None:
            site.told = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self._say(b"")
            site.heard.set()

        def _say(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html; charset=utf-8")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@pytest.fixture
def opened(tmp_path, http_server) -> Iterator[Any]:
    """Serves the page from an origin of its own and opens it in a new Chromium; says the origin
    first, to a function that makes the gateway, and then what the page told."""
    browsers: list[subprocess.Popen[bytes]] = []

    def run(make: Any) -> tuple[Any, dict[str, Any]]:
        site = Site()
        origin = http_server(handler(site))
        gateway = make(origin)
        page = PAGE.replace("BASE", gateway.url).replace("MODEL", gateway.model)
        site.page = page.encode()
        command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", origin]
        with (tmp_path / "chromium.log").open("wb") as log:
            started = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        browsers.append(started)
        assert site.heard.wait(TOLD_S), (tmp_path / "chromium.log").read_text()
        return gateway, site.told

    yield run
    for browser in browsers:
        browser.terminate()
        browser.wait()


def test_a_page_of_an_allowed_origin(opened, gateway_before, engines, soon):
    """It reads whole answers, streams as they come, and errors; and what it leaves ends. Its
    `authorization` makes the browser ask first (a preflight)."""
    gateway, told = opened(lambda origin: gateway_before(engines, origins=(origin,)))

    assert told["models"] == gateway.model
    assert len(told["whole"].split()) == 12
    assert told["streamed"]["text"] == told["whole"]
    assert told["streamed"]["pieces"] > 1
    assert told["streamed"]["last"] == "data: [DONE]"
    assert told["refused"] == {"status": 404, "code": "model_not_found"}
    assert told["left"] == 200
    ended = "cuvee_requests_total"
    assert soon(lambda: gateway.count(ended, outcome="abandoned") == 1)
    assert gateway.count(ended, outcome="ok") == 2


def test_a_page_of_another_origin(opened, gateway_before, engines):
    """The browser lets it read nothing and send nothing."""
    gateway, told = opened(lambda _: gateway_before(engines, origins=("https://app.example",)))

    assert set(told) == {"models", "whole", "streamed", "refused", "left"}
    assert all("Failed to fetch" in value for value in told.values())
    assert gateway.count("cuvee_requests_total") == 0
