"""One run: one set-up under one scenario, from the start of the load to its measurement.

Owns the load processes, and the window in which load counts and CPU time is read. Knows no order of
runs. Loopback only, bounded in time.
"""

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import msgspec
import numpy as np

from gateway.runtime import without_signals
from loadtest import process
from loadtest.overhead import generator, mock, scenarios, setups
from loadtest.overhead.generator import ExpectedReply, Job, LoadResult, Window
from loadtest.overhead.results import Measurement
from loadtest.overhead.scenarios import OverheadOptions, Scenario
from loadtest.overhead.setups import Setup
from loadtest.process import Cores

RESULT_S = 15.0  # for a load process to hand over its result once the window is over


def run_scenario(
    setup: Setup,
    scenario: Scenario,
    options: OverheadOptions,
    turn: int,
    cores: Cores,
    *,
    on_start: Callable[[], None] = lambda: None,
    on_end: Callable[[], None] = lambda: None,
) -> Measurement:
    """Measure one run: load counts, and CPU time is read, between the same two instants.

    turn: the round, for the measurement. on_start, on_end: called at the two instants.
    """
    with ExitStack() as stack:
        jobs = _jobs(setup, scenario, len(cores.load))
        loads = [
            stack.enter_context(load_process(job, core))
            for job, core in zip(jobs, cores.load, strict=False)  # fewer jobs than cores, perhaps
        ]
        window = _window(options, scenario)
        for load in loads:
            send_window(load, window)
        # Memory when every stream has begun, but outside the window: reading it is work.
        sleep_until((window.ramp_end_s + window.start_s) / 2)
        memory_mib = process.memory_mib(setup.pid) if setup.pid else None
        sleep_until(window.start_s)
        before = process.snapshot(setup.pid) if setup.pid else ()
        on_start()
        sleep_until(window.end_s)
        used = process.cpu_between(before, process.snapshot(setup.pid)) if setup.pid else None
        on_end()
        results = [read_result(load) for load in loads]
    measurement = _measurement(setup, scenario, turn, options.window_s, results)
    if used is None:
        return measurement
    return replace(
        measurement,
        cpu_s=used.total_s,
        system_s=used.system_s,
        background_s=used.background_s,
        memory_mib=memory_mib,
    )


def sleep_until(at_s: float) -> None:
    """Sleep until an instant of `time.monotonic`."""
    time.sleep(max(0.0, at_s - time.monotonic()))


def _window(options: OverheadOptions, scenario: Scenario) -> Window:
    """The window after the warm-up; the first requests are spread over the warm-up's first half."""
    now_s, warmup_s = time.monotonic(), options.warmup_of(scenario)
    start_s = now_s + warmup_s
    return Window(
        ramp_end_s=now_s + warmup_s / 2, start_s=start_s, end_s=start_s + options.window_s
    )


def _jobs(setup: Setup, scenario: Scenario, processes: int) -> list[Job]:
    """The scenario's load divided among the load processes."""
    shares = scenarios.split_evenly(scenario.connections, processes)
    return [
        Job(
            port=setup.port,
            request=scenarios.request(scenario),
            connections=connections,
            rate=scenario.rate and scenario.rate / len(shares),
            # By process alone: every set-up meets the same arrivals in every round.
            seed=number,
            tls=setup.tls,
            expected=_expected_reply(setup, scenario),
        )
        for number, connections in enumerate(shares)
    ]


def _expected_reply(setup: Setup, scenario: Scenario) -> ExpectedReply:
    """What makes a reply right: byte for byte where the proxy passes on what the mock sent."""
    if scenario.streamed:
        events = None if setup.rebuilds else mock.stream_events(scenario.chunks)
        return ExpectedReply(min_events=scenario.chunks, events=events)
    body_bytes = None if setup.rebuilds else mock.UNARY_BYTES
    return ExpectedReply(text=mock.TEXT.encode(), body_bytes=body_bytes)


@contextmanager
def load_process(job: Job, core: int) -> Iterator[subprocess.Popen[bytes]]:
    """A load generator, connected and waiting for its window. Raises NotReady."""
    with process.pinned((core,)), without_signals(signal.SIGINT):
        child = subprocess.Popen(
            (sys.executable, "-m", "loadtest.overhead.generator"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=setups.ROOT,
        )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        child.stdin.write(msgspec.json.encode(job) + b"\n")
        child.stdin.flush()
        if child.stdout.readline() != generator.READY:
            raise setups.NotReady("a load process died at its start")
        yield child
    finally:
        process.stop(child)
        child.stdout.close()


def send_window(load: subprocess.Popen[bytes], window: Window) -> None:
    """Have a load process begin."""
    assert load.stdin is not None
    load.stdin.write(msgspec.json.encode(window) + b"\n")
    load.stdin.close()
    load.stdin = None  # or communicate() would flush it again


def read_result(load: subprocess.Popen[bytes]) -> LoadResult:
    """What a load process has counted, after its window."""
    output, _ = load.communicate(timeout=RESULT_S)
    return msgspec.json.decode(output, type=LoadResult)


def _measurement(
    setup: Setup,
    scenario: Scenario,
    turn: int,
    window_s: float,
    results: Sequence[LoadResult],
) -> Measurement:
    """The results of all load processes as one measurement, without the proxy's CPU time."""
    streamed = scenario.streamed
    # Each process hands back order statistics, at most `generator.SAMPLES`. They are merged with
    # equal weight, which is right because each process has the same share of the load.
    latencies = [s for r in results for s in (r.first_s if streamed else r.total_s)]
    p50_s, p99_s = np.percentile(latencies, (50, 99)).tolist() if latencies else (None, None)
    errors: Counter[str] = Counter()
    for result in results:
        errors.update(result.errors)
    units = sum(r.events if streamed else r.requests for r in results)
    if not units:
        errors["nothing completed"] += 1
    return Measurement(
        setup=setup.name,
        scenario=scenario,
        turn=turn,
        units=units,
        window_s=window_s,
        cpu_s=None,
        p50_s=p50_s,
        p99_s=p99_s,
        errors=dict(errors),
    )
