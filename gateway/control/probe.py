"""Asking a backend whether it is well. aiohttp's client: nothing here is hot."""

import asyncio

import aiohttp


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

    async def answers(self, url: str, timeout_s: float) -> bool:
        """Whether a GET of `url` answers 200 in time."""
        assert self._session is not None
        try:
            async with asyncio.timeout(timeout_s), self._session.get(url) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False
