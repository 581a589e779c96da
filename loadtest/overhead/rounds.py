"""The overhead benchmark: every set-up under every scenario, in interleaved rounds.

Owns the order of the runs, and the profile of the gateway after them. One run is `run.py`'s.
"""

import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from loadtest import process
from loadtest.overhead import scenarios, setups, stacks
from loadtest.overhead.results import DIRECT, Measurement
from loadtest.overhead.run import run_scenario
from loadtest.overhead.scenarios import OverheadOptions, Scenario
from loadtest.overhead.setups import BenchEnvironment, Setup
from loadtest.overhead.stacks import StackProfile
from loadtest.process import Cores

# The direct connection's rate where a proxy takes a share of its own best: the rate of the
# open-loop scenario, far below what the mock can do.
DIRECT_RATE = 2000.0
PROFILE_WINDOWS = 5  # the kernel takes some 250 samples a second: 2,500 in five windows of 2 s
STACKS_S = 10.0  # for the profiled gateway to write its stacks


class Progress(Protocol):
    """Called at the beginning of each step. of: the number of steps, once it is known."""

    def __call__(self, text: str, of: int | None = None) -> None: ...


def unseen(text: str, of: int | None = None) -> None:
    """Progress that nobody looks at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OverheadResult:
    """What a benchmark measured.

    skipped: set-ups and scenarios that were left out, with the reason. profiles: by scenario.
    """

    measurements: tuple[Measurement, ...]
    setups: tuple[Setup, ...]
    skipped: dict[str, str]
    profiles: dict[str, StackProfile] = field(default_factory=dict)

    @property
    def idle_mib(self) -> dict[str, float]:
        """Memory by set-up before any load."""
        return {setup.name: setup.idle_mib for setup in self.setups if setup.idle_mib}

    @property
    def versions(self) -> dict[str, str]:
        """Versions by set-up, of those that state one."""
        return {setup.name: setup.version for setup in self.setups if setup.version}


def run_benchmark(
    options: OverheadOptions,
    *,
    paths: Mapping[str, Path] | None = None,
    profiles: Path | None = None,
    progress: Progress = unseen,
) -> OverheadResult:
    """Start every set-up, run all rounds, then profile the gateway if asked.

    paths: where peers are, by name. profiles: a folder for stacks of the gateway under each
    scenario. Raises NotReady.
    """
    cores = process.assign_cores(tuple(os.sched_getaffinity(0)), options.workers)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cuvee-overhead-")))
        folder.chmod(0o755)  # started by root, nginx's workers run as another user
        bench = setups.start_environment(stack, folder, cores)
        with ExitStack() as running:  # the set-ups stop before the profile: it has the core alone
            progress("starting")
            compared, skipped = setups.start_setups(
                running, bench, options.peers, paths or {}, options.parts
            )
            fitting, unfit = _split_by_files(options.scenarios(), bench.open_files)
            measurements = _run_rounds(compared, fitting, options, cores, progress)
        profiled = {}
        if profiles:
            progress("profiling")
            profiled = _profile(stack, bench, fitting, options, profiles)
    names = [setup.name for setup in compared]
    measurements.sort(key=lambda m: names.index(m.setup))
    return OverheadResult(
        measurements=tuple(measurements),
        setups=compared,
        skipped=skipped | unfit,
        profiles=profiled,
    )


def _split_by_files(
    chosen: Sequence[Scenario], files: int
) -> tuple[tuple[Scenario, ...], dict[str, str]]:
    """The scenarios that the limit of open files allows, and the reason for the others."""
    fitting = tuple(scenario for scenario in chosen if scenarios.fits(scenario, files))
    most = (files - scenarios.SPARE_FILES) // scenarios.PROXY_FILES
    reason = f"a process may open {files} files here (ulimit -Hn): {most} streams"
    return fitting, {s.name: reason for s in chosen if s not in fitting}


def _run_rounds(
    compared: Sequence[Setup],
    fitting: Sequence[Scenario],
    options: OverheadOptions,
    cores: Cores,
    progress: Progress,
) -> list[Measurement]:
    """In each round every set-up runs under each scenario, in an order that rotates, while the
    others sleep.

    So a machine that slows down slows all set-ups, none is always first or last, and none pays for
    what another one does after its turn, such as a plan for the demand that it had.
    """
    measurements: list[Measurement] = []
    every = options.rounds * len(fitting) * len(compared)
    for turn in range(options.rounds):
        for scenario in fitting:
            for place in range(len(compared)):
                setup = compared[(turn + place) % len(compared)]
                text = f"round {turn + 1}/{options.rounds}: {scenario.name}, {setup.name}"
                progress(text, of=every)
                paced = replace(scenario, rate=open_loop_rate(scenario, setup, turn, measurements))
                others = [one.pid for one in compared if one.pid and one is not setup]
                with process.asleep(others):
                    measurement = run_scenario(setup, paced, options, turn, cores)
                # Rows group by scenario: a rate of its own would make it another one per set-up.
                measurements.append(replace(measurement, scenario=scenario))
    return measurements


def open_loop_rate(
    scenario: Scenario, setup: Setup, turn: int, measurements: Sequence[Measurement]
) -> float | None:
    """Requests/s of an open loop: as given, or a share of the set-up's best in this round."""
    if scenario.load is None:
        return scenario.rate
    if setup.name == DIRECT:
        return DIRECT_RATE
    best = max(
        m.rate
        for m in measurements
        if m.setup == setup.name and m.turn == turn and m.scenario.closed
        if m.scenario.body_bytes == scenario.body_bytes
    )
    return max(1.0, scenario.load * best)


