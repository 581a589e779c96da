"""Brings wishes by programs: one that is given the count, or such that list, launch and stop single
backends, as the commands of clouds do."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from gateway.actuation.actuator import ActuationError, ScaleOrder
from gateway.actuation.program import ProgramEnd, ProgramFault, run, variables
from gateway.actuation.scaled_pool import ScaledPool
from gateway.config.scale import PLACEHOLDER, prefix_of
from gateway.config.scale_schema import CommandSection

DELIMITERS = re.compile(r"[\s,;|\"'<>()]+")


class Command:
    """The `Actuator` of one pool whose wishes are carried out by programs, one at a time."""

    def __init__(
        self, pool: ScaledPool, section: CommandSection, root: Path, environ: Mapping[str, str]
    ) -> None:
        """root: the folder in which programs run. environ: from which they get a few variables."""
        self._pool = pool
        self._section = section
        self._root = root.absolute()
        self._environ = variables(environ, section.environment)
        self._prefix = prefix_of(pool.name, section)
        self._turn = asyncio.Lock()
        self._running: asyncio.Task[ProgramEnd] | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<Command {self.name}>"

    @property
    def name(self) -> str:
        """See `Actuator`."""
        return f"command {(self._section.run or self._section.launch)[0]}"

    async def apply(self, order: ScaleOrder) -> None:
        """See `Actuator`. A program is not tried again here: it knows itself what that helps."""
        async with self._turn:
            if self._section.run:
                await self._ran(self._section.run, order)
            else:
                await self._adjust(order)

    async def aclose(self) -> None:
        """See `Actuator`."""
        self._closed = True
        if (task := self._running) is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _adjust(self, order: ScaleOrder) -> None:
        """Launch or stop as many as the list has too few or too many. Names are the same at each
        try, so that what was launched is found again, also after a restart of the gateway."""
        listed = self._listed((await self._ran(self._section.list, order)).output)
        missing = order.backends - len(listed)
        if missing > 0:
            numbers = self._free(listed, missing)
            await self._each(self._section.launch, numbers, order, "launched")
        elif missing < 0:
            numbers = leaving_first(listed, order.leaving)[:-missing]
            await self._each(self._section.stop, numbers, order, "stopped")

    async def _each(
        self, words: Sequence[str], numbers: Sequence[int], order: ScaleOrder, done: str
    ) -> None:
        for count, number in enumerate(numbers):
            try:
                await self._ran(words, order, number)
            except ActuationError as error:
                text = f"{done} {count} of {len(numbers)}, then {self._named(number)}: {error}"
                raise ActuationError(text, final=error.final) from None

    async def _ran(
        self, words: Sequence[str], order: ScaleOrder, number: int | None = None
    ) -> ProgramEnd:
        """The end of a program that ended well. Raises ActuationError."""
        if self._closed:
            raise ActuationError("the gateway does not order this way any more")
        filled = self._filled(words, order, number)
        self._running = asyncio.get_running_loop().create_task(
            run(
                filled,
                folder=self._root,
                environ=self._environ,
                timeout_s=self._section.timeout_s,
            )
        )
        try:
            end = await self._running
        except ProgramFault as fault:
            raise ActuationError(str(fault)) from None
        except asyncio.CancelledError:
            if not self._closed:
                raise
            text = f"{words[0]} was ended: the gateway does not order this way any more"
            raise ActuationError(text) from None
        finally:
            self._running = None
        if end.code != 0:
            said = f": {end.last_line}" if end.last_line else ""
            how = f"exit code {end.code}" if end.code > 0 else f"signal {-end.code}"
            raise ActuationError(
                f"{words[0]} failed ({how}){said}", final=end.code in self._section.final_codes
            )
        return end

    def _filled(self, words: Sequence[str], order: ScaleOrder, number: int | None) -> list[str]:
        values = {
            "pool": self._pool.name,
            "model": self._pool.model,
            "gpu": self._pool.gpu,
            "backends": str(order.backends),
            "running": str(order.running),
            "leaving": ",".join(order.leaving),
            "key": order.key,
        }
        if number is not None:
            values |= {"name": self._named(number), "number": str(number)}
        return [PLACEHOLDER.sub(lambda found: values[found[1]], word) for word in words]

    def _named(self, number: int) -> str:
        return f"{self._prefix}-{number}"

    def _listed(self, output: str) -> dict[int, str]:
        """Lines about backends that were launched here, by their numbers."""
        name = re.compile(rf"{re.escape(self._prefix)}-([1-9][0-9]{{0,5}})")
        found: dict[int, str] = {}
        for line in output.splitlines():
            first, *_ = line.split(maxsplit=1) or [""]
            if (match := name.fullmatch(first)) is not None:
                found.setdefault(int(match[1]), line)
        return found

    @staticmethod
    def _free(listed: Mapping[int, str], count: int) -> list[int]:
        """The lowest numbers that are free."""
        most = len(listed) + count
        return [number for number in range(1, most + 1) if number not in listed][:count]


def leaving_first(listed: Mapping[int, str], leaving: Sequence[str]) -> list[int]:
    """Numbers in the order in which they are stopped: those whose lines name a host that is to
    leave, then the highest."""
    hosts = {urlsplit(url).hostname for url in leaving}

    def stays(number: int) -> bool:
        words = DELIMITERS.split(listed[number])
        return not any(_host(word) in hosts for word in words[1:])

    return sorted(listed, key=lambda number: (stays(number), -number))


def _host(word: str) -> str | None:
    """The host of a word that is a URL, a host with a port, or a host."""
    try:
        return urlsplit(word if "//" in word else f"//{word}").hostname
    except ValueError:
        return None
