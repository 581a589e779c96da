"""The thin client of the Redis or Valkey that the gateways of one cluster share.

Every call returns within `timeout_s` or raises `StoreError`: nothing waits for Redis for longer.
Knows no plan: values are bytes.
"""

import asyncio
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from gateway.cluster import scripts
from gateway.config.cluster_schema import ClusterSection
from planner.document import shown

KEPT_VIEWS_MS = 30_000
KEPT_PLAN_MS = 600_000  # after the last gateway; later, one that starts knows better by itself
KEPT_REPORTS_MS = 60_000
KEPT_KEYS_MS = 90_000_000  # longer than the day that dollars are counted for
MOST_REPORTS = 256  # of all gateways; what nobody read by then is lost
CONNECTIONS = 4  # one for each loop
STAMP, PLAN, LEARNED = "stamp", "plan", "learned"  # fields of what the planning gateway says

Value = TypeVar("Value")


class StoreError(Exception):
    """Redis did not answer, or not as it should: one line why."""


class Store:
    """The keys of one cluster."""

    def __init__(self, section: ClusterSection, root: Path, gateway: str) -> None:
        """root: the folder that paths are relative to. gateway: the id of this one."""
        self._section = section
        self._root = root
        self._gateway = gateway
        prefix = f"cuvee:{{{section.name}}}:"
        self._lease, self._token = f"{prefix}lease", f"{prefix}token"
        self._plan, self._views = f"{prefix}plan", f"{prefix}views"
        self._reports, self._keys = f"{prefix}reports", f"{prefix}keys"
        self._client: Any = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<Store {self._reports.rpartition(':')[0]}>"  # no URL: it may have a password

    async def hold(self, lease_s: float, newest: int) -> tuple[int, str]:
        """Ask for the lease, or for more of it. newest: the newest token that is known here.
        Returns the token and the id of the gateway that has it now."""
        token, holder = await self._ask(
            lambda client: client.eval(
                scripts.HOLD, 2, self._lease, self._token, self._gateway, int(1000 * lease_s),
                newest,
            )
        )  # fmt: skip
        return int(token), holder.decode()

    async def release(self) -> None:
        """Give the lease up, and take what this gateway told of its load away."""
        await self._ask(lambda client: client.eval(scripts.RELEASE, 1, self._lease, self._gateway))
        await self._ask(lambda client: client.hdel(self._views, self._gateway))

    async def publish(self, token: int, fields: Mapping[str, bytes]) -> bool:
        """Write fields of what the gateway that plans says; `False` if a newer one has the
        lease."""
        flat = [part for pair in fields.items() for part in pair]
        written = await self._ask(
            lambda client: client.eval(
                scripts.PUBLISH, 2, self._token, self._plan, token, KEPT_PLAN_MS, *flat
            )
        )
        return bool(written)

    async def said(self, field: str) -> bytes | None:
        """A field of what the gateway that plans says; `None` if it is not there."""
        value: bytes | None = await self._ask(lambda client: client.hget(self._plan, field))
        return value

    async def exchange(self, frame: bytes) -> tuple[dict[str, bytes], bytes | None]:
        """Tell the others what this gateway has in flight. Returns what they told, by their ids,
        and the stamp of the plan."""

        async def steps(client: Any) -> Any:
            pipeline = client.pipeline(transaction=False)
            pipeline.hset(self._views, self._gateway, frame)
            pipeline.pexpire(self._views, KEPT_VIEWS_MS)
            pipeline.hgetall(self._views)
            pipeline.hget(self._plan, STAMP)
            return await pipeline.execute()

        _, _, views, stamp = await self._ask(steps)
        others = {k.decode(): view for k, view in views.items() if k.decode() != self._gateway}
        return others, stamp

    async def forget(self, gateways: list[str]) -> None:
        """Take away what gateways told that are gone."""
        await self._ask(lambda client: client.hdel(self._views, *gateways))

    async def exchange_keys(self, frame: bytes) -> dict[str, bytes]:
        """Tell the others what keys have used here. Returns what they told, by their ids."""

        async def steps(client: Any) -> Any:
            pipeline = client.pipeline(transaction=False)
            pipeline.hset(self._keys, self._gateway, frame)
            pipeline.pexpire(self._keys, KEPT_KEYS_MS)
            pipeline.hgetall(self._keys)
            return await pipeline.execute()

        *_, frames = await self._ask(steps)
        return {k.decode(): one for k, one in frames.items() if k.decode() != self._gateway}

    async def forget_keys(self, gateways: list[str]) -> None:
        """Take away what gateways told of keys that does not count any more."""
        await self._ask(lambda client: client.hdel(self._keys, *gateways))

    async def report(self, data: bytes) -> None:
        """Tell the others what happened here."""

        async def steps(client: Any) -> Any:
            pipeline = client.pipeline(transaction=False)
            pipeline.xadd(self._reports, {b"r": data}, maxlen=MOST_REPORTS, approximate=True)
            pipeline.pexpire(self._reports, KEPT_REPORTS_MS)
            return await pipeline.execute()

        await self._ask(steps)

    async def last_report(self) -> str:
        """The id of the newest report."""
        rows = await self._ask(lambda client: client.xrevrange(self._reports, count=1))
        return rows[0][0].decode() if rows else "0-0"

    async def reports(self, after: str) -> list[tuple[str, bytes]]:
        """The reports after this one, each with its id."""
        rows = await self._ask(lambda client: client.xrange(self._reports, min=f"({after}"))
        return [(row.decode(), fields.get(b"r", b"")) for row, fields in rows]

    async def aclose(self) -> None:
        """Close all connections; calls after it raise StoreError."""
        self._closed = True
        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):  # it is of no use any more
                await client.aclose()

    async def _ask(self, ask: Any) -> Any:
        client: Any = None
        try:
            client = self._connected()
            return await self._answered(ask(client))
        except Exception as error:
            if self._client is client:
                self._client = None  # the next call begins anew, with the password as it is then
            raise StoreError(_line(error)) from error
        finally:
            # It failed here, or in another call meanwhile: connections that failed or are late are
            # of no use, what comes next on them may be the answer to an earlier question. Nor is
            # one that was made since of use to anybody.
            if client is not None and client is not self._client:
                with suppress(Exception):
                    await client.connection_pool.disconnect(inuse_connections=True)

    async def _answered(self, answer: Awaitable[Value]) -> Value:
        async with asyncio.timeout(self._section.timeout_s):
            return await answer

    def _connected(self) -> Any:
        """The client; made anew after a failure, with the password as its file has it now."""
        if self._closed:
            raise ConnectionError("closed")
        if self._client is None:
            self._client = client_of(self._section, self._root)
        return self._client


def client_of(section: ClusterSection, root: Path) -> Any:
    """A client of redis-py, which has not connected yet. Raises OSError where a file cannot be
    read."""
    package = import_module("redis.asyncio")  # an extra, and 10 MiB: only where it is used
    retry = import_module("redis.asyncio.retry").Retry(
        import_module("redis.backoff").NoBackoff(), 0
    )
    more: dict[str, Any] = {}
    if section.password_file is not None:
        more["password"] = (root / section.password_file).read_text().strip()
    if section.redis.startswith("rediss") and section.ca_file is not None:
        more["ssl_ca_certs"] = str(root / section.ca_file)
    return package.Redis.from_url(
        section.redis,
        socket_timeout=section.timeout_s,
        socket_connect_timeout=section.timeout_s,
        max_connections=CONNECTIONS * 4,
        retry=retry,
        **more,
    )


def _line(error: Exception) -> str:
    """Why there is no answer, on one line, without a password."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    text = shown(str(error))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
