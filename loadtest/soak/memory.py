"""Memory and descriptors of the gateway's processes over a run, and how they grow."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gateway.processes import usage
from loadtest.process import family

WARM_UP = 0.25  # share of the requests after which growth counts
PER = 100_000  # requests that a slope is given for
FEWEST = 5  # samples for a slope
MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySample:
    """The gateway's processes together. requests: that have ended until then."""

    requests: int
    resident_mib: float
    open_files: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """Of one figure. first: at the end of the warm-up. slope: per 100,000 requests, by least
    squares; `None` with too few samples. error: its standard error."""

    first: float
    last: float
    most: float
    slope: float | None
    error: float | None


def sample(root: int, requests: int) -> MemorySample:
    """What the process `root` and its descendants use now."""
    used = [found for pid in family(root) if (found := usage(pid)) is not None]
    return MemorySample(
        requests=requests,
        resident_mib=sum(process.resident_bytes for process in used) / MIB,
        open_files=sum(process.open_files for process in used),
    )


def growth(samples: Sequence[MemorySample], figure: str) -> Growth:
    """How a figure of the samples grew after the warm-up; figure: a field of `MemorySample`."""
    most = samples[-1].requests
    kept = [s for s in samples if s.requests >= WARM_UP * most] or list(samples[-1:])
    values = np.array([float(getattr(s, figure)) for s in kept])
    requests = np.array([s.requests / PER for s in kept])
    slope = error = None
    if len(kept) >= FEWEST and np.ptp(requests) > 0:
        spread = requests - requests.mean()
        slope = float(spread @ values / (spread @ spread))
        rest = values - values.mean() - slope * spread
        error = float(np.sqrt(rest @ rest / (len(kept) - 2) / (spread @ spread)))
    return Growth(
        first=float(values[0]), last=float(values[-1]), most=float(values.max()),
        slope=slope, error=error,
    )  # fmt: skip
