"""Asks all configured backends at once, with the HTTP client of the data path.

Owns the requests and their time limit; what the answers mean is `verdict`'s.
"""

import asyncio
from collections.abc import Sequence

from gateway.config.load import Loaded
from gateway.errors import Unavailable, UpstreamError, UpstreamTimeout
from gateway.preflight.verdict import Expected, HttpAnswer, Verdict, compare
from gateway.proxy.engines import dialects
from gateway.proxy.http.fiber import Fiber
from gateway.proxy.http.pool import ConnectionPool, ConnectionPools
from gateway.proxy.http.reply import Reply
from gateway.proxy.targets import header_lines, tls_files


def expected(loaded: Loaded) -> tuple[Expected, ...]:
    """All backends of a configuration, in the order of the file."""
    pools = expected_in(loaded)
    return tuple(
        pools[name]._replace(url=url)
        for name, section in loaded.config.pools.items()
        for url in section.backends
    )


def expected_in(loaded: Loaded) -> dict[str, Expected]:
    """What every backend of a pool should be, by pool, each without a URL: for those that are not
    in the file."""
    profiles = {pool.name: pool.profile for pool in loaded.pools}
    spoken = dialects(loaded.upstreams)
    return {
        name: Expected(
            pool=name,
            url="",
            model=loaded.upstreams[name].names[section.model],
            context=profiles[name].max_model_len,
            health=spoken[name].health,
            engine_version=profiles[name].engine_version,
            version=spoken[name].version,
            adapters=_adapters(loaded, name),
            upstream=loaded.upstreams[name],
        )
        for name, section in loaded.config.pools.items()
    }


def _adapters(loaded: Loaded, pool: str) -> tuple[str, ...]:
    """The engines' names of a pool's adapters."""
    model = loaded.config.pools[pool].model
    own = loaded.config.models[model].adapters
    return tuple(name for asked, name in loaded.upstreams[pool].names.items() if asked in own)


async def inquire(
    backends: Sequence[Expected], *, key: str | None, timeout_s: float
) -> tuple[Verdict, ...]:
    """Ask backends for their health and their models, and for their version where the profile
    states one; the verdicts are in their order.

    key: sent as `Authorization: Bearer` to pools that have no key of their own. timeout_s: until
    the whole answer of each; all are asked at the same time, so that all of it takes no longer.
    """
    async with ConnectionPools(connect_timeout_s=2 * timeout_s) as pools:
        asked = (ask(pools, backend, key=key, timeout_s=timeout_s) for backend in backends)
        return tuple(verdict for verdict, _ in await asyncio.gather(*asked))


async def ask(
    pools: ConnectionPools,
    backend: Expected,
    *,
    key: str | None,
    timeout_s: float,
    extra: Sequence[str] = (),
) -> tuple[Verdict, list[HttpAnswer]]:
    """Ask one backend as `inquire` does; return the verdict, and all answers, those of the paths in
    `extra` last."""
    own = any(name.lower() == "authorization" for name, _ in backend.upstream.headers)
    lines = header_lines(backend.upstream)
    if key is not None and not own:
        lines += f"authorization: Bearer {key}\r\n".encode()
    connections = pools.pool(backend.url, tls=tls_files(backend.upstream))
    paths = [backend.health, "/v1/models"]
    if backend.engine_version is not None:
        paths.append(backend.version)
    asked = (get(connections, path, lines, timeout_s) for path in (*paths, *extra))
    answers = await asyncio.gather(*asked)
    verdict = compare(backend, *answers[: len(paths)], keyed=own or key is not None)
    return verdict, answers


async def get(pool: ConnectionPool, path: str, lines: bytes, timeout_s: float) -> HttpAnswer:
    """The answer to a GET. lines: further headers. timeout_s: until its end."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[HttpAnswer] = loop.create_future()
    fiber = Fiber()
    late = UpstreamTimeout(f"did not answer within {timeout_s:g} s")
    timer = loop.call_later(timeout_s, fiber.cancel, late)
    try:
        fiber.start(_receive(pool, path, lines, answer))
        return await answer
    finally:
        timer.cancel()
        fiber.cancel(UpstreamError("was given up"))


async def _receive(
    pool: ConnectionPool, path: str, lines: bytes, answer: "asyncio.Future[HttpAnswer]"
) -> None:
    reply: Reply | None = None
    found = HttpAnswer(0, fault="was not asked")
    try:
        head = pool.request_start("GET", path) + b"accept-encoding: identity\r\n" + lines
        reply = await pool.send(head + b"\r\n", b"")
        found = HttpAnswer(reply.status, await reply.read())
    except (UpstreamError, Unavailable) as error:
        found = HttpAnswer(0, fault=error.message)
    finally:
        if reply is not None:
            reply.close()
        if not answer.done():
            answer.set_result(found)
