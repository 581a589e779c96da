"""What the gateway costs: its CPU per request and per streamed chunk, beside HAProxy and no proxy.

CPU time of the proxy's own processes, because throughput and latency also depend on everything else
that runs on the machine. Owns the scenarios and the order of the rounds; loopback only, bounded in
time. What is compared, and how it is started, belongs to `setups`.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import msgspec
import numpy as np
from rich.console import Console

from loadtest import measure, mock, pressure, process, prompt, setups
from loadtest.measure import Measure, Row, Scenario
from loadtest.process import Cores
from loadtest.setups import Setup

GRACE_S = 15.0
TABLE_COLUMNS = 110  # where there is no terminal to ask
KIB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to compare, how long and how hard. chunks: content events per stream."""

    proxies: tuple[str, ...] = setups.PROXIES
    rounds: int = 3
    warmup_s: float = 1.0
    window_s: float = 3.0
    connections: int = 64
    streams: int = 100
    chunks: int = 100
    interval_s: float = 0.02
    body_kib: tuple[int, ...] = (1,)

    def scenarios(self) -> tuple[Scenario, ...]:
        """Saturated unary by body size, one connection for latency, paced streams."""
        return (
            *(
                Scenario(
                    name=f"{size} KiB unary × {self.connections}",
                    connections=self.connections,
                    body_bytes=size * KIB,
                )
                for size in self.body_kib
            ),
            Scenario(name="1 KiB unary × 1", connections=1, body_bytes=KIB),
            Scenario(
                name=f"{self.streams} streams × {1e3 * self.interval_s:g} ms",
                connections=self.streams,
                body_bytes=KIB,
                interval_s=self.interval_s,
            ),
        )


def bench(
    options: Options, *, note: Callable[[str], None] = lambda text: None
) -> tuple[tuple[Measure, ...], dict[str, str]]:
    """Runs everything; the measures, and the set-ups left out with the reason.

    In each round every set-up takes its turn under each scenario, in an order that rotates, so that
    what else the machine does falls on all. Raises NotReady. note: is told what happens.
    """
    cores = process.divide(tuple(os.sched_getaffinity(0)))
    measures = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cuvee-overhead-")))
        compared, skipped = setups.start(
            stack,
            folder,
            cores,
            options.proxies,
            chunks=options.chunks,
            interval_s=options.interval_s,
        )
        for turn in range(options.rounds):
            for scenario in options.scenarios():
                for place in range(len(compared)):
                    setup = compared[(turn + place) % len(compared)]
                    note(f"round {turn + 1}/{options.rounds}: {scenario.name}, {setup.name}")
                    measures.append(_measure(setup, scenario, options, turn, cores))
    names = [setup.name for setup in compared]
    measures.sort(key=lambda m: names.index(m.setup))
    return tuple(measures), skipped


def request(scenario: Scenario) -> bytes:
    """The HTTP request of a scenario: a chat body of exactly its size."""
    fields = {"model": mock.MODEL, "max_tokens": 256, "temperature": 0.7}
    if scenario.interval_s is not None:
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
    head = msgspec.json.encode(fields)[:-1] + b',"messages":[{"role":"user","content":"'
    tail = b'"}]}'
    text = prompt.build(scenario.body_bytes).cut(scenario.body_bytes, 0)
    body = head + text[: scenario.body_bytes - len(head) - len(tail)] + tail
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n"
        b"authorization: Bearer sk-overhead\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%b" % (len(body), body)
    )


def _measure(
    setup: Setup, scenario: Scenario, options: Options, turn: int, cores: Cores
) -> Measure:
    """One run: the load counts, and the CPU is read, between the same two instants."""
    with ExitStack() as stack:
        loads = [
            stack.enter_context(_loading(job, core))
            for job, core in zip(
                _jobs(setup, scenario, options, len(cores.load)), cores.load, strict=False
            )
        ]
        begin_s = time.monotonic() + options.warmup_s
        window = pressure.Window(begin_s=begin_s, end_s=begin_s + options.window_s)
        for load in loads:
            _begin(load, window)
        time.sleep(max(0.0, window.begin_s - time.monotonic()))
        before_s = process.cpu_s(setup.pid) if setup.pid else None
        time.sleep(max(0.0, window.end_s - time.monotonic()))
        cpu_s = None if setup.pid is None else process.cpu_s(setup.pid) - (before_s or 0.0)
        outcomes = [_outcome(load) for load in loads]
    return _added_up(setup, scenario, options, turn, cpu_s, outcomes)


def _jobs(setup: Setup, scenario: Scenario, options: Options, parts: int) -> list[pressure.Job]:
    streamed = scenario.interval_s is not None
    return [
        pressure.Job(
            port=setup.port,
            request=request(scenario),
            connections=connections,
            body_bytes=None if streamed else mock.UNARY_BYTES,
            events=mock.events(options.chunks) if streamed else None,
        )
        for connections in shares(scenario.connections, parts)
    ]


