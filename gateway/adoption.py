"""Puts another configuration in force, with its plan and its backends: all of it, or nothing.

The gateway and the simulated world both reload by this code, so that the world tests what runs.
"""

import logging
from collections.abc import Callable, Mapping, Sequence

from gateway.config.change import Change
from gateway.config.load import Loaded
from gateway.config.serving import ServingConfig, serving
from gateway.counting import Counting
from gateway.planning import Draft, Planning
from gateway.proxy.probe import Probe
from gateway.rollout import Rollout
from gateway.routing.membership import Drained
from gateway.routing.table import compile_table
from gateway.workers.plane import DataPlane
from planner.errors import PlannerError
from planner.model.plan import Plan

log = logging.getLogger("cuvee")


class Adoption:
    """Changes the configuration of a gateway that serves.

    serving: the configuration that the workers have now.
    """

    def __init__(
        self,
        serving: ServingConfig,
        *,
        plane: DataPlane,
        planning: Planning,
        counting: Counting,
        rollout: Rollout,
        probe: Probe,
    ) -> None:
        self.serving = serving
        self._plane = plane
        self._planning = planning
        self._counting = counting
        self._rollout = rollout
        self._probe = probe

    async def adopt(
        self, change: Change, *, adopted: Callable[[Loaded, Plan | None], None]
    ) -> None:
        """Plan for the changed configuration, bring its backends into service, swap, and take the
        others out. Raises ConfigError or PlannerError, and changes nothing, if that cannot be done.

        adopted: called at the swap, with the new plan if there is one.
        """
        loaded, pools = change.loaded, tuple(change.loaded.config.pools)
        target = self._rollout.next(change.urls, pools)
        self._planning.pause()
        try:
            running = target.counts([pool.name for pool in loaded.pools])
            draft = await self._planning.draft(loaded, running)
            table = compile_table(draft.plan, self._planning.paced(loaded, running))
            wanted = serving(loaded)

            def swap() -> None:
                self._counting.take()
                before, self.serving = self._planning.plan, wanted
                self._planning.adopt(loaded, draft)
                self._plane.configure(wanted, table)
                self._counting.configure(loaded)
                self._configure_probe(wanted)
                adopted(loaded, None if draft.plan is before else draft.plan)

            self._configure_probe(wanted)  # new pools are probed before the swap
            await self._rollout.move(change.urls, pools, between=swap)
        finally:
            self._planning.resume()

    async def follow(
        self,
        loaded: Loaded,
        urls: Mapping[str, Sequence[str]],
        *,
        planned: Callable[[Plan], None],
    ) -> None:
        """Serve with these backends from now on, under the configuration in force. A plan tells how
        many backends of a pool get requests: where the numbers change, there is a new one; if none
        can be made, the fleet changes all the same. Raises ConfigError, and changes nothing, for
        what `changed` refuses.

        urls: base URLs by pool; a pool that is not named keeps its backends. planned: called with
        the new plan at the swap, if there is one.
        """
        running = self._rollout.next(urls).counts([pool.name for pool in loaded.pools])
        if running == self._planning.running:
            await self._rollout.move(urls)
            return
        self._planning.pause()
        try:
            draft = await self._fitting(loaded, running)

            def swap() -> None:
                self._plan_with(loaded, running, draft, planned)

            await self._rollout.move(urls, between=swap)
        finally:
            self._planning.resume()

    def drain(self, drained: Mapping[str, Drained]) -> bool:
        """These backends get no new requests from now on, by their names, and all others do; it
        waits for nothing. Whether that differs from before, so that `refit` is due."""
        return self._rollout.drain(drained)

    async def refit(
        self, loaded: Loaded, before: tuple[int, ...], *, planned: Callable[[Plan], None]
    ) -> None:
        """Plan for the backends that get requests now, under the configuration in force.

        before: (P,) backends that the plan in force was made for. planned: as for `follow`.
        """
        running = self._planning.running
        if running == before:
            return
        self._planning.pause()
        try:
            draft = await self._fitting(loaded, running, before)
            self._plan_with(loaded, running, draft, planned)
        finally:
            self._planning.resume()

    def _plan_with(
        self,
        loaded: Loaded,
        running: tuple[int, ...],
        draft: Draft | None,
        planned: Callable[[Plan], None],
    ) -> None:
        """Put a plan in force, unless it is so already, or there is none."""
        if draft is not None and draft.plan is not self._planning.plan:
            self._planning.adopt(loaded, draft)
            self._plane.table = compile_table(draft.plan, self._planning.paced(loaded, running))
            planned(draft.plan)

    async def _fitting(
        self, loaded: Loaded, running: tuple[int, ...], before: tuple[int, ...] | None = None
    ) -> Draft | None:
        """A plan for so many backends; `None` if there is none. before: that the plan in force
        counts with; `None`: as many as there are now."""
        try:
            return await self._planning.draft(loaded, running, before)
        except PlannerError as error:
            log.warning("the last good plan stays, with other backends: %s", error)
            return None

    def _configure_probe(self, wanted: ServingConfig) -> None:
        """Probe the pools in force and those that are wanted."""
        upstreams = wanted.upstreams | self.serving.upstreams
        self._probe.configure(timeout_s=self.serving.gateway.health_timeout_s, upstreams=upstreams)
