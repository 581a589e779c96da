"""Asking a backend whether it is well. aiohttp's client: nothing here is hot."""

import asyncio

import aiohttp

LATE_S = (
    0.25  # by which a timer of ours may be late before its word about others counts for nothing
)


class Probe:
    """Probes over HTTP; an async context manager."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Probe":
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar()
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def answers(self, url: str, timeout_s: float) -> bool | None:
        """Whether a GET of `url` answers 200 in time; `None` if this process itself was too late to
        know."""
        assert self._session is not None
        clock = asyncio.get_running_loop().time
        due_s = clock() + timeout_s
        try:
            async with asyncio.timeout(timeout_s), self._session.get(url) as response:
                return response.status == 200
        except TimeoutError:
            return None if clock() - due_s > LATE_S else False
        except aiohttp.ClientError:
            return False
