"""Hears the KV events of all engines that publish them, one task for each rank, and has the index
of prompts' beginnings follow. Without events, or with others than are known, nothing changes: what
is believed is then what the gateway itself noted.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from gateway.config.kv_events import endpoint
from gateway.config.kv_events_schema import KvEventsSection
from gateway.config.load import Loaded
from gateway.kv_events.beliefs import Beliefs
from gateway.kv_events.event_stream import EventStream
from gateway.routing.backend import Backend
from gateway.routing.fleet import Fleet
from gateway.routing.prefix_index import PrefixIndex
from gateway.routing.table import RoutingTable
from gateway.telemetry.kv_reading import KvFigures
from gateway.telemetry.loops import Loops

log = logging.getLogger("cuvee.kv_events")

LOOP = "kv_events"
LOOK_S = 1.0  # between two looks at the fleet and at the streams
PATIENCE_S = 5.0  # without a publisher, until that is told
SILENT_TOKENS = 32_768  # given to an engine that has published nothing, until that is told


class HeardEngine:
    """The streams of one backend, one for each rank. key: what they were made from."""

    def __init__(
        self,
        backend: Backend,
        section: KvEventsSection,
        context: Any,
        beliefs: Beliefs,
        now_s: float,
    ) -> None:
        self.backend, self.key = backend, (backend.url, section)
        self._beliefs = beliefs
        self._topic = section.topic or ""
        self._clock, self._given = beliefs.given(backend), 0
        self._seen_s = now_s  # when all publishers were there last
        self.fault: str | None = None
        replay = section.replay_endpoint
        self.streams = tuple(
            EventStream(
                context,
                endpoint(section.endpoint, backend.url, rank),
                None if replay is None else endpoint(replay, backend.url, rank),
                self._topic,
                noted=lambda: beliefs.noted(backend),
                changed=self._changed,
            )
            for rank in range(section.ranks)
        )
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(stream.run()) for stream in self.streams]

    def __repr__(self) -> str:
        return f"<HeardEngine {self.backend.name} of {len(self.streams)} ranks>"

    def close(self) -> None:
        """Hear it no more."""
        for task in self._tasks:
            task.cancel()

    def look(self, now_s: float) -> str | None:
        """What is wrong with it, in one line; `None` if nothing is."""
        self._given += self._beliefs.gained(self.backend, self._clock)
        self._clock = self._beliefs.given(self.backend)
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()):
                return f"its events cannot be heard: {error!r}"
        faults = [stream.fault for stream in self.streams if stream.fault is not None]
        if faults:
            return faults[0]
        away = [stream.endpoint for stream in self.streams if not stream.connected]
        if not away or not self.backend.healthy:  # of one that is down, that is told already
            self._seen_s = now_s
        elif now_s - self._seen_s >= PATIENCE_S:
            return f"nobody publishes KV events at {away[0]}"
        if all(stream.batches for stream in self.streams):
            return None
        if self._given >= SILENT_TOKENS * len(self.streams) and not away:
            silent = next(stream.endpoint for stream in self.streams if not stream.batches)
            topic = f" with the topic {self._topic!r}" if self._topic else ""
            return (
                f"{silent} publishes no KV events{topic}, and the engine got {self._given} tokens"
            )
        return None

    def figures(self) -> KvFigures:
        """As the metrics show it."""
        held = [stream.ledger.held_tokens for stream in self.streams]
        known = all(stream.current for stream in self.streams)
        return KvFigures(
            backend=self.backend.name,
            pool=self.backend.pool,
            connected=all(stream.connected for stream in self.streams),
            held_tokens=sum(n or 0 for n in held) if known and None not in held else None,
            events=sum(stream.events for stream in self.streams),
            gaps=sum(stream.gaps for stream in self.streams),
        )

    def _changed(self, stream: EventStream, cleared: bool) -> None:
        """A batch was taken. A prompt is in the cache of one rank, nobody knows of which: it is
        gone when all would have forgotten it."""
        if cleared:
            self._beliefs.forget(self.backend)
            return
        edges = [one.ledger.edge for one in self.streams]
        known = [edge for edge in edges if edge is not None]
        if len(known) == len(edges):
            self._beliefs.disbelieve(self.backend, min(known))


class KvEvents:
    """The engines of one gateway that publish."""

    def __init__(
        self,
        fleet: Fleet,
        *,
        loaded: Callable[[], Loaded],
        index: Callable[[], PrefixIndex],
        table: Callable[[], RoutingTable],
        loops: Loops,
        show: Callable[[Sequence[KvFigures]], None] = lambda _: None,
    ) -> None:
        """loaded, table: return those in force. index: returns that of all workers; it is called
        once, when there is an engine that publishes. show: takes what the metrics show."""
        self._fleet = fleet
        self._loaded, self._index, self._table = loaded, index, table
        self._loops = loops
        self._show = show
        self._heard: dict[str, HeardEngine] = {}
        self._unheard: dict[str, str] = {}  # by backend, why not
        self._beliefs: Beliefs | None = None
        self._context: Any = None

    def __repr__(self) -> str:
        return f"<KvEvents of {len(self._heard)} engines>"

    async def run(self) -> None:
        """Hear all engines that are to publish, for ever."""
        try:
            while True:
                try:
                    self.look(asyncio.get_running_loop().time())
                except Exception as error:
                    log.exception("the engines that publish KV events could not be looked at")
                    self._loops.failed(LOOP, repr(error))
                await asyncio.sleep(LOOK_S)
        finally:
            self._close()

    def look(self, now_s: float) -> None:
        """Follow the fleet and the configuration, and tell how the streams are. now_s: of the event
        loop."""
        pools = self._loaded().config.pools
        sections = {name: pool.kv_events for name, pool in pools.items()}
        wanted = {
            backend.name: (backend, section)
            for backend in self._fleet.backends
            if (section := sections.get(backend.pool)) is not None
        }
        for name, heard in tuple(self._heard.items()):
            backend, section = wanted.get(name, (None, None))
            if backend is not heard.backend or (heard.backend.url, section) != heard.key:
                self._leave(name)
        self._unheard = {
            name: fault
            for name, (backend, section) in wanted.items()
            if name not in self._heard and (fault := self._hear(backend, section, now_s))
        }
        if self._beliefs is not None:
            self._beliefs.look([heard.backend for heard in self._heard.values()])
        faults = self._unheard | {
            name: fault for name, h in self._heard.items() if (fault := self._told(h, now_s))
        }
        self._show([heard.figures() for heard in self._heard.values()])
        if faults:
            name, fault = next(iter(faults.items()))
            self._loops.failed(LOOP, f"backend {name}: {fault}")
        elif wanted:
            self._loops.good(LOOP, time.time())
        else:
            self._loops.forget(LOOP)

    def _told(self, heard: HeardEngine, now_s: float) -> str | None:
        """What is wrong with an engine; the log says it once."""
        fault, before = heard.look(now_s), heard.fault
        heard.fault = fault
        name = f"{heard.backend.name} ({heard.backend.url})"
        if fault is not None and before is None:
            text = "backend %s: %s; what it has is believed as without events"
            log.warning(text, name, fault)
        elif fault is None and before is not None:
            log.info("backend %s: its KV events are heard again", name)
        return fault

    def _hear(self, backend: Backend, section: KvEventsSection, now_s: float) -> str | None:
        """Begin to hear an engine; why not, if that cannot be: the check of the configuration does
        not see backends that are discovered."""
        try:
            self._check(backend, section)
        except ValueError as error:
            fault = str(error)
            if self._unheard.get(backend.name) != fault:
                text = "backend %s (%s): its KV events are not heard: %s"
                log.warning(text, backend.name, backend.url, fault)
            return fault
        if self._beliefs is None:
            self._beliefs = Beliefs(self._fleet, self._index(), table=self._table)
        if self._context is None:
            # An extra, and a thread: only where it is used.
            self._context = import_module("zmq.asyncio").Context()
        heard = HeardEngine(backend, section, self._context, self._beliefs, now_s)
        self._heard[backend.name] = heard
        return None

    def _check(self, backend: Backend, section: KvEventsSection) -> None:
        """Raises ValueError where there is no address, or that of another engine."""
        if section.replay_endpoint is not None:
            endpoint(section.replay_endpoint, backend.url, section.ranks - 1)
        every = range(section.ranks)
        addresses = {endpoint(section.endpoint, backend.url, rank) for rank in every}
        for other in self._heard.values():
            shared = addresses.intersection(stream.endpoint for stream in other.streams)
            if shared and other.backend.url != backend.url:
                raise ValueError(f"{min(shared)} is that of backend {other.backend.name} already")

    def _leave(self, name: str) -> None:
        self._heard.pop(name).close()

    def _close(self) -> None:
        for name in tuple(self._heard):
            self._leave(name)
        if self._context is not None:
            self._context.destroy(linger=0)
