"""What a platform team turns on at a gateway, for the benchmark to measure: by name, as sections of
its configuration; and a collector that takes traces and throws them away.

`python -m loadtest.overhead.front_door --port PORT` is the collector.
"""

import argparse
import hashlib
import subprocess
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec

from loadtest.overhead import mock, scenarios

KEYS, LOG, TRACES, ALL, TLS = "keys", "log", "traces", "all", "tls"
PARTS = (KEYS, LOG, TRACES, ALL, TLS)
TRACED = 0.1
OTHERS = 999  # keys that nobody uses in the same file
LIMITS = {  # of each kind one, which is checked and never reached
    "models": [mock.MODEL],
    "weight": 2.0,
    "requests_per_minute": 10**9,
    "tokens_per_minute": 10**12,
    "concurrency": 10**6,
    "usd_per_day": 1e9,
    "expires": "2100-01-01",
}
# Elliptic curves, as those who sign certificates for the web suggest.
CERTIFICATE = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
    "-subj /CN=127.0.0.1 -keyout key.pem -out cert.pem"
)


def sections(part: str, folder: Path, collector: str) -> dict[str, Any]:
    """What a part is in the file of the gateway; writes further files into a folder. part: one of
    `PARTS`; `ALL` are those before it. collector: URL of what takes traces. Keys of `gateway` are
    below that. Raises OSError and CalledProcessError where no certificate can be made."""
    found: dict[str, Any] = {"gateway": {}}
    if part in (KEYS, ALL):
        path = folder / "keys.yaml"
        path.write_bytes(msgspec.yaml.encode({"keys": dict(_keys())}))
        found["access"] = {"keys_file": path.name}
    if part in (LOG, ALL):
        found["gateway"]["request_log"] = 1.0
    if part in (TRACES, ALL):
        found["gateway"]["otel"] = {"endpoint": collector, "sample": TRACED}
    if part == TLS:
        subprocess.run(CERTIFICATE.split(), cwd=folder, check=True, capture_output=True)
        found["gateway"]["tls"] = {"certificate": "cert.pem", "key": "key.pem"}
    return found


def needs_collector(parts: tuple[str, ...]) -> bool:
    """Whether some of these parts send traces."""
    return not {TRACES, ALL}.isdisjoint(parts)


def _keys() -> Mapping[str, Any]:
    keys = {f"other-{number}": f"sk-other-key-{number:06d}" for number in range(OTHERS)}
    keys["bench"] = scenarios.KEY
    return {
        name: {"hash": f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"} | LIMITS
        for name, key in keys.items()
    }


class Sink(BaseHTTPRequestHandler):
    """Reads everything and says yes."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main() -> None:
    """Be the collector until the process is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    ThreadingHTTPServer(("127.0.0.1", parser.parse_args().port), Sink).serve_forever()


if __name__ == "__main__":
    main()
