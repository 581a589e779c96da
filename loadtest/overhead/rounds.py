"""The runs of the overhead benchmark: every set-up under every scenario, in interleaved rounds.

Owns the order, the window in which load counts and CPU is read, and the load processes. Loopback
only, bounded in time.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from loadtest import process
from loadtest.overhead import generator, mock, scenarios, setups, stacks
from loadtest.overhead.measure import DIRECT, Measure
from loadtest.overhead.scenarios import Options, Scenario
from loadtest.overhead.setups import Setup
from loadtest.overhead.stacks import StackProfile
from loadtest.process import Cores

GRACE_S = 15.0
STARTING_S = 60.0
BASE_RATE = 2000.0  # of the direct connection, where a proxy takes a share of its own best
PROFILE_WINDOWS = 5  # the kernel takes some 250 samples a second
WRITING_S = 10.0  # for a profile to be written


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchResult:
    """What a benchmark found. skipped: set-ups and scenarios left out, with the reason."""

    measures: tuple[Measure, ...]
    setups: tuple[Setup, ...]
    skipped: dict[str, str]
    profiles: dict[str, StackProfile] = field(default_factory=dict)

    @property
    def idle_mib(self) -> dict[str, float]:
        """Memory by set-up before any load."""
        return {setup.name: setup.idle_mib for setup in self.setups if setup.idle_mib}

    @property
    def versions(self) -> dict[str, str]:
        """By set-up, where it says one."""
        return {setup.name: setup.version for setup in self.setups if setup.version}


def bench(
    options: Options,
    *,
    given: Mapping[str, Path] | None = None,
    profiles: Path | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> BenchResult:
    """Runs everything.

    In each round every set-up takes its turn under each scenario, in an order that rotates, so that
    what else the machine does falls on all. given: where peers are. profiles: a folder for stacks
    of the gateway under each scenario, taken after the rounds. note: is told what happens. Raises
    NotReady.
    """
    cores = process.assign_cores(tuple(os.sched_getaffinity(0)), options.workers)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cuvee-overhead-")))
        folder.chmod(0o755)  # nginx's workers have no rights of root
        bench = setups.backend(stack, folder, cores)
        with ExitStack() as running:
            note("starting")
            compared, skipped = setups.start(running, bench, options.peers, given or {})
            wanted, unfit = _fit(options.scenarios(), bench.files)
            measures = _rounds(compared, wanted, options, cores, note)
        stacks = {}
        if profiles:
            note("profiling")
            stacks = _profile(stack, bench, wanted, options, profiles)
    names = [setup.name for setup in compared]
    measures.sort(key=lambda m: names.index(m.setup))
    return BenchResult(
        measures=tuple(measures), setups=compared, skipped=skipped | unfit, profiles=stacks
    )


def _fit(wanted: Sequence[Scenario], files: int) -> tuple[tuple[Scenario, ...], dict[str, str]]:
    fit = tuple(s for s in wanted if scenarios.possible(s, files))
    most = (files - scenarios.SPARE_FILES) // scenarios.PROXY_FILES
    reason = f"a process may open {files} files here (ulimit -Hn): {most} streams"
    return fit, {s.name: reason for s in wanted if s not in fit}


def _rounds(
    compared: Sequence[Setup],
    wanted: Sequence[Scenario],
    options: Options,
    cores: Cores,
    note: Callable[[str], None],
) -> list[Measure]:
    measures: list[Measure] = []
    for turn in range(options.rounds):
        for scenario in wanted:
            for place in range(len(compared)):
                setup = compared[(turn + place) % len(compared)]
                note(f"round {turn + 1}/{options.rounds}: {scenario.name}, {setup.name}")
                paced = replace(scenario, rate=_rate(scenario, setup, turn, measures))
                taken = run(setup, paced, options, turn, cores)
                measures.append(replace(taken, scenario=scenario))
    return measures


def _rate(scenario: Scenario, setup: Setup, turn: int, measures: Sequence[Measure]) -> float | None:
    """Requests/s of an open loop: as given, or a share of the set-up's best in this round."""
    if scenario.load is None:
        return scenario.rate
    if setup.name == DIRECT:
        return BASE_RATE
    best = max(
        m.rate
        for m in measures
        if m.setup == setup.name and m.turn == turn and m.scenario.closed
        if m.scenario.body_bytes == scenario.body_bytes
    )
    return max(1.0, scenario.load * best)


