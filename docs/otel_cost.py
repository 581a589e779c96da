"""Measures what traces cost: `python docs/otel_cost.py --sample 0.1`.

CPU per request of two gateways in front of the same backend of canned replies, in turns: one that
traces nothing, and one that traces a share and sends its spans to a program that reads them and
throws them away. CPU of all processes of a gateway counts, so that of making and sending spans
too; a window has two sendings at least.
Best on an otherwise idle machine with four cores, with the data path compiled (`make compiled`).
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # `docs` is not installed

from gateway import runtime  # noqa: E402
from loadtest import process  # noqa: E402
from loadtest.overhead import peers, setups  # noqa: E402
from loadtest.overhead.run import run_scenario  # noqa: E402
from loadtest.overhead.scenarios import KIB, OverheadOptions, Scenario  # noqa: E402
from loadtest.overhead.setups import BenchEnvironment, Setup  # noqa: E402


class Sink(BaseHTTPRequestHandler):
    """Takes everything."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def started(stack: ExitStack, bench: BenchEnvironment, name: str, otel: object) -> Setup:
    """A gateway with this section of OpenTelemetry."""
    settings = bench.settings_for(name)
    config = yaml.safe_load(peers.gateway_config(settings))
    config["gateway"]["otel"] = otel
    path = settings.folder / "cuvee.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    argv = (*setups.COMMAND, "serve", "--config", str(path))
    child = stack.enter_context(
        setups.answering_process(
            name, argv, settings.port, bench.cores.proxy, settings.folder
        )
    )  # fmt: skip
    return Setup(name=name, port=settings.port, pid=child.pid)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=float, default=0.1, help="share that is traced")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--window", type=float, default=4.0, help="seconds that count, per run")
    parser.add_argument("--sink", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.sink:
        ThreadingHTTPServer(("127.0.0.1", options.sink), Sink).serve_forever()
    cores = process.assign_cores(tuple(os.sched_getaffinity(0)), 1)
    port = process.free_port()
    how = OverheadOptions(window_s=options.window, rounds=options.rounds)
    scenario = Scenario(name="1 KiB × 64", connections=64, body_bytes=KIB)
    used: dict[str, list[float]] = {"off": [], "on": []}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cuvee-otel-")))
        sink = subprocess.Popen((sys.executable, __file__, "--sink", str(port)))
        stack.callback(process.stop, sink)
        bench = setups.start_environment(stack, folder, cores)
        otel = {"endpoint": f"http://127.0.0.1:{port}", "sample": options.sample}
        both = [started(stack, bench, "off", None), started(stack, bench, "on", otel)]
        for turn in range(options.rounds):
            for setup in both[:: 1 if turn % 2 else -1]:
                found = run_scenario(setup, scenario, how, turn, cores)
                assert found.cpu_us is not None
                used[setup.name].append(found.cpu_us)
    off, on = (statistics.median(used[name]) for name in ("off", "on"))
    print(f"{runtime.runtime()}, {scenario.name}, {options.sample:.0%} traced")
    print(f"off: {off:.1f} µs a request ({min(used['off']):.1f} to {max(used['off']):.1f})")
    print(f"on:  {on:.1f} µs a request ({min(used['on']):.1f} to {max(used['on']):.1f})")
    print(f"more: {on - off:.2f} µs, {on / off - 1:.1%}")


if __name__ == "__main__":
    main()
