"""Whether streams of a backend are asked for their usage, which the gateway does for its own sake.

A backend that refuses `stream_options` is asked again without, and remembered. So is its
`system_fingerprint`, which an engine says beside the usage then. No I/O.

Whether an engine would give the usage unasked is not tried: the tokens of a stream without it are
not as the engine counted them, which is what the metrics promise.
"""

from typing import Final

from gateway.proxy.engines import EngineRefusal
from gateway.proxy.sse import KnownFingerprint, StreamMeter
from gateway.routing.backend import Backend
from gateway.routing.body import with_usage
from gateway.routing.llm_request import LlmRequest

NAMES: Final = ("stream_options", "include_usage")  # an error that names one is about the option


class UsageMemory:
    """Remembers by backend; one object serves one process.

    wanted: whether streams are to be asked at all.
    """

    def __init__(self) -> None:
        self.wanted = True
        self._takes: dict[str, bool] = {}  # by URL; of a backend that is not in it nothing is known
        self._fingerprints: dict[str, KnownFingerprint] = {}  # by URL

    def __repr__(self) -> str:
        return f"<UsageMemory, {len(self._takes)} backends known>"

    def spliced(self, backend: Backend, request: LlmRequest, body: bytes) -> bytes | None:
        """The body that asks for the usage; `None` if it goes as it came."""
        if not self.wanted or not request.stream or request.asks_usage:
            return None
        if not self._takes.get(backend.url, True):
            return None
        return with_usage(body, nulls_options=request.nulls_options)

    def meter(self, backend: Backend, request: LlmRequest, *, asked: bool) -> StreamMeter:
        """What follows a stream of a backend. asked: whether the gateway asked for its usage."""
        known = self._fingerprints.get(backend.url)
        if known is None:
            known = self._fingerprints[backend.url] = KnownFingerprint()
        return StreamMeter(
            endpoint=request.endpoint,
            hide_usage=asked,
            fingerprint=known,
            several=request.answers > 1,
        )

    def doubts(self, backend: Backend, error: BaseException) -> bool:
        """Whether an error may be about the option, so that the request is worth a try without:
        where it names the option, and where the backend has not taken it yet."""
        if not isinstance(error, EngineRefusal) or error.status not in (400, 422):
            return False
        if any(name in str(error.error) for name in NAMES):
            self._takes[backend.url] = False
        return not self._takes.get(backend.url, False)

    def took(self, backend: Backend, *, asked: bool) -> None:
        """A backend answered a request with the option; or one without, after it refused it."""
        if self._takes.get(backend.url) is not asked:
            self._takes[backend.url] = asked

    def forget(self, backend: Backend) -> None:
        """Know nothing of a backend."""
        self._takes.pop(backend.url, None)
        self._fingerprints.pop(backend.url, None)
