"""A trace like the traffic that was watched, the promise that it had, and what is not known of it.

Pure: chance has a seed.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from gateway.advice.engine_totals import EngineTotals
from gateway.advice.watch import WatchedTraffic
from planner.errors import InvalidValue
from planner.sizes import FloatArray
from planner.traffic.counted_sizes import CountedSizes
from planner.traffic.trace import LEAST_WINDOWS, Trace, dispersion

LEAST_REQUESTS = 50
# Of log-normal sizes where only their mean is known: about that of the shipped conversations.
SPREAD = 0.9
WINDOW_S = 10.0  # of the index of dispersion that plans count with


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenTraffic:
    """What was watched, as a trace. unknown: what the metrics do not tell, a line each."""

    trace: Trace
    unknown: tuple[str, ...]


def seen_traffic(watched: WatchedTraffic, *, every_s: float, seed: int = 1) -> SeenTraffic:
    """The trace. Raises InvalidValue where too few requests ended."""
    number = watched.requests
    if number < LEAST_REQUESTS:
        raise InvalidValue(
            f"only {number} requests ended in {watched.seconds:.0f} s, and {LEAST_REQUESTS} are "
            "the least: watch for longer (--for), or at a busier time"
        )
    rng = np.random.default_rng(seed)
    engines = list(watched.served.values())
    inputs, means = _sizes(engines, number, rng, lambda e: e.prompt, lambda e: e.prompt_tokens)
    outputs, more = _sizes(engines, number, rng, lambda e: e.answer, lambda e: e.answer_tokens)
    arrival_s = _arrivals(watched.windows, number, rng)
    trace = Trace(
        arrival_s=arrival_s,
        input_tokens=np.maximum(1.0, np.rint(inputs)),
        output_tokens=np.maximum(1.0, np.rint(outputs)),
        key=("",) * number,
    )
    unknown = _unknown(watched, trace, every_s, guessed=means or more)
    return SeenTraffic(trace=trace, unknown=tuple(unknown))


def together(parts: Iterable[CountedSizes | None]) -> CountedSizes | None:
    """The histograms of all engines in one; `None` if none has one."""
    known = [part for part in parts if part is not None and part.number]
    return reduce(CountedSizes.plus, known) if known else None


def kept_now(watched: WatchedTraffic, share: float) -> tuple[float | None, float | None]:
    """The TTFT and the TPOT that this share of the requests has now, upper edges of their buckets,
    seconds; `None` where the metrics do not say."""
    ttft = together(engine.ttft for engine in watched.served.values())
    tpot = together(engine.tpot for engine in watched.served.values())
    return (
        None if ttft is None else ttft.quantile(share),
        None if tpot is None else tpot.quantile(share),
    )


def hit_share(watched: WatchedTraffic) -> float | None:
    """The share of the prompt tokens that prefix caches had; `None` if no engine says it."""
    told = [e for e in watched.served.values() if e.hits is not None and e.queries]
    queries = sum(engine.queries or 0.0 for engine in told)
    return sum(engine.hits or 0.0 for engine in told) / queries if queries else None


def _sizes(
    engines: Sequence[EngineTotals],
    number: int,
    rng: np.random.Generator,
    counted: Callable[[EngineTotals], CountedSizes | None],
    total: Callable[[EngineTotals], float | None],
) -> tuple[FloatArray, bool]:
    """(number,) sizes in an order of chance, and whether only their mean is known."""
    histogram = together(map(counted, engines))
    if histogram is not None:
        return rng.permutation(histogram.drawn(number)), False
    tokens = sum(total(engine) or 0.0 for engine in engines)
    requests = sum(engine.requests for engine in engines)
    if not tokens or not requests:
        raise InvalidValue("the metrics do not say how many tokens requests have")
    sizes = np.exp(SPREAD * rng.standard_normal(number))
    return sizes * (tokens / requests) / sizes.mean(), True


def _arrivals(
    windows: Sequence[tuple[float, float]], number: int, rng: np.random.Generator
) -> FloatArray:
    """(number,) times, ascending: in each window as many as ended in it, at moments of chance."""
    begin_s, times = 0.0, []
    for seconds, count in windows:
        times.append(begin_s + seconds * rng.random(round(count)))
        begin_s += seconds
    found = np.sort(np.concatenate(times))
    missing = number - len(found)  # of rounding
    if missing > 0:
        found = np.sort(np.concatenate([found, begin_s * rng.random(missing)]))
    found = found[:number]
    # The last request ends the trace, whose length is its rate.
    found[-1] = begin_s
    return np.asarray(found)


def _unknown(
    watched: WatchedTraffic, trace: Trace, every_s: float, *, guessed: bool
) -> Iterable[str]:
    minutes = watched.seconds / 60
    yield (f"the day: {minutes:.0f} minutes were watched; a fleet must hold the busiest hour")
    bursts = dispersion(trace.arrival_s, WINDOW_S, trace.duration_s)
    if bursts is None or every_s > WINDOW_S:
        yield (
            f"bursts: less than {LEAST_WINDOWS} readings of {WINDOW_S:g} s were made, so bursts "
            "are taken as plans take them where nothing is known"
        )
    else:
        yield (
            f"bursts shorter than {every_s:g} s: counters were read that often; at {WINDOW_S:g} s "
            f"the index of dispersion is {bursts:.1f} (1: chance)"
        )
    yield (
        "when requests came: counters tell when they ended, which smooths the arrivals by the "
        "time that answers take"
    )
    yield (
        "how prompts and answers go together: histograms count them apart, so they are taken as "
        "independent"
    )
    if guessed:
        yield (
            "the spread of sizes: an engine tells only their mean (SGLang needs "
            f"--collect-tokens-histogram); a log-normal one with σ = {SPREAD:g} is assumed"
        )
    hits = hit_share(watched)
    if hits:
        yield (
            f"prefix hits: {hits:.0%} of the prompt tokens are found now; none are counted on, "
            "since another fleet finds others"
        )
    if watched.gaps:
        yield f"all of it: {watched.gaps} readings failed"