def run(
    setup: Setup,
    scenario: Scenario,
    options: Options,
    turn: int,
    cores: Cores,
    *,
    begun: Callable[[], None] = lambda: None,
    ended: Callable[[], None] = lambda: None,
) -> Measure:
    """One run: the load counts, and the CPU is read, between the same two instants.

    begun, ended: called at these.
    """
    with ExitStack() as stack:
        loads = [
            stack.enter_context(_loading(job, core))
            for job, core in zip(_jobs(setup, scenario, len(cores.load)), cores.load, strict=False)
        ]
        window = _window(options, scenario)
        for load in loads:
            _begin(load, window)
        time.sleep(max(0.0, (window.begun_s + window.begin_s) / 2 - time.monotonic()))
        memory_mib = process.memory_mib(setup.pid) if setup.pid else None
        time.sleep(max(0.0, window.begin_s - time.monotonic()))
        before = process.cpu_time(setup.pid) if setup.pid else None
        begun()
        time.sleep(max(0.0, window.end_s - time.monotonic()))
        used = process.cpu_time(setup.pid) - before if setup.pid and before else None
        ended()
        outcomes = [_outcome(load) for load in loads]
    taken = _added_up(setup, scenario, turn, options.window_s, outcomes)
    if used is None:
        return taken
    return replace(taken, cpu_s=used.total_s, system_s=used.system_s, memory_mib=memory_mib)


def _window(options: Options, scenario: Scenario) -> generator.Window:
    """Everybody has begun by the middle of the warm-up."""
    now_s, warmup_s = time.monotonic(), options.warmup_of(scenario)
    begin_s = now_s + warmup_s
    return generator.Window(
        begun_s=now_s + warmup_s / 2, begin_s=begin_s, end_s=begin_s + options.window_s
    )


def _jobs(setup: Setup, scenario: Scenario, parts: int) -> list[generator.Job]:
    shares = scenarios.shares(scenario.connections, parts)
    return [
        generator.Job(
            port=setup.port,
            request=scenarios.request(scenario),
            connections=connections,
            rate=scenario.rate and scenario.rate / len(shares),
            seed=part,
            **_right(setup, scenario),
        )
        for part, connections in enumerate(shares)
    ]


def _right(setup: Setup, scenario: Scenario) -> dict[str, Any]:
    """How a job knows a right reply."""
    if scenario.streamed:
        events = None if setup.rebuilds else mock.events(scenario.chunks)
        return {"least_events": scenario.chunks, "events": events}
    body_bytes = None if setup.rebuilds else mock.UNARY_BYTES
    return {"text": mock.TEXT.encode(), "body_bytes": body_bytes}


@contextmanager
def _loading(job: generator.Job, core: int) -> Iterator[subprocess.Popen[bytes]]:
    """A load process, connected and waiting for its window. Raises NotReady."""
    with process.pinned((core,)):
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


def _begin(load: subprocess.Popen[bytes], window: generator.Window) -> None:
    assert load.stdin is not None
    load.stdin.write(msgspec.json.encode(window) + b"\n")
    load.stdin.close()
    load.stdin = None  # or communicate() would flush it again


def _outcome(load: subprocess.Popen[bytes]) -> generator.LoadOutcome:
    output, _ = load.communicate(timeout=GRACE_S)
    return msgspec.json.decode(output, type=generator.LoadOutcome)


def _added_up(
    setup: Setup,
    scenario: Scenario,
    turn: int,
    window_s: float,
    outcomes: Sequence[generator.LoadOutcome],
) -> Measure:
    streamed = scenario.streamed
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
        window_s=window_s,
        cpu_s=None,
        p50_s=p50_s,
        p99_s=p99_s,
        errors=dict(errors),
    )


def _profile(
    stack: ExitStack,
    bench: setups.Bench,
    wanted: Sequence[Scenario],
    options: Options,
    folder: Path,
) -> dict[str, StackProfile]:
    """The gateway alone, sampled, under each scenario but those that need an earlier figure."""
    options = replace(options, window_s=PROFILE_WINDOWS * options.window_s)
    folder.mkdir(parents=True, exist_ok=True)
    path = bench.folder / "stacks"
    command = (sys.executable, "-m", "loadtest.overhead.sampler", str(path))
    setup = setups.gateway(stack, bench, "profiled", command)
    assert setup.pid is not None
    pid, found = setup.pid, {}
    for scenario in wanted:
        if scenario.load is not None:
            continue
        taken = run(
            setup,
            scenario,
            options,
            0,
            bench.cores,
            begun=lambda: os.kill(pid, signal.SIGUSR1),
            ended=lambda: os.kill(pid, signal.SIGUSR2),
        )
        counts = _stacks(path, folder / f"{_slug(scenario.name)}.stacks")
        cpu_us = taken.cpu_us or 0.0
        found[scenario.name] = StackProfile(
            unit=scenario.unit,
            samples=counts.total(),
            cpu_us=cpu_us,
            kernel=(taken.system_s or 0.0) / (taken.cpu_s or 1.0),
            stages=stacks.divide(counts, cpu_us),
        )
    return found


def _stacks(path: Path, kept: Path) -> Counter[str]:
    """Waits for a profile and moves it. Raises NotReady."""
    until_s = time.monotonic() + WRITING_S
    while not path.exists():
        if time.monotonic() > until_s:
            raise setups.NotReady("the profiled gateway wrote no stacks")
        time.sleep(setups.PROBE_S)
    kept.write_text(path.read_text())
    path.unlink()
    return stacks.read_stacks(kept)


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name.replace("×", "x")).lower()
