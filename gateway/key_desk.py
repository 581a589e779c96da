"""Tells the workers what keys have spent, and what they have used at other gateways.

Nothing here is on the way of a request: workers read the board, on which this writes.
"""

import asyncio
import logging
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from math import inf
from typing import Any

import msgspec

from gateway.access.key_board import CELLS, DAY, USD, KeyBoard
from gateway.cluster.codec import CodecError, decode, encode
from gateway.cluster.key_frames import COUNTS_S, KeyFrame, KeyLimits, SharedKeys
from gateway.cluster.link import Link
from gateway.cluster.store import Store, StoreError
from gateway.config.access_keys import AccessKeys, ServedKey
from gateway.config.load import Loaded
from gateway.journal.journal import DecisionJournal
from gateway.journal.spending import DaySpending
from gateway.telemetry.loops import Loops
from gateway.telemetry.stats_schema import Use

log = logging.getLogger("cuvee.access")

SPEND_S = 1.0  # between two writings of what keys have spent
LOOP = "keys"
TOLD = (
    "name", "models", "slo_classes", "slo_class", "weight", "requests_per_minute",
    "tokens_per_minute", "concurrency", "usd_per_day", "expires_s",
)  # fmt: skip


class KeyDesk:
    """The keys of one gateway; an async context manager while it speaks with other gateways."""

    def __init__(
        self,
        board: KeyBoard,
        journal: DecisionJournal,
        loops: Loops,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """journal: has what was spent before a restart."""
        self._board, self._loops, self._wall_clock = board, loops, wall_clock
        self._shared = SharedKeys(board)
        self._journal, self._spending = journal, DaySpending(wall_clock)
        self._busy: dict[str, float] = {}
        self._frames: dict[str, KeyFrame] = {}
        self._access: AccessKeys | None = None
        self._slots: dict[str, int] = {}
        self._limits = KeyLimits(board.slots)
        self._due_s = 0.0
        self._link = Link()
        self._store: Store | None = None
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<KeyDesk of {len(self._slots)} keys>"

    def configure(self, loaded: Loaded) -> None:
        """Look after the keys of this configuration from now on."""
        section = loaded.config.gateway.cluster
        if section is not None and self._store is None:
            name = f"{socket.gethostname()}-{secrets.token_hex(3)}"
            self._store = Store(section, loaded.root, name)
            self._pause_s = section.view_s
        if self._access is None:  # what was spent until now belongs to no key
            self._spending = DaySpending(self._wall_clock)
            self._spending.recall(self._journal.entries)
        self._access = access = loaded.access
        slots = () if access is None else access.slots
        self._slots = {name: slot for slot, name in enumerate(slots)}
        limits = KeyLimits(self._board.slots)
        for key in () if access is None else access.keys:
            slot = self._slots[key.name]
            own = key.requests_per_minute, key.tokens_per_minute, key.concurrency
            limits.most[slot] = [most or inf for most in own]
        self._limits = limits

    def add(self, uses: Mapping[tuple[str, str, str], Use], running: Mapping[str, float]) -> None:
        """Take what was used here, by caller, model and pool, and what backends cost per hour that
        run now, by pool."""
        if self._access is None:
            return
        self._spending.add(uses)
        self._spending.spend(running)
        for (_, _, pool), use in uses.items():
            self._busy[pool] = self._busy.get(pool, 0.0) + use[3]
        now_s = self._wall_clock()
        if now_s >= self._due_s:
            self._due_s = now_s + SPEND_S
            self._write_usd()

    def figures(self) -> dict[str, Any]:
        """As the admin port shows them: what each key may do, and what it does. Never a hash."""
        keys = () if self._access is None else self._access.keys
        used = self._shared.used(self._wall_clock())
        return {
            "needed": self._access is not None,
            "gateways": 1 + len(self._frames),
            "keys": [self._figures_of(key, used[self._slots[key.name]].tolist()) for key in keys],
        }

    def _figures_of(self, key: ServedKey, used: list[float]) -> dict[str, Any]:
        requests, tokens, under_way = used
        at = self._slots[key.name] * self._board.stride + self._board.workers * CELLS
        told = {name: getattr(key, name) for name in TOLD}
        return told | {
            "used": {
                "requests": round(requests, 1),
                "tokens": round(tokens, 1),
                "under_way": int(under_way),
                "usd": round(self._board.cells[at + USD], 6),
            }
        }

    async def __aenter__(self) -> "KeyDesk":
        if self._store is not None:
            self._task = asyncio.get_running_loop().create_task(self._exchange_forever())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._store is not None:
            await self._store.aclose()

    def _write_usd(self) -> None:
        """Write the dollars of all gateways."""
        day, own = self._spending.day, self._spending.usd()
        for name, slot in self._slots.items():
            usd = own.get(name, 0.0)
            usd += sum(f.usd.get(name, 0.0) for f in self._frames.values() if f.day == day)
            at = slot * self._board.stride + self._board.workers * CELLS
            self._board.cells[at + USD] = usd
            self._board.cells[at + DAY] = day

    async def _exchange_forever(self) -> None:
        while True:
            try:
                if self._access is not None:
                    await self._exchange()
                    self._loops.good(LOOP, time.time())
                    self._link.works(asyncio.get_running_loop().time())
            except StoreError as error:
                self._loops.failed(LOOP, str(error))
                if self._link.failed(str(error), asyncio.get_running_loop().time()):
                    log.warning("limits of keys hold at this gateway alone: %s", error)
            except Exception as error:
                log.exception("the use of keys could not be exchanged")
                self._loops.failed(LOOP, type(error).__name__)
            interval_s = self._pause_s
            await asyncio.sleep(self._link.pause_s(interval_s) if self._link.error else interval_s)

    async def _exchange(self) -> None:
        """Tell what keys have used here, and hear what they have used elsewhere."""
        assert self._store is not None
        now_s = self._wall_clock()
        own = msgspec.structs.replace(
            self._shared.told(self._slots, now_s),
            day=self._spending.day,
            usd=self._spending.usd() if self._has_budgets() else {},
            busy=self._busy,
        )
        told = await self._store.exchange_keys(encode(own))
        now_s, before = self._wall_clock(), self._frames
        self._frames = {name: f for name, data in told.items() if (f := _decoded(data)) is not None}
        over = [
            name
            for name, frame in self._frames.items()
            if now_s - frame.at_s > COUNTS_S and frame.day != self._spending.day
        ]
        if over:
            await self._store.forget_keys(over)
        for name, frame in self._frames.items():
            earlier = before.get(name)
            if earlier is not None:
                self._spending.beside(_since(earlier.busy, frame.busy))
        self._shared.hear(self._frames, self._slots, self._limits, now_s)

    def _has_budgets(self) -> bool:
        access = self._access
        return access is not None and any(key.usd_per_day for key in access.keys)


def _decoded(data: bytes) -> KeyFrame | None:
    """A frame; `None` of one that another version has written."""
    try:
        return decode(data, KeyFrame)
    except CodecError:
        return None


def _since(before: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float]:
    return {pool: max(0.0, s - before.get(pool, 0.0)) for pool, s in now.items()}
