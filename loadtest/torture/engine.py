"""One engine of a simulated world: the engine model, and everything that can be wrong with it.

Knows no gateway; `engine_connection` speaks HTTP for it.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from loadtest.torture.engine_connection import EngineConnection, EngineStream, GenerationBody
from loadtest.torture.fates import Fate
from loadtest.torture.network import Network, VirtualServer
from planner.engine.batching import Engine, FirstToken
from planner.engine.profiles import Profile

PORT = 8000
PIECE_S = 1.5  # between two pieces of a stream: one event for each token would cost ten times more

Attempt = Callable[[str, "TorturedEngine", Fate], None]


class EngineState:
    """What is wrong with an engine now.

    down: the process is dead. loading: it answers 503. deaf: its health path does not answer.
    sick: its health path answers 503. stalled: it takes requests and shows no token. slowdown:
    factor of its pace. share, fate: that share of the requests has this fate. frail: a poisonous
    request kills it. known: whether the world knows that something is wrong.
    """

    def __init__(self) -> None:
        self.down = self.loading = self.deaf = self.sick = self.stalled = self.frail = False
        self.slowdown = 1.0
        self.share = 0.0
        self.fate = Fate.FINE
        self.known = True

    @property
    def fine(self) -> bool:
        """Whether nothing is wrong."""
        wrong = self.down or self.loading or self.deaf or self.sick or self.stalled
        return not ((wrong or self.slowdown != 1.0 or self.share) and self.known)


class TorturedEngine:
    """One engine, at `host`.

    state: what is wrong with it. bad_at_s: when something was wrong last.
    """

    def __init__(
        self,
        host: str,
        profile: Profile,
        network: Network,
        *,
        draw: Callable[[], float],
        on_attempt: Attempt,
    ) -> None:
        """draw: chance, between 0 and 1. on_attempt: called with the id of each request that
        arrives, and with its fate."""
        self.host = host
        self.state = EngineState()
        self.bad_at_s = -1e9
        self._profile, self._network = profile, network
        self._draw, self._on_attempt = draw, on_attempt
        self._connections: dict[EngineConnection, None] = {}
        self._server: VirtualServer | None = None
        self.start()

    def __repr__(self) -> str:
        return f"<TorturedEngine {self.host}, {self.held} held>"

    @property
    def held(self) -> int:
        """Requests in the engine."""
        return len(self._streams)

    @property
    def connections(self) -> int:
        return len(self._connections)

    @property
    def frail(self) -> bool:
        return self.state.frail

    @property
    def health(self) -> int | None:
        if self.state.deaf or self.state.down:
            return None
        return 503 if self.state.sick or self.state.loading else 200

    def start(self) -> None:
        """Start the process."""
        self._engine = Engine(self._profile)
        self._streams: dict[int, EngineStream] = {}
        self._number = 0
        self._timer: asyncio.TimerHandle | None = None
        self._engine_s = self._moved_s = self._network.loop.time()
        self.state.down = False
        self._server = self._network.listen(self.host, PORT, lambda: EngineConnection(self))

    def crash(self) -> None:
        """Die as a killed process does."""
        self.state.down = True
        if self._server is not None:
            self._server.close()
        self._cancel()
        for connection in tuple(self._connections):
            connection.reset()
        self._connections.clear()
        self._streams = {}

    def change(self, **state: Any) -> None:
        """Set fields of the state; time goes on at the new pace from now on."""
        if not self.state.down:
            self.advance()
        for name, value in state.items():
            setattr(self.state, name, value)
        if not self.state.down:
            self._schedule()

    def spoil(self, **state: Any) -> None:
        """Change the state without anybody being told that something is wrong."""
        self.change(**state)
        self.state.known = False

    def fate_of(self, body: GenerationBody) -> Fate:
        """Decide what becomes of a request that arrives."""
        fate = Fate.FINE
        if body.vllm_xargs.poison:
            fate = Fate.POISON
        elif self.state.loading:
            fate = Fate.BUSY
        elif self.state.share and self._draw() < self.state.share:
            fate = self.state.fate
        self._on_attempt(body.user, self, fate)
        return fate

    def submit(self, stream: "EngineStream") -> int:
        """Begin to generate; return the key of the request."""
        self.advance()
        self._number += 1
        key, sizes = self._number, stream.body.vllm_xargs
        self._streams[key] = stream
        self._engine.submit(
            key,
            input_tokens=sizes.input_tokens,
            output_tokens=sizes.output_tokens,
            now_s=self._engine_s,
        )
        self._schedule()
        return key

    def abort(self, key: int) -> None:
        """The client of a request left."""
        if self._streams.pop(key, None) is not None:
            self.advance()
            self._engine.abort(key, self._engine_s)
            self._schedule()

    def join(self, connection: "EngineConnection") -> None:
        self._connections[connection] = None

    def part(self, connection: "EngineConnection") -> None:
        self._connections.pop(connection, None)

    def advance(self) -> None:
        """Run up to now, and send what was generated."""
        now_s = self._network.loop.time()
        pace = 0.0 if self.state.stalled else 1.0 / self.state.slowdown
        self._engine_s += (now_s - self._moved_s) * pace
        self._moved_s = now_s
        for event in self._engine.advance(self._engine_s):
            key = event.key
            assert isinstance(key, int)
            if isinstance(event, FirstToken):
                if (stream := self._streams.get(key)) is not None:
                    stream.progress(1, now_s)
            elif (stream := self._streams.pop(key, None)) is not None:
                stream.finish(now_s)
        for key, stream in tuple(self._streams.items()):
            if stream.sent and now_s - stream.sent_s > PIECE_S - 1e-6:
                stream.progress(self._engine.produced(key), now_s)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self) -> None:
        """Wake at the next event of the engine, or at the next piece of a stream."""
        self._cancel()
        if self.state.stalled or self.state.down:
            return
        loop = self._network.loop
        due_s = self._engine.next_event_s
        if due_s is None:
            return
        # Not earlier than the event, which rounding could make it.
        at_s = loop.time() + (due_s - self._engine_s) * self.state.slowdown + 1e-6
        pieces = [s.sent_s for s in self._streams.values() if s.sent]
        if pieces:
            at_s = min(at_s, max(loop.time(), min(pieces) + PIECE_S))
        self._timer = loop.call_at(at_s, self._wake, context=self._network.context)

    def _wake(self) -> None:
        self._timer = None
        self.advance()
        self._schedule()
