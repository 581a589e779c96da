"""The requests of one worker that ended, as the trace of the gateway's traffic has them.

Only sizes, times and names of the configuration: never a header, a body or a key of a client.
"""

from collections.abc import Collection

from gateway.routing.observation import Observation, Outcome
from planner.traffic.gateway_trace import ServedRequest

# Between two takings, which are half a second apart at most: a few MiB.
MOST_REQUESTS = 20_000
KNOWN_SIZES = (Outcome.OK, Outcome.ABANDONED)


class TrafficRecorder:
    """Gathers requests until they are taken; what is too much is counted only."""

    def __init__(
        self,
        adapters: Collection[str],
        most: int = MOST_REQUESTS,
    ) -> None:
        """adapters: names of all. most: requests that are kept until they are taken."""
        self._adapters = frozenset(adapters)
        self._most = most
        self._served: list[ServedRequest] = []
        self._lost = 0

    def __repr__(self) -> str:
        return f"<TrafficRecorder of {len(self._served)} requests>"

    def add(self, ended: Observation, since_s: float) -> None:
        """Note a request that ended. since_s: Unix time at zero of the observations' clock."""
        if len(self._served) >= self._most:
            self._lost += 1
        else:
            self._served.append(_served(ended, since_s + ended.arrival_s, self._adapters))

    def take(self) -> tuple[list[ServedRequest], int]:
        """Those since the last call, and how many more there were."""
        taken = self._served, self._lost
        self._served, self._lost = [], 0
        return taken


def _served(ended: Observation, at_s: float, adapters: Collection[str]) -> ServedRequest:
    """A request as the trace has it.

    An answer that a failure cut, or that never came, has the size that was believed: it is what a
    plan must provide for. One that the client left has the size that it got.
    """
    inputs, outputs = _of_one(ended.input_tokens, ended.prompts), ended.answer_tokens
    if ended.outcome not in KNOWN_SIZES:
        outputs = None
    if not ended.endpoint.generates:
        outputs = 0
    asked = ended.asked or ""
    size = ended.estimated_input if inputs is None else max(1, inputs)
    return ServedRequest(
        at_s=at_s,
        caller=ended.caller,
        model=ended.model,
        adapter=asked if asked in adapters else "",
        endpoint=ended.endpoint.name,
        slo_class=ended.slo_class,
        outcome=ended.outcome.value,
        input_tokens=size,
        output_tokens=ended.estimated_output if outputs is None else outputs,
        cached_tokens=_hits(ended, size),
        width=ended.width,
        estimated=inputs is None or outputs is None,
        ttft_s=ended.ttft_s,
        duration_s=ended.duration_s,
    )


def _of_one(tokens: int | None, prompts: int) -> int | None:
    return None if tokens is None else tokens // prompts


def _hits(ended: Observation, size: int) -> int:
    """Prefix hits of one sequence, on average: all but one of the choices of a prompt find it
    computed."""
    cached, width, prompts = ended.cached_tokens or 0, ended.width, ended.prompts
    return min(size, cached // prompts + size * (width - prompts) // width)