def shares(total: int, parts: int) -> tuple[int, ...]:
    """Splits connections over processes as evenly as can be, leaving out those without any."""
    sizes = (total // parts + (part < total % parts) for part in range(parts))
    return tuple(size for size in sizes if size)


@contextmanager
def _loading(job: pressure.Job, core: int) -> Iterator[subprocess.Popen[bytes]]:
    """A load process, connected and waiting for its window. Raises NotReady."""
    child = subprocess.Popen(
        (sys.executable, "-m", "loadtest.pressure"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=setups.ROOT,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        os.sched_setaffinity(child.pid, (core,))
        child.stdin.write(msgspec.json.encode(job) + b"\n")
        child.stdin.flush()
        if child.stdout.readline() != pressure.READY:
            raise setups.NotReady("a load process died at its start")
        yield child
    finally:
        process.end(child)
        child.stdout.close()


def _begin(load: subprocess.Popen[bytes], window: pressure.Window) -> None:
    assert load.stdin is not None
    load.stdin.write(msgspec.json.encode(window) + b"\n")
    load.stdin.close()
    load.stdin = None  # or communicate() would flush it again


def _outcome(load: subprocess.Popen[bytes]) -> pressure.Outcome:
    output, _ = load.communicate(timeout=GRACE_S)
    return msgspec.json.decode(output, type=pressure.Outcome)


def _added_up(
    setup: Setup,
    scenario: Scenario,
    options: Options,
    turn: int,
    cpu_s: float | None,
    outcomes: Sequence[pressure.Outcome],
) -> Measure:
    streamed = scenario.interval_s is not None
    latencies = [s for o in outcomes for s in (o.first_s if streamed else o.total_s)]
    p50_s, p99_s = np.percentile(latencies, (50, 99)).tolist() if latencies else (None, None)
    errors: Counter[str] = Counter()
    for outcome in outcomes:
        errors.update(outcome.errors)
    units = sum(o.events if streamed else o.requests for o in outcomes)
    if not units:
        errors["nothing completed"] += 1
    return Measure(
        setup=setup.name,
        scenario=scenario,
        turn=turn,
        units=units,
        window_s=options.window_s,
        cpu_s=cpu_s,
        p50_s=p50_s,
        p99_s=p99_s,
        errors=dict(errors),
    )


def conditions(options: Options) -> dict[str, object]:
    """What must be said beside the figures."""
    haproxy = setups.haproxy()
    version = None
    if haproxy:
        said = subprocess.run((haproxy, "-v"), capture_output=True, text=True, check=False).stdout
        version = (said.splitlines() or [""])[0]
    return {
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "haproxy": version,
        "cores": asdict(process.divide(tuple(os.sched_getaffinity(0)))),
        "load_average": os.getloadavg()[0],
        "options": asdict(options),
    }


@click.command()
@click.option(
    "--proxy",
    "proxies",
    type=click.Choice(setups.PROXIES),
    multiple=True,
    default=setups.PROXIES,
    show_default=True,
    help="What to compare, once for each.",
)
@click.option(
    "--rounds", type=click.IntRange(1, 20), default=3, show_default=True, help="Interleaved rounds."
)
@click.option("--window", type=click.FloatRange(0.1, 60), default=3.0, help="Seconds per run.")
@click.option("--warmup", type=click.FloatRange(0, 30), default=1.0, help="Seconds before each.")
@click.option(
    "--connections",
    type=click.IntRange(1, 1024),
    default=64,
    show_default=True,
    help="Of the closed loop.",
)
@click.option(
    "--streams",
    type=click.IntRange(1, 4096),
    default=100,
    show_default=True,
    help="At the same time.",
)
@click.option("--chunks", type=click.IntRange(1), default=100, help="Chunks per stream.")
@click.option(
    "--interval-ms",
    type=click.FloatRange(1, 1000),
    default=20.0,
    show_default=True,
    help="Between two chunks of a stream.",
)
@click.option(
    "--body-kib",
    type=click.IntRange(1, 256),
    multiple=True,
    default=(1,),
    help="Request body; may be repeated.",
)
@click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write every run to this file.",
)
def overhead(
    proxies: tuple[str, ...],
    rounds: int,
    window: float,
    warmup: float,
    connections: int,
    streams: int,
    chunks: int,
    interval_ms: float,
    body_kib: tuple[int, ...],
    json_path: Path | None,
) -> None:
    """Measure the gateway's CPU per request and per streamed chunk, beside HAProxy and no proxy.

    Loopback only, against a backend of canned replies. Exits with 1 if any reply was wrong.
    """
    console = Console(width=None if sys.stdout.isatty() else TABLE_COLUMNS)
    options = Options(
        proxies=proxies,
        rounds=rounds,
        warmup_s=warmup,
        window_s=window,
        connections=connections,
        streams=streams,
        chunks=chunks,
        interval_s=interval_ms / 1e3,
        body_kib=body_kib,
    )
    said = conditions(options)
    try:
        with console.status("starting") as status:
            measures, skipped = bench(options, note=status.update)
    except setups.NotReady as error:
        raise click.ClickException(str(error)) from error
    rows = measure.summarise(measures)
    if json_path:
        found = {"conditions": said, "skipped": skipped, **measure.to_json(rows, measures)}
        json_path.write_text(json.dumps(found, indent=2) + "\n")
    sys.exit(_show(console, rows, skipped))


def _show(console: Console, rows: Sequence[Row], skipped: dict[str, str]) -> int:
    """Prints what was found; the exit code."""
    console.print(measure.table(rows))
    for name, reason in skipped.items():
        console.print(f"{name}: left out, {reason}")
    wrong = sum(sum(row.errors.values()) for row in rows)
    if wrong:
        console.print(f"[red]{wrong} errors: these figures do not count[/red]")
    return 1 if wrong else 0
