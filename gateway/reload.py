"""Keeps a running gateway at what its configuration file says.

Owns when the file is read again, and what came of it; knows no live object.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from gateway.config.change import Change, change
from gateway.config.load import Loaded, load
from gateway.config.watch import FileWatch
from gateway.errors import ConfigError
from gateway.telemetry.loops import Loops
from planner.document import noted
from planner.errors import PlannerError

log = logging.getLogger("cuvee.reload")

WATCH_S = 1.0  # between two looks at the files


class Reload:
    """Reads the file when it is told to, and when it or a file that it names has changed.

    problems: why the file of now is not in force, a line for each; empty if it is. at_s: when the
    configuration in force was read, seconds since 1970.
    """

    def __init__(
        self,
        path: Path,
        loaded: Loaded,
        adopt: Callable[[Change], Awaitable[None]],
        loops: Loops | None = None,
    ) -> None:
        """loaded: in force now. adopt: puts another configuration in force, or raises ConfigError
        or PlannerError and changes nothing. loops: where it tells how it is."""
        self._loops = loops or Loops()
        self._path = path
        self._loaded = loaded
        self._adopt = adopt
        self._watch = FileWatch(loaded.files)
        self._turn = asyncio.Lock()
        self.problems: tuple[str, ...] = ()
        self.at_s = time.time()

    def __repr__(self) -> str:
        return f"<Reload {self._path}, {len(self.problems)} problems>"

    async def now(self, why: str) -> Change:
        """Read the file, and put in force what can change while the gateway runs. why: for the log.
        Raises ConfigError, and keeps the last good configuration, if it cannot be used."""
        async with self._turn:
            try:
                step = change(self._loaded, await self._read())
                if step.keys:
                    await self._adopt(step)
            except (ConfigError, PlannerError) as error:
                raise self._refused(why, error) from error
            self._loaded, self.problems, self.at_s = step.loaded, (), time.time()
        log.info("%s: %s", why, ", ".join(step.keys) or "nothing has changed")
        if step.restart:
            log.warning("%s: needs a restart: %s", why, ", ".join(step.restart))
        return step

    async def run(self) -> None:
        """Look at the files each second, for ever."""
        while True:
            await asyncio.sleep(WATCH_S)
            try:
                if await asyncio.to_thread(self._watch.changed):
                    await self.now("the configuration has changed")
                if not self.problems:
                    self._loops.good("configuration", time.time())
            except ConfigError as error:  # it is logged
                self._loops.failed("configuration", error.problems[0])
            except Exception as error:
                log.exception("the configuration could not be read again")
                self._loops.failed("configuration", repr(error))

    async def _read(self) -> Loaded:
        """The file, read in a thread: it may be long, and streams must go on."""
        self._watch.mark()
        with noted() as read:
            try:
                return await asyncio.to_thread(load, self._path, gateway=self._loaded.overrides)
            finally:  # a file that is missing now may come
                self._watch.follow(dict.fromkeys((*self._loaded.files, *read)))

    def _refused(self, why: str, error: Exception) -> ConfigError:
        """Note and log why the file is not in force."""
        lines = error.problems if isinstance(error, ConfigError) else str(error).splitlines()
        self.problems = tuple(lines)
        log.error("%s: it cannot be used, the last good configuration stays", why)
        for line in lines:
            log.error("%s", line)
        return ConfigError(self.problems)
