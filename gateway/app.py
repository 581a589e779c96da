"""The composition root: builds every object, wires them, starts and stops them. Knows all of them.

Owns the control plane: plans, health, metrics, the configuration and the admin port. The data plane
is one worker in this process, or several in processes of their own; both have the same face.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import msgspec

from gateway.actuation.actuators import actuators
from gateway.actuation.weights import RouteWeights
from gateway.actuation.wiring import Actuation, Actuators
from gateway.admin.server import JSON, Answer
from gateway.admin_port import AdminPort
from gateway.adoption import Adoption
from gateway.announcement import Announcement
from gateway.config.change import Change
from gateway.config.load import Loaded
from gateway.config.serving import serving
from gateway.control.health import Health
from gateway.control.scrape import Scrape
from gateway.counting import Counting
from gateway.discovery.discovery import Discovery
from gateway.errors import ConfigError
from gateway.insight import Insight
from gateway.journal.journal import opened
from gateway.kv_events.wiring import kv_events
from gateway.planning import Planning
from gateway.preflight.acquaintance import Acquaintance
from gateway.proxy.probe import Probe
from gateway.reload import Reload
from gateway.rollout import Rollout, begin
from gateway.routing.estimator import Estimator
from gateway.routing.fleet import Fleet
from gateway.routing.table import compile_table
from gateway.runtime import build, naming
from gateway.solitary import alliance_of
from gateway.telemetry.metrics import Metrics
from gateway.workers.choice import data_plane
from gateway.workers.handover import Handover, Listening, Stage
from gateway.workers.local import readiness
from gateway.workers.plane import DataPlane
from planner.engine.limits import EngineLimits
from planner.model.plan import Plan
from planner.model.pool import Pool

log = logging.getLogger("cuvee")


class App:
    """One gateway; an async context manager that serves while it is open.

    fleet: all backends known now. plane: what serves. alliance: with other gateways, if any.
    """

    plane: DataPlane

    def __init__(
        self,
        loaded: Loaded,
        *,
        path: Path | None = None,
        host: str | None = None,
        port: int | None = None,
        replace: bool = False,
        given: Listening = (),
        make: Actuators = actuators,
    ) -> None:
        """path: of the configuration file, read again when it changes. host, port: instead of those
        configured; 0: any. replace, given: see `Handover`. make: what starts and stops backends."""
        config = loaded.config
        self._loaded = loaded
        self._serving = serving(loaded)
        self._settings = config.gateway
        self._accepting = self._leaving = False
        self.fleet = Fleet.of({name: pool.backends for name, pool in config.pools.items()})
        self._estimator = Estimator(self._serving.bytes_per_token)
        self._metrics = Metrics(self.fleet, build=build())
        self._journal = opened(loaded)
        self._planning = Planning(
            loaded,
            fleet=self.fleet,
            estimator=self._estimator,
            publish=self.publish,
            on_look=lambda result, why: self._insight.looked(result, why),
            on_certificate=lambda plan: self._announcement.certified(plan),
        )
        loops = self._metrics.loops
        self.alliance = alliance_of(
            loaded, fleet=self.fleet, estimator=self._estimator, planning=self._planning,
            loops=loops, put=self.publish, certified=self._journal.certified,
        )  # fmt: skip
        self._reload = None if path is None else Reload(path, loaded, self._adopt, loops)
        self._discovery = Discovery(
            loaded, present=lambda: self.fleet.membership.urls(), apply=self._follow, loops=loops
        )
        self._actuation = Actuation(
            loaded, self.fleet, self._planning, self._journal, self._metrics,
            drain=self._drain, make=make, leads=self.alliance.leads,
            board=self.alliance.drains,
        )  # fmt: skip
        self._insight = Insight(
            fleet=self.fleet, metrics=self._metrics, planning=self._planning,
            estimator=self._estimator, reload=self._reload, discovery=self._discovery,
            journal=self._journal, alliance=self.alliance, actuation=self._actuation,
            ready=self._ready, loaded=lambda: self._loaded,
        )  # fmt: skip
        self._weights = RouteWeights(loaded, loops, leads=self.alliance.leads)
        self._announcement = Announcement(
            insight=self._insight, journal=self._journal, metrics=self._metrics,
            alliance=self.alliance, weights=self._weights,
        )  # fmt: skip
        self._changing = asyncio.Lock()  # the start and changes of the fleet follow one another
        self._stack = AsyncExitStack()
        host, number = host or self._settings.host, self._settings.port if port is None else port
        self._handover = Handover(host, number, replace=replace, given=given)

    async def __aenter__(self) -> "App":
        await self._stack.__aenter__()
        try:
            async with self._changing:
                await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Drains: not ready at once, still serving until balancers notice or a successor serves the
        port, then no new requests; running ones may finish, and everything stops."""
        self._leaving, self._handover.stage = True, Stage.DRAINING
        self.plane.leave()
        self.alliance.leave()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain_delay_s):
                await self.replaced.wait()
        self._port.close()  # what waits there is served by the successor; there are no others
        await self._stack.aclose()

    def kill(self) -> None:
        """End the worker processes now, without waiting for requests. The caller must end this
        process next."""
        if hasattr(self, "plane"):  # the gateway may still be starting
            self.plane.kill()

    @property
    def replaced(self) -> asyncio.Event:
        """Set when another gateway serves the data port, so that this one should leave."""
        return self._handover.replaced

    @property
    def in_flight(self) -> int:
        """Sequences that backends hold now, as of the last count; most requests are one."""
        return sum({backend.url: backend.in_flight for backend in self.fleet.backends}.values())

    @property
    def plan(self) -> Plan:
        """The plan in force."""
        return self._planning.plan

    @property
    def pools(self) -> tuple[Pool, ...]:
        """The planner's pools, in the order of every plan, at the pace that was observed."""
        return self._planning.pools

    @property
    def running(self) -> tuple[int, ...]:
        """(P,) backends that the fleet has now, in the order of every plan."""
        return self._planning.running

    @property
    def port(self) -> int:
        """The data port."""
        return self._port.number

    @property
    def admin(self) -> str:
        """The base URL of the admin port."""
        return self._admin.url

    async def apply(self, urls: Mapping[str, Sequence[str]]) -> None:
        """Serve with these backends from now on, in every worker.

        urls: base URLs by pool; a pool that is not named keeps its backends. New ones get requests
        once a probe was good; only after that probe do others leave, so that no pool is empty in
        between. Those that leave finish what they have. Raises ConfigError, and changes nothing,
        for a pool that does not exist, a URL that occurs twice in a pool, or more backends than
        there is room for.
        """
        async with self._changing:
            await self._move(urls)

    async def _follow(self) -> None:
        """Serve with the backends that were found. Raises ConfigError as `apply` does."""
        async with self._changing:
            changes = self._discovery.changes()
            if changes and not self._leaving:
                await self._move(changes)

    async def _move(self, urls: Mapping[str, Sequence[str]]) -> None:
        await self._adoption.follow(self._loaded, urls, planned=self._announcement.moved)

    async def _drain(self) -> None:
        """Serve with the backends that are not drained, at once; then plan for those."""
        before = self.running
        if self._adoption.drain(self._actuation.drained):
            async with self._changing:
                await self._adoption.refit(self._loaded, before, planned=self._announcement.moved)

    async def reload(self, why: str) -> None:
        """Read the configuration again, and put it in force; if it cannot be used, the log says why
        and the last good one stays."""
        if self._reload is None:
            log.warning("%s: there is no file to read again", why)
            return
        with suppress(ConfigError):
            await self._reload.now(why)

    async def _adopt(self, change: Change) -> None:
        """Put another configuration in force. Raises ConfigError or PlannerError, and changes
        nothing, if it cannot be."""
        async with self._changing:
            if self._leaving:
                raise ConfigError(("the gateway is shutting down",))
            urls = change.urls | self._discovery.wished(change.loaded)
            change = msgspec.structs.replace(change, urls=urls)
            self._acquaintance.configure(self._loaded, coming=change.loaded)
            try:
                await self._adoption.adopt(change, adopted=self._adopted)
            finally:
                self._acquaintance.configure(self._loaded)
                self._discovery.follow(self._loaded)
            await self._weights.follow(self._loaded)

    def _adopted(self, loaded: Loaded, plan: Plan | None) -> None:
        self._loaded, self._serving = loaded, self._adoption.serving
        self._settings = loaded.config.gateway
        self._journal.configure(loaded)
        self.alliance.configure(loaded)
        self._actuation.configure(loaded)
        self._admin.configure(loaded)
        self._on_limits(self._planning.limits)  # of new pools, which were not known to the plan
        if plan is not None:
            self._announcement.planned(plan, "the configuration has changed")

    def publish(self, plan: Plan, reason: str) -> None:
        """Put a plan in force: one assignment; requests under way keep their leases."""
        self.plane.table = compile_table(plan, self.pools)
        self._announcement.planned(plan, reason)

    async def _start(self) -> None:
        stack, settings = self._stack, self._settings
        self._probe = await stack.enter_async_context(
            Probe(timeout_s=settings.health_timeout_s, upstreams=self._serving.upstreams)
        )
        await stack.enter_async_context(self._discovery)
        begin(self.fleet, self._discovery.changes())
        # Before the plan is made: what connects waits then, and is not refused, even if the
        # predecessor ends before this gateway serves.
        await stack.enter_async_context(self._handover)
        with naming("gateway.port", self._handover.host, self._handover.port):
            self._port = await self._handover.data_port(settings.workers)
        stack.callback(self._port.close)
        await stack.enter_async_context(self.alliance)
        await stack.enter_async_context(self._planning)
        await stack.enter_async_context(self._weights)
        self._announcement.first(self.plan)
        self._admin = await stack.enter_async_context(
            AdminPort(self._loaded, self._insight, self._handover)
        )
        self.plane, load = data_plane(
            self._serving,
            compile_table(self.plan, self.pools),
            fleet=self.fleet,
            estimator=self._estimator,
            port=self._port,
            admin=self._admin.url,
        )
        loops = self._metrics.loops
        self._engines = Scrape(self.fleet, self._probe, table=lambda: self.plane.table, loops=loops)
        self._counting = Counting(
            self.plane, self._planning, self._metrics, self._journal, self._engines,
            add=self.alliance.add,
        )  # fmt: skip
        self._insight.counting = self._counting
        stack.callback(self._journal.close)
        stack.enter_context(self._counting.tracing(self._loaded))
        await stack.enter_async_context(self._counting.desk)
        self._acquaintance = await stack.enter_async_context(
            Acquaintance(self._loaded, self._probe, on_limits=self._on_limits)
        )
        well, lost = self._acquaintance.well, self.plane.backend_lost
        self._health = Health(
            self.fleet, well, on_probed=self._on_probed, on_lost=lost, loops=loops
        )
        self._rollout = Rollout(self.fleet, self.plane, self._health, self._probe)
        self._adoption = Adoption(
            self._serving,
            plane=self.plane,
            planning=self._planning,
            counting=self._counting,
            rollout=self._rollout,
            probe=self._probe,
        )
        await self._health.probe_all()
        await stack.enter_async_context(self.plane)
        self._accepting = True
        self._journal.started(self.plan, self._planning.backends)
        self._background(self._health.run(lambda: self._settings.health_interval_s))
        self._background(self._engines.run(lambda: self._settings.scrape_interval_s))
        self._background(self._counting.run())
        self._background(self._discovery.run())
        heard = kv_events(self.fleet, self.plane, self._metrics, lambda: self._loaded)
        self._background(heard.run())
        self._planning.resume()
        self.alliance.begin(self.plane, load)
        await stack.enter_async_context(self._actuation)
        if self._reload is not None:
            self._background(self._reload.run())
        admin, data = self._admin, self._port  # a successor gets the sockets of both
        self._handover.serve(self.port, lambda: (admin.sockets, data.sockets), admin.leave)
        admin.announce(data.host, self.port)

    def _on_probed(self) -> None:
        self._acquaintance.settle({backend.name for backend in self.fleet.backends})
        self._rollout.note(self._acquaintance.lacks)
        self.plane.on_probed()

    def _on_limits(self, limits: Mapping[str, EngineLimits]) -> None:
        """Route by what the engines say of themselves, and plan with it from the next look on."""
        self._planning.limits = limits
        self.plane.table = compile_table(self.plan, self.pools)

    def _background(self, loop: Any) -> None:
        task = asyncio.get_running_loop().create_task(loop)
        self._stack.callback(task.cancel)

    def _ready(self) -> Answer:
        now_s, plan_id = asyncio.get_running_loop().time(), self.plan.plan_id
        status, body = readiness(self._serving, self.fleet, plan_id, now_s, leaving=self._leaving)
        if not self._accepting:  # the admin port opens before the workers listen
            status, body = 503, body | {"status": "starting"}
        problems = () if self._reload is None else self._reload.problems
        return status, JSON, msgspec.json.encode(body | {"config_problems": problems})
