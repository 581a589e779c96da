"""Has routers of others follow the plan: writes its shares into their HTTPRoutes.

One change at a time for each route, not more often than it is allowed; what could not be written is
tried again, with the newest plan. No other field, and no weight of others, is touched.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from gateway.actuation.actuator import ActuationError
from gateway.actuation.http_route import HttpRouteObject, RouteFault, strangers, weight_changes
from gateway.actuation.kube_objects import JSON_PATCH, KubeObjects, explained, object_path
from gateway.actuation.plan_shares import capacity_shares, request_shares
from gateway.config.load import Loaded
from gateway.config.weights_schema import WeightsSection
from gateway.discovery.kubernetes.api import ACCOUNT, ApiFault, ApiRefusal
from gateway.telemetry.loops import Loops
from planner.model.plan import Plan

log = logging.getLogger("cuvee.actuation")

GROUP = "gateway.networking.k8s.io"
RIGHTS = {"apiGroups": (GROUP,), "resources": ("httproutes",), "verbs": ("get", "patch")}
CONFLICTS = (409, 422)  # 422: what a patch tests is not so any more
RETRY_S = 1.0  # the first pause after a failure; each is twice the one before
LONGEST_RETRY_S = 60.0
LEADS_S = 1.0  # between two looks whether another gateway writes
SPLITS = ("requests", "capacity")
WriterKey = tuple[str, Path]  # what a writer is made from


class RouteWriter:
    """One HTTPRoute that follows the plan, and its loop: `weights NAMESPACE/NAME POOL+POOL`."""

    def __init__(
        self,
        section: WeightsSection,
        root: Path,
        loops: Loops,
        *,
        leads: Callable[[], bool] = lambda: True,
        account: Path = ACCOUNT,
        retry_s: float = RETRY_S,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """root: the folder that paths are relative to. leads: whether this gateway writes, of
        several that serve one fleet. account: that of the gateway's pod."""
        self._leads = leads
        self._section = section
        self._objects = KubeObjects(section, root, account)
        self._namespace = self._objects.namespace(section.namespace)
        self._target = object_path(f"{GROUP}/v1", self._namespace, "httproutes", section.http_route)
        self._what = f"HTTPRoute {self._namespace}/{section.http_route}"
        self._loops = loops
        self._loop_name = f"weights {self._namespace}/{section.http_route} {'+'.join(section.refs)}"
        self._retry_s = retry_s
        self._now_s = now_s
        self._shares: dict[str, float] | None = None  # by names of entries
        self._due = asyncio.Event()
        self._fault: str | None = None
        self._strangers: dict[str, int] = {}
        self._task = asyncio.get_running_loop().create_task(self._run())

    def __repr__(self) -> str:
        return f"<RouteWriter {self._what}>"

    @property
    def split(self) -> str:
        """Which shares it is to have: see `WeightsSection`."""
        return self._section.split

    def wish(self, shares: Mapping[str, float]) -> None:
        """Write these from now on. shares: by pool; a plan that has none of the pools of the route
        changes nothing."""
        mine = {ref: shares.get(pool, 0.0) for pool, ref in self._section.refs.items()}
        if sum(mine.values()) > 0:
            self._shares = mine
            self._due.set()

    async def aclose(self) -> None:
        """Write no more; the weights stay as they are."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._loops.forget(self._loop_name)

    async def _run(self) -> None:
        pause_s = self._retry_s
        while True:
            await self._due.wait()
            while not self._leads():  # noqa: ASYNC110 - who leads is no event of this process
                await asyncio.sleep(LEADS_S)
            self._due.clear()
            try:
                changed = await self._write()
            except ActuationError as error:
                self._tell(str(error))
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_RETRY_S)
                self._due.set()  # with what is wished by then
            except Exception as error:  # a mistake of ours; the next plan is tried all the same
                log.exception("%s: weights could not be written", self._what)
                self._tell(type(error).__name__)
            else:
                self._loops.good(self._loop_name, self._now_s())
                self._fault, pause_s = None, self._retry_s
                if changed:
                    await asyncio.sleep(self._section.interval_s)

    async def _write(self) -> bool:
        """Make the route as it should be; whether it was not. Raises ActuationError."""
        assert self._shares is not None
        try:
            route = await self._objects.read(self._target, HttpRouteObject)
            changes = weight_changes(route, self._shares, self._section.total)
            self._tell_strangers(strangers(route, tuple(self._shares)))
            if changes:
                await self._objects.patch(self._target, changes, HttpRouteObject, JSON_PATCH)
        except RouteFault as fault:
            raise ActuationError(f"{self._what}: {fault}") from None
        except ApiRefusal as refusal:
            if refusal.status in CONFLICTS:
                text = f"{self._what} was changed meanwhile: {refusal.message}"
                raise ActuationError(text) from None
            raise explained(refusal, self._what, RIGHTS, self._namespace) from None
        except ApiFault as fault:
            raise explained(fault, self._what, RIGHTS, self._namespace) from None
        if changes:
            log.info("%s: weights %s", self._what, self._shown())
        return bool(changes)

    def _shown(self) -> str:
        assert self._shares is not None
        return ", ".join(f"{name} {share:.1%}" for name, share in self._shares.items())

    def _tell(self, why: str) -> None:
        self._loops.failed(self._loop_name, why)
        if why != self._fault:
            log.warning("weights stay as they are: %s", why)
        self._fault = why

    def _tell_strangers(self, others: dict[str, int]) -> None:
        """Say, once, who else gets requests of these rules."""
        if others and others.keys() != self._strangers.keys():
            shown = ", ".join(f"{name} {weight}" for name, weight in others.items())
            text = "%s: other backendRefs keep their weights, beside %d for the pools: %s"
            log.warning(text, self._what, self._section.total, shown)
        self._strangers = others


class RouteWeights:
    """All routers that follow the plan of one gateway; an async context manager that writes while
    it is open."""

    def __init__(
        self, loaded: Loaded, loops: Loops, *, leads: Callable[[], bool] = lambda: True
    ) -> None:
        """leads: see `RouteWriter`."""
        self._loaded = loaded
        self._leads = leads
        self._loops = loops
        self._writers: dict[WriterKey, RouteWriter] = {}
        self._shares: dict[str, Mapping[str, float]] = {}  # by split

    def __repr__(self) -> str:
        return f"<RouteWeights of {len(self._loaded.config.weights)} routes>"

    async def __aenter__(self) -> "RouteWeights":
        await self.follow(self._loaded)
        return self

    async def __aexit__(self, *_: object) -> None:
        for writer in self._writers.values():
            await writer.aclose()
        self._writers.clear()

    def planned(self, plan: Plan) -> None:
        """Have the routes follow this plan, which is in force; returns at once."""
        if self._loaded.config.weights:
            self._wish({"requests": request_shares(plan), "capacity": capacity_shares(plan)})

    async def write(self, shares: Mapping[str, float]) -> None:
        """Have all routes follow these shares instead; returns at once. shares: of each model's
        requests, by pool."""
        self._wish(dict.fromkeys(SPLITS, shares))

    def _wish(self, shares: dict[str, Mapping[str, float]]) -> None:
        self._shares = shares
        for writer in self._writers.values():
            writer.wish(shares[writer.split])

    async def follow(self, loaded: Loaded) -> None:
        """Follow the routes of this configuration from now on; those that it has already go on."""
        self._loaded = loaded
        wanted = {_key(one, loaded.root): one for one in loaded.config.weights}
        for key in set(self._writers) - set(wanted):
            await self._writers.pop(key).aclose()
        for key, section in wanted.items():
            if key not in self._writers:
                self._writers[key] = RouteWriter(
                    section, loaded.root, self._loops, leads=self._leads
                )
                self._writers[key].wish(self._shares.get(section.split, {}))


def _key(section: WeightsSection, root: Path) -> WriterKey:
    return repr(section), root
