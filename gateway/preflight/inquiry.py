"""Asks all configured backends at once, with the HTTP client of the data path.

Owns the requests and their time limit; what the answers mean is `verdict`'s.
"""

import asyncio
import logging
from collections.abc import Sequence

from gateway.config.load import Loaded
from gateway.errors import Unavailable, UpstreamError, UpstreamTimeout
from gateway.preflight.verdict import Expected, HttpAnswer, Verdict, compare
from gateway.proxy.engines import ANY, DIALECTS
from gateway.proxy.http.fiber import Fiber
from gateway.proxy.http.pool import ConnectionPools
from gateway.proxy.http.reply import Reply

log = logging.getLogger("cuvee")

WARN_S = 5.0  # for the answers to `warn`


def expected(loaded: Loaded) -> tuple[Expected, ...]:
    """All backends of a configuration, in the order of the file."""
    profiles = {pool.name: pool.profile for pool in loaded.pools}
    return tuple(
        Expected(
            pool=name,
            url=url,
            model=section.model,
            context=profiles[name].max_model_len,
            health=(DIALECTS[section.engine] if section.engine else ANY).health,
            engine_version=profiles[name].engine_version,
            version=(DIALECTS[section.engine] if section.engine else ANY).version,
        )
        for name, section in loaded.config.pools.items()
        for url in section.backends
    )


async def inquire(
    backends: Sequence[Expected], *, key: str | None, timeout_s: float
) -> tuple[Verdict, ...]:
    """Ask backends for their health and their models, and for their version where the profile
    states one; the verdicts are in their order.

    key: sent as `Authorization: Bearer`. timeout_s: until the whole answer of each; all are asked
    at the same time, so that all of it takes no longer.
    """
    header = "" if key is None else f"authorization: Bearer {key}\r\n"
    async with ConnectionPools(connect_timeout_s=2 * timeout_s) as pools:

        async def ask(backend: Expected) -> Verdict:
            paths = [backend.health, "/v1/models"]
            if backend.engine_version is not None:
                paths.append(backend.version)
            answers = await asyncio.gather(
                *(_get(pools, backend.url, path, header, timeout_s) for path in paths)
            )
            return compare(backend, *answers, keyed=key is not None)

        return tuple(await asyncio.gather(*map(ask, backends)))


async def warn(loaded: Loaded, *, timeout_s: float = WARN_S) -> None:
    """Log a warning for each backend that serves, and serves something else than is configured:
    it passes its health probes, and all of its requests fail. Log one for each pool and version of
    engines that its profile was not fitted for.

    Those that do not answer, or ask for a key that only clients have, are not told.
    """
    try:
        said = set()
        for one in await inquire(expected(loaded), key=None, timeout_s=timeout_s):
            backend, about = one.backend, (one.backend.pool, one.warning)
            if one.kind == "mismatch":
                log.warning("backend %s of pool %s %s", backend.url, backend.pool, one.text)
            if one.warning and about not in said:
                said.add(about)
                log.warning("backend %s of pool %s %s", backend.url, backend.pool, one.warning)
    except Exception:
        log.exception("the backends could not be compared with the configuration")


async def _get(
    pools: ConnectionPools, url: str, path: str, header: str, timeout_s: float
) -> HttpAnswer:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[HttpAnswer] = loop.create_future()
    fiber = Fiber()
    late = UpstreamTimeout(f"did not answer within {timeout_s:g} s")
    timer = loop.call_later(timeout_s, fiber.cancel, late)
    try:
        fiber.start(_receive(pools, url, path, header, answer))
        return await answer
    finally:
        timer.cancel()


async def _receive(
    pools: ConnectionPools, url: str, path: str, header: str, answer: "asyncio.Future[HttpAnswer]"
) -> None:
    reply: Reply | None = None
    found = HttpAnswer(0, fault="was not asked")
    try:
        pool = pools.pool(url)
        head = (
            pool.request_start("GET", path) + f"accept-encoding: identity\r\n{header}\r\n".encode()
        )
        reply = await pool.send(head, b"")
        found = HttpAnswer(reply.status, await reply.read())
    except (UpstreamError, Unavailable) as error:
        found = HttpAnswer(0, fault=error.message)
    finally:
        if reply is not None:
            reply.close()
        if not answer.done():
            answer.set_result(found)
