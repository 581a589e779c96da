"""Brings wishes to the subresource `scale` of an object of Kubernetes.

https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/deployment-v1/
"""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

from gateway.actuation.actuator import ActuationError, ScaleOrder
from gateway.actuation.deletion_cost import DeletionCost
from gateway.actuation.kube_objects import (
    KubeObjects,
    ScaleObject,
    explained,
    object_path,
    passes,
)
from gateway.actuation.patience import Patience
from gateway.config.scale import kind_of
from gateway.config.scale_schema import KubernetesScaleSection
from gateway.discovery.kubernetes.api import ACCOUNT, ApiFault, ApiRefusal

log = logging.getLogger("cuvee.actuation")

GIVE_UP_S = 30.0
FIRST_PAUSE_S = 0.2
MOST_REVERSALS = 3  # after which others have it
HOLD_S = 600.0  # until it is tried with them again


class KubernetesScale:
    """The `Actuator` of one pool that is a Deployment, or anything else that has replicas."""

    def __init__(
        self,
        section: KubernetesScaleSection,
        root: Path,
        *,
        account: Path = ACCOUNT,
        give_up_s: float = GIVE_UP_S,
        first_pause_s: float = FIRST_PAUSE_S,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """root: the folder that paths are relative to. account: that of the gateway's pod."""
        self._objects = KubeObjects(section, root, account)
        self._namespace = self._objects.namespace(section.namespace)
        version, plural = kind_of(section)
        path = object_path(version, self._namespace, plural, section.name)
        self._target = f"{path}/scale"
        self._what = f"{section.kind} {self._namespace}/{section.name}"
        group = version.rpartition("/")[0]
        self._rule = {
            "apiGroups": (group,),
            "resources": (f"{plural}/scale",),
            "verbs": ("get", "patch"),
        }
        self._cost = DeletionCost(self._objects, self._namespace) if section.mark_leaving else None
        self._give_up_s, self._first_pause_s = give_up_s, first_pause_s
        self._clock_s = clock_s
        self._turn = asyncio.Lock()
        self._set_to: int | None = None  # what was set here last
        self._reversals = 0  # times in a row that it was something else at the next look
        self._held_until_s = 0.0
        self._cost_fault: str | None = None

    def __repr__(self) -> str:
        return f"<KubernetesScale {self.name}>"

    @property
    def name(self) -> str:
        """See `Actuator`: `deployment ns/name`."""
        kind, _, name = self._what.partition(" ")
        return f"{kind.casefold()} {name}"

    async def apply(self, order: ScaleOrder) -> None:
        """See `Actuator`: one wish at a time. Conflicts and a server in trouble are tried again."""
        async with self._turn:
            patience = Patience(self._give_up_s, first_s=self._first_pause_s)
            await self._tell_who_goes(order)
            while (fault := await self._try(order)) is not None:
                wait_s = fault.retry_after_s if isinstance(fault, ApiRefusal) else None
                if not passes(fault) or not await patience.pause(wait_s):
                    raise explained(fault, f"scale of {self._what}", self._rule, self._namespace)

    async def aclose(self) -> None:
        """See `Actuator`: connections end with their requests."""

    async def _try(self, order: ScaleOrder) -> ApiFault | None:
        try:
            await self._set(order)
        except ApiFault as fault:
            return fault
        return None

    async def _set(self, order: ScaleOrder) -> None:
        """Set the number if it is another one. Raises ApiFault and ActuationError."""
        found = await self._objects.read(self._target, ScaleObject)
        if found.kind != "Scale":
            raise ActuationError(f"{self._what} has no scale: {found.kind or 'no kind'}")
        self._note_others(found.spec.replicas)
        if found.spec.replicas != order.backends:
            change = {
                "metadata": {"resourceVersion": found.metadata.resource_version},
                "spec": {"replicas": order.backends},
            }
            after = await self._objects.patch(self._target, change, ScaleObject)
            if after.spec.replicas != order.backends:
                text = (
                    f"{self._what} was set to {order.backends}, and the API answers "
                    f"{after.spec.replicas}: something changes what is written to it"
                )
                raise ActuationError(text)
        self._set_to = order.backends

    def _note_others(self, now: int) -> None:
        """Notice others who set the number too. Raises ActuationError while they have it: two that
        turn back each other would start and end engines for ever."""
        if self._clock_s() < self._held_until_s:
            raise ActuationError(f"{self._others(now)}; it is left to them for now")
        if self._set_to is None or now == self._set_to:
            self._reversals = 0
            return
        self._reversals += 1
        if self._reversals == 1:
            log.warning("%s: %s", self.name, self._others(now))
        if self._reversals >= MOST_REVERSALS:
            self._reversals = 0
            self._held_until_s = self._clock_s() + HOLD_S
            text = f"{self._others(now)}, {MOST_REVERSALS} times in a row; it is left to them"
            raise ActuationError(f"{text} for {HOLD_S / 60:g} min")

    def _others(self, now: int) -> str:
        return (
            f"{self._what} is scaled by others: it was set to {self._set_to} and has {now} "
            "(is there an HPA or an operator for it?)"
        )

    async def _tell_who_goes(self, order: ScaleOrder) -> None:
        """Mark the pods that should go first. What cannot be marked is no reason not to shrink."""
        if self._cost is None:
            return
        fault: str | None = None
        try:
            await self._cost.mark(order.leaving if order.backends < order.running else ())
        except ApiFault as error:
            rule = {"apiGroups": ("",), "resources": ("pods",), "verbs": ("list", "patch")}
            fault = str(explained(error, "pods", rule, self._namespace))
        if fault is not None and fault != self._cost_fault:
            log.warning("%s: it cannot be told which pods go first: %s", self.name, fault)
        self._cost_fault = fault
