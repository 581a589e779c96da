"""How long a request with a large body holds up the others: the latency of small requests beside
one connection that sends large bodies of one kind, again and again.

The gateway serves all requests of a process on one event loop, so whatever it does without a break
is latency for everybody else. Loopback only, bounded in time.
"""

import json
import os
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from gateway.routing.endpoints import BY_PATH
from gateway.routing.large_body import LargeBody, read_large
from loadtest import process
from loadtest.overhead import mock, scenarios, setups
from loadtest.overhead.generator import ExpectedReply, Job, Window
from loadtest.overhead.rounds import Progress, unseen
from loadtest.overhead.run import load_process, read_result, send_window, sleep_until
from loadtest.overhead.scenarios import Scenario
from loadtest.overhead.setups import GATEWAY, Setup
from loadtest.process import Cores

NOTHING = "nothing"  # the small requests alone, which the others are read beside
TOKENS = 100_000
WORDS = "the quick brown fox jumps over the lazy dog. "
ESCAPES = 'line "one"\n\tline \\two\u20ac '
PICTURE_BYTES = 5_000_000
WARMUP_S = 0.5
READINGS = 5
SMALL = Scenario(name="small", connections=1, body_bytes=1024)
RATE = 1000.0  # small requests/s


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldRow:
    """Latency of the small requests beside large ones of one kind, in seconds.

    step_s: CPU time of the longest step in which the gateway reads such a body, which does not
    depend on what else runs on the machine. large: how many large ones were answered meanwhile.
    errors: of both.
    """

    kind: str
    body_bytes: int
    step_s: float
    large: int
    small: int
    p50_s: float
    p99_s: float
    most_s: float
    errors: int


def kinds() -> dict[str, tuple[str, bytes]]:
    """Path and body of each kind of large request; of most, 100,000 tokens."""
    chat, completions = "/v1/chat/completions", "/v1/completions"
    text = WORDS * (4 * TOKENS // len(WORDS))
    picture = {"url": "data:image/png;base64," + "iVBORw0KGgo/AAAA" * (PICTURE_BYTES // 16)}
    part = {"type": "text", "text": WORDS}
    return {
        "one text": (chat, _chat([{"role": "user", "content": text}])),
        "escapes": (chat, _chat([{"role": "user", "content": ESCAPES * (TOKENS // 8)}])),
        "1,000 messages": (chat, _chat([{"role": "user", "content": text[:400]}] * 1000)),
        "10,000 parts": (chat, _chat([{"role": "user", "content": [part] * 10_000}])),
        "100,000 ids": (completions, _body(prompt=list(range(TOKENS)))),
        "100,000 texts": (completions, _body(prompt=["text"] * TOKENS)),
        "a picture of 5 MB": (
            chat,
            _chat([{"role": "user", "content": [{"type": "image_url", "image_url": picture}]}]),
        ),
    }


def _chat(messages: list[dict[str, object]]) -> bytes:
    return _body(messages=messages)


def _body(**fields: object) -> bytes:
    return json.dumps({"model": mock.MODEL, "max_tokens": 16, **fields}).encode()


def measure_holds(window_s: float, progress: Progress = unseen) -> tuple[HoldRow, ...]:
    """Start the gateway, and measure each kind for so long. Raises NotReady."""
    cores = process.assign_cores(tuple(os.sched_getaffinity(0)), 1)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cuvee-hold-")))
        bench = setups.start_environment(stack, folder, cores)
        setup = setups.start_gateway(stack, bench, GATEWAY, setups.COMMAND)
        large: Mapping[str, tuple[str, bytes] | None] = {NOTHING: None, **kinds()}
        rows = []
        for kind, request in large.items():
            progress(kind, of=len(large))
            rows.append(_measure(setup, kind, request, window_s, cores))
        return tuple(rows)


def _measure(
    setup: Setup, kind: str, large: tuple[str, bytes] | None, window_s: float, cores: Cores
) -> HoldRow:
    """One kind: one connection sends small requests at a rate, another the large ones."""
    small = Job(
        port=setup.port,
        request=scenarios.request(SMALL),
        connections=scenarios.OPEN_CONNECTIONS,
        rate=RATE,
        expected=ExpectedReply(text=mock.TEXT.encode()),
    )
    jobs = [small]
    if large is not None:
        jobs.append(Job(port=setup.port, request=_framed(*large), connections=1))
    with ExitStack() as stack:
        loads = [
            stack.enter_context(load_process(job, cores.load[number % len(cores.load)]))
            for number, job in enumerate(jobs)
        ]
        start_s = time.monotonic() + WARMUP_S
        window = Window(start_s=start_s, end_s=start_s + window_s)
        for load in loads:
            send_window(load, window)
        sleep_until(window.end_s)
        results = [read_result(load) for load in loads]
    latencies = sorted(results[0].total_s) or [float("nan")]
    return HoldRow(
        kind=kind,
        body_bytes=0 if large is None else len(large[1]),
        step_s=0.0 if large is None else longest_step_s(*large),
        large=sum(result.requests for result in results[1:]),
        small=results[0].requests,
        p50_s=latencies[len(latencies) // 2],
        p99_s=latencies[len(latencies) * 99 // 100],
        most_s=latencies[-1],
        errors=sum(sum(result.errors.values()) for result in results),
    )


def longest_step_s(path: str, body: bytes) -> float:
    """CPU time of the longest step of reading a body: the least of several readings, in seconds."""
    endpoint = BY_PATH[path]
    longest = []
    for _ in range(READINGS):
        before_s = time.thread_time()
        reading = read_large(body, endpoint)
        most_s = time.thread_time() - before_s
        more = isinstance(reading, LargeBody)
        while more and isinstance(reading, LargeBody):
            before_s = time.thread_time()
            more = reading.step()
            most_s = max(most_s, time.thread_time() - before_s)
        longest.append(most_s)
    return min(longest)


def _framed(path: str, body: bytes) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
