"""A soak from its start to its account: engines, gateway, clients, faults, reloads and deaths."""

import asyncio
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from loadtest.soak.account import Books, Disagreement, by_well, disagreements, endings
from loadtest.soak.client import SoakConnection, connect
from loadtest.soak.engine import ScriptedEngine
from loadtest.soak.faults import EngineFault, periods
from loadtest.soak.gateway import SoakGateway
from loadtest.soak.ledger import ClientEnd, Ending, EngineBook, FleetHistory, GatewayBook
from loadtest.soak.memory import Growth, MemorySample, growth, sample
from loadtest.soak.revisions import REFUSED, revisions
from loadtest.soak.traffic import Visit, visits

RELOAD_S = 5.0  # between two reloads
SAMPLE_S = 0.5  # between two samples of memory
SAMPLES = 200  # that are told at most
SETTLE_S = 15.0  # after the last answer, until all gauges are 0
REPORT_S = 1.2  # two reports of every worker


@dataclass(frozen=True, slots=True, kw_only=True)
class SoakOptions:
    """requests, seconds: bounds; the first that is reached ends the run. clients: that send at the
    same time. deaths: workers that are killed. faults: what engines may do; none: nothing."""

    requests: int = 10_000
    seconds: float = 600.0
    seed: int = 1
    workers: int = 1
    engines: int = 6
    clients: int = 48
    deaths: int = 0
    faults: tuple[EngineFault, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SoakResult:
    """What came of a run.

    sent: requests. endings: by how they ended for their clients. statuses: of answers, by status.
    attempts: requests that came to engines; most_attempts: of one request. faults: that hit them,
    by kind; `down`: times that an engine went. errors, broken: answers of 5xx, and streams that
    broke, by the fewest engines that were well meanwhile. reloads: files put in force, and files
    refused. deaths: workers that were killed. plans: put in force. exit_status: of the gateway.
    samples: some of those that the growth of both figures comes from.
    """

    seconds: float
    sent: int
    endings: dict[str, int]
    statuses: dict[int, int]
    attempts: int
    most_attempts: int
    retries: int
    faults: dict[str, int]
    errors: dict[int, int]
    broken: dict[int, int]
    reloads: tuple[int, int]
    deaths: int
    plans: int
    resident_mib: Growth
    open_files: Growth
    samples: tuple[MemorySample, ...]
    exit_status: int
    disagreements: tuple[Disagreement, ...]


@dataclass(slots=True)
class _Run:
    """The state of a run, shared by its loops."""

    options: SoakOptions
    engines: list[ScriptedEngine]
    book: EngineBook
    history: FleetHistory = field(default_factory=FleetHistory)
    ends: dict[int, ClientEnd] = field(default_factory=dict)
    doubled: list[int] = field(default_factory=list)
    samples: list[MemorySample] = field(default_factory=list)
    reloads: list[bool] = field(default_factory=list)
    odd: list[Disagreement] = field(default_factory=list)
    sent: int = 0
    end_s: float = 0.0

    def ended(self, number: int, end: ClientEnd) -> None:
        """Book how a request ended for its client."""
        if number in self.ends:
            self.doubled.append(number)
        self.ends[number] = end


async def soak(options: SoakOptions, log: Path, progress: Callable[[int], None]) -> SoakResult:
    """Run a soak. log: file for the gateway's log. progress: called twice a second with the number
    of requests that have ended. Raises GatewayFailed."""
    loop, book = asyncio.get_running_loop(), EngineBook()
    engines = [ScriptedEngine(book, f"{options.seed} {n}") for n in range(options.engines)]
    run = _Run(options, engines, book)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cuvee-soak-")))
        for engine in engines:
            await engine.start()
            stack.push_async_callback(engine.stop)
        urls = [f"http://127.0.0.1:{engine.port}" for engine in engines]
        gateway = await stack.enter_async_context(SoakGateway(folder, log, urls, options.workers))
        started_s = loop.time()
        run.end_s = started_s + options.seconds
        await _serve(run, gateway, progress)
        seconds = loop.time() - started_s
        page = await _settled(run, gateway)
        exit_status = await gateway.stop()
        told = GatewayBook(page=page)
        gateway.read_log(told)
    return _result(run, told, seconds, exit_status)


async def _serve(run: _Run, gateway: SoakGateway, progress: Callable[[int], None]) -> None:
    """Send all requests, while engines are bad and the configuration changes."""
    options = run.options
    plan = visits(options.seed, options.requests)
    loops: list[Coroutine[Any, Any, None]] = [
        _faults(run),
        _reloads(run, gateway),
        _deaths(run, gateway),
        _samples(run, gateway, progress),
    ]
    tasks = [asyncio.create_task(loop) for loop in loops]
    try:
        await asyncio.gather(*(_client(run, gateway, plan) for _ in range(options.clients)))
    finally:
        for task in tasks:
            task.cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
    for error in found:
        if isinstance(error, Exception):  # a loop that broke off: the run was not what it says
            raise error


async def _client(run: _Run, gateway: SoakGateway, plan: Iterator[Visit]) -> None:
    """One visit after the other, until there are no more or the time is over."""
    kept: SoakConnection | None = None
    loop = asyncio.get_running_loop()
    while loop.time() < run.end_s and (visit := next(plan, None)) is not None:
        run.sent += len(visit.asks)
        connection = kept if visit.keep and kept is not None and kept.open else None
        if connection is None:
            connection = await _connected(run, gateway, visit)
        if connection is None:
            continue
        await connection.visit(visit)
        if visit.keep:
            kept = connection
    if kept is not None:
        kept.close()


async def _connected(run: _Run, gateway: SoakGateway, visit: Visit) -> SoakConnection | None:
    """A new connection; `None` if there is none, and then the requests are lost."""
    started_s = asyncio.get_running_loop().time()
    try:
        return await connect(gateway.port, run.ended, slow=visit.slow)
    except OSError as error:
        now_s = asyncio.get_running_loop().time()
        for ask in visit.asks:
            end = ClientEnd(Ending.LOST, 0, started_s, now_s, detail=f"no connection: {error}")
            run.ended(ask.number, end)
        return None


async def _faults(run: _Run) -> None:
    """Let engines be bad and well again."""
    options, clock = run.options, asyncio.get_running_loop().time
    run.history.changes.append((clock(), options.engines))
    if not options.faults:
        return
    for period in periods(options.seed, options.engines, options.faults):
        # Before engines get worse, and after they got better: what is well now was it all along.
        run.history.changes.append((clock(), period.well))
        for engine, fault in zip(run.engines, period.faults, strict=True):
            await engine.turn(fault, period.hit)
        await asyncio.sleep(period.seconds)


async def _reloads(run: _Run, gateway: SoakGateway) -> None:
    """Change the configuration file now and then; a bad one is replaced by a good one at once."""
    for name, raw in revisions(run.options.seed, gateway.raw()):
        await asyncio.sleep(RELOAD_S)
        gateway.write(raw)
        status = await gateway.reload()
        run.reloads.append(status == 200)
        if (status != 200) != (name == REFUSED):
            run.odd.append(Disagreement("reload", f"{name}: the answer was {status}"))


async def _deaths(run: _Run, gateway: SoakGateway) -> None:
    """Kill workers, evenly over the requests and the time."""
    options, clock = run.options, asyncio.get_running_loop().time
    random, started_s = Random(f"deaths {options.seed}"), clock()
    for number in range(options.deaths):
        share = (number + 1) / (options.deaths + 1)
        due_s = started_s + share * options.seconds
        while run.sent < share * options.requests and clock() < due_s:  # noqa: ASYNC110 (no event)
            await asyncio.sleep(SAMPLE_S)
        gateway.kill_worker(random)
        run.history.deaths.append(clock())


async def _samples(run: _Run, gateway: SoakGateway, progress: Callable[[int], None]) -> None:
    while True:
        run.samples.append(sample(gateway.pid, len(run.ends)))
        progress(len(run.ends))
        await asyncio.sleep(SAMPLE_S)


async def _settled(run: _Run, gateway: SoakGateway) -> dict[str, float]:
    """The page of metrics when all is over. Every engine is well again by then."""
    for engine in run.engines:
        await engine.turn(None)
    run.samples.append(sample(gateway.pid, len(run.ends)))
    before: dict[str, float] = {}
    with suppress(TimeoutError):  # the account says then what is left
        async with asyncio.timeout(SETTLE_S):
            while True:
                await asyncio.sleep(REPORT_S)
                page = await gateway.page()
                told = GatewayBook(page=page)
                counted = told.total("cuvee_requests_total")
                quiet = counted == GatewayBook(page=before).total("cuvee_requests_total")
                before = page
                if quiet and not told.total("cuvee_in_flight") + told.total("cuvee_load"):
                    break
    run.odd += [
        Disagreement("gauge", f"an engine holds {engine.held} requests when all are over")
        for engine in run.engines if engine.held
    ]  # fmt: skip
    return before


def _result(run: _Run, told: GatewayBook, seconds: float, exit_status: int) -> SoakResult:
    books = Books(
        sent=run.sent, clients=run.ends, doubled=tuple(run.doubled), engines=run.book,
        gateway=told, history=run.history,
    )  # fmt: skip
    statuses = Counter(end.status for end in run.ends.values() if end.status)
    odd = [*run.odd, *disagreements(books)]
    if exit_status:
        odd.append(Disagreement("exit", f"the gateway ended with status {exit_status}"))
    return SoakResult(
        seconds=seconds,
        sent=run.sent,
        endings={ending.value: count for ending, count in endings(books).items()},
        statuses=dict(sorted(statuses.items())),
        attempts=run.book.begun.total(),
        most_attempts=max(run.book.begun.values(), default=0),
        retries=int(told.total("cuvee_retries_total")),
        faults=dict(sorted(run.book.faults.items())),
        errors=by_well(books, lambda end: end.status >= 500),
        broken=by_well(books, lambda end: end.ending is Ending.BROKEN),
        reloads=(sum(run.reloads), len(run.reloads) - sum(run.reloads)),
        deaths=len(run.history.deaths),
        plans=int(told.total("cuvee_plans_total")),
        resident_mib=growth(run.samples, "resident_mib"),
        open_files=growth(run.samples, "open_files"),
        samples=tuple(run.samples[:: 1 + len(run.samples) // SAMPLES]),
        exit_status=exit_status,
        disagreements=tuple(odd),
    )