def _profile(
    stack: ExitStack,
    bench: BenchEnvironment,
    fitting: Sequence[Scenario],
    options: OverheadOptions,
    folder: Path,
) -> dict[str, StackProfile]:
    """Sample the gateway under each scenario but those at a share of an earlier figure."""
    options = replace(options, window_s=PROFILE_WINDOWS * options.window_s)
    folder.mkdir(parents=True, exist_ok=True)
    path = bench.folder / "stacks"
    command = (sys.executable, "-m", "loadtest.overhead.sampler", str(path))
    setup = setups.start_gateway(stack, bench, "profiled", command)
    assert setup.pid is not None
    pid, profiles = setup.pid, {}
    for scenario in fitting:
        if scenario.load is not None:
            continue
        measurement = run_scenario(
            setup,
            scenario,
            options,
            0,
            bench.cores,
            on_start=lambda: os.kill(pid, signal.SIGUSR1),
            on_end=lambda: os.kill(pid, signal.SIGUSR1),
        )
        counts = _collect_stacks(path, folder / f"{_slug(scenario.name)}.stacks")
        profiles[scenario.name] = _stack_profile(measurement, counts)
    return profiles


def _stack_profile(measurement: Measurement, counts: Counter[str]) -> StackProfile:
    cpu_us = measurement.cpu_us or 0.0
    return StackProfile(
        unit=measurement.scenario.unit,
        samples=counts.total(),
        cpu_us=cpu_us,
        kernel=(measurement.system_s or 0.0) / (measurement.cpu_s or 1.0),
        stages=stacks.share_by_module(counts, cpu_us),
    )


def _collect_stacks(path: Path, target: Path) -> Counter[str]:
    """Wait for the sampler's file, and move it to `target`. Raises NotReady."""
    give_up_s = time.monotonic() + STACKS_S
    while not path.exists():
        if time.monotonic() > give_up_s:
            raise setups.NotReady("the profiled gateway wrote no stacks")
        time.sleep(setups.PROBE_S)
    target.write_text(path.read_text())
    path.unlink()
    return stacks.read_stacks(target)


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name.replace("×", "x")).lower()
