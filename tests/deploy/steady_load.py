"""Clients that go on through an upgrade, and count what they lose.

Each sends one request after another, plain ones and streams by turns, half of them on a new
connection. Anything but a whole answer is lost: a refusal, a reset, an error in a stream, a stream
without its end.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import aiohttp

CLIENTS = 8
PATIENCE_S = 60.0  # for one answer


@dataclass(slots=True)
class SteadyLoad:
    """Runs while it is open; an async context manager. lost: reasons, with how often."""

    base: str
    model: str = "llama-3-8b"
    clients: int = CLIENTS
    whole: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    _ending: bool = False
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def __aenter__(self) -> "SteadyLoad":
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._client(n)) for n in range(self.clients)]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Lets all requests under way end."""
        self._ending = True
        await asyncio.gather(*self._tasks)

    def __str__(self) -> str:
        return f"{self.whole} answers, {sum(self.lost.values())} lost {dict(self.lost) or ''}"

    async def more(self, answers: int) -> None:
        """Wait until so many more answers have come, or one was lost."""
        goal = self.whole + answers
        while self.whole < goal and not self.lost:  # noqa: ASYNC110  # clients are the event
            await asyncio.sleep(0.05)

    async def _client(self, number: int) -> None:
        timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            for turn in count(number):
                if self._ending:
                    return
                try:
                    await self._ask(session, stream=turn % 2 == 0, close=turn % 4 < 2)
                    self.whole += 1
                except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
                    self.lost[f"{type(error).__name__}: {error}"[:100]] += 1

    async def _ask(self, session: aiohttp.ClientSession, *, stream: bool, close: bool) -> None:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "user", "content": "hello " * 30}],
            "max_tokens": 20,
            "stream": stream,
        }
        headers = {"connection": "close"} if close else {}
        url = f"{self.base}/v1/chat/completions"
        async with session.post(url, json=body, headers=headers) as answer:
            text = await answer.text()
            if answer.status != 200:
                raise ValueError(f"{answer.status} {text[:60]}")
            if stream and not text.rstrip().endswith("data: [DONE]"):
                raise ValueError(f"a stream ends in {text[-60:]!r}")
