"""The objects of one resource, kept as the API has them: a list, then a watch from there on.

As https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
says. Knows no pool.
"""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import aclosing
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import msgspec

from gateway.discovery.kubernetes.api import ApiFault, ApiRefusal, ApiUnreachable, KubeApi
from gateway.discovery.kubernetes.objects import (
    KubeStruct,
    ObjectList,
    StatusObject,
    WatchEvent,
)

GONE = 410
PAGE = 100  # objects: ten kilobytes each, decoded in one go between streams
VERBS = "get, list, watch"


class Resource(NamedTuple):
    """What is kept. kind: the struct of its objects. group: empty for core. labels, fields:
    selectors as the API takes them."""

    kind: type[KubeStruct]
    group: str
    version: str
    plural: str
    namespace: str
    labels: str = ""
    fields: str = ""

    @property
    def path(self) -> str:
        """Path of the collection."""
        root = f"/apis/{self.group}" if self.group else "/api"
        return f"{root}/{self.version}/namespaces/{quote(self.namespace, safe='')}/{self.plural}"


class WatchTiming(NamedTuple):
    """Seconds. pause_s, longest_pause_s: after the first failure and after many. resync_s: between
    lists. watch_s: after which the server ends a watch. grace_s: that it may be late. settle_s: in
    which changes that come together are taken as one."""

    pause_s: float = 1.0
    longest_pause_s: float = 60.0
    resync_s: float = 600.0
    watch_s: float = 240.0
    grace_s: float = 20.0
    settle_s: float = 0.2


class Reflector:
    """Keeps the objects of a resource. objects: by name, as they were at the last good look.

    synced: whether they were listed at all. fault: why the last look failed, `None` if it did not.
    """

    def __init__(
        self,
        api: KubeApi,
        resource: Resource,
        looked: Callable[[], None],
        timing: WatchTiming,
    ) -> None:
        """looked: called after every look, good or not."""
        self.resource = resource
        self.objects: dict[str, Any] = {}
        self.synced = False
        self.fault: str | None = None
        self._api = api
        self._looked = looked
        self._timing = timing
        self._version: str | None = None  # to watch from; `None`: list
        self._list_due_s = 0.0
        self._pauses = 0

    def __repr__(self) -> str:
        return f"<Reflector {self.resource.plural} {len(self.objects)}, {self.fault or 'well'}>"

    async def run(self) -> None:
        """List and watch for ever."""
        while True:
            verb = "list" if self._version is None else "watch"
            try:
                if self._version is None or time.monotonic() >= self._list_due_s:
                    verb = "list"
                    await self._list()
                verb = "watch"
                await self._watch()
                continue
            except ApiFault as error:
                wait_s = self._failed(verb, error)
            except msgspec.DecodeError as error:
                self._version = None
                wait_s = self._failed(verb, ApiUnreachable(f"not what the API answers: {error}"))
            await asyncio.sleep(wait_s)

    def _failed(self, verb: str, error: ApiFault) -> float:
        """Note a failure; returns the seconds until the next try."""
        if isinstance(error, ApiRefusal):
            if error.status == GONE:
                # The version is too old: no failure, but the objects must be listed again.
                self._version = None
                first, self._pauses = self._pauses == 0, max(1, self._pauses)
                return 0.0 if first else self._pause(error)
            if error.status not in (401, 429) and error.status < 500:
                # As where watching is not allowed: then a list, again and again, is all there is.
                self._version = None
        self.fault = describe(self.resource, verb, error)
        self._looked()
        return self._pause(error)

    def _pause(self, error: ApiFault | None = None) -> float:
        """The next pause: twice the last one, and anything from half of it up, so that gateways
        that lost one server do not come back at one moment."""
        limit = self._timing.longest_pause_s
        longest_s = min(limit, self._timing.pause_s * 2 ** min(self._pauses, 20))
        self._pauses += 1
        asked_s = error.retry_after_s if isinstance(error, ApiRefusal) else None
        return random.uniform(longest_s / 2, longest_s) + min(asked_s or 0.0, limit)

    def _good(self) -> None:
        """Note a good look."""
        self.fault = None
        self._looked()

    async def _list(self) -> None:
        """Take the objects as a list has them, which may have several pages."""
        objects: dict[str, Any] = {}
        go_on: str | None = None
        while True:
            query = self._query(limit=PAGE, **({"continue": go_on} if go_on else {}))
            page = msgspec.json.decode(await self._api.get(query), type=ObjectList)
            for raw in page.items:
                item = msgspec.json.decode(raw, type=self.resource.kind)
                objects[item.metadata.name] = item  # type: ignore[attr-defined]
            go_on = page.metadata.go_on
            if not go_on:
                break
        self.objects, self.synced = objects, True
        self._version = page.metadata.resource_version
        self._list_due_s = time.monotonic() + self._timing.resync_s
        self._good()

    async def _watch(self) -> None:
        """Follow changes until the server ends the watch, as it does after `watch_s`."""
        began_s = time.monotonic()
        watch_s = min(self._timing.watch_s, max(1.0, self._list_due_s - began_s))
        # Not all watches of a fleet of gateways end in one second.
        seconds = max(1, round(random.uniform(0.8, 1.0) * watch_s))
        query = self._query(
            watch="true",
            allowWatchBookmarks="true",
            resourceVersion=self._version or "",
            timeoutSeconds=seconds,
        )
        came = False
        try:
            # A connection whose other end is gone says nothing: the limit is ours too.
            async with aclosing(self._api.lines(query, seconds + self._timing.grace_s)) as lines:
                async for line in lines:
                    if line:
                        self._take(msgspec.json.decode(line, type=WatchEvent))
                        came = True
                        self._pauses = 0
                    self._good()
        except ApiUnreachable:
            if came:  # it worked until now: from where it broke, after the shortest pause
                self._pauses = 0
            raise
        if not came and time.monotonic() - began_s < min(1.0, watch_s / 2):
            raise ApiUnreachable("a watch ended as soon as it began")
        self._pauses = 0
        self._good()

    def _take(self, event: WatchEvent) -> None:
        """Apply one event. Raises ApiRefusal for an error inside the stream."""
        if event.type == "ERROR":
            said = msgspec.json.decode(event.object, type=StatusObject)
            raise ApiRefusal(said.code, said.reason, said.message)
        item: Any = msgspec.json.decode(event.object, type=self.resource.kind)
        if event.type == "DELETED":
            self.objects.pop(item.metadata.name, None)
        elif event.type in ("ADDED", "MODIFIED"):
            self.objects[item.metadata.name] = item
        self._version = item.metadata.resource_version  # that of a bookmark too

    def _query(self, **parameters: object) -> str:
        if self.resource.labels:
            parameters["labelSelector"] = self.resource.labels
        if self.resource.fields:
            parameters["fieldSelector"] = self.resource.fields
        return f"{self.resource.path}?{urlencode(parameters)}"


def describe(resource: Resource, verb: str, error: ApiFault) -> str:
    """One line about a failure, with what would mend it."""
    what = f"{verb} {resource.plural} in namespace {resource.namespace}"
    if not isinstance(error, ApiRefusal):
        return f"cannot {what}: {error}"
    if error.status == 401:
        return f"cannot {what}: the API does not accept the token (401): {error.message}"
    if error.status == 403:
        return f"may not {what}: a Role must have {_rule(resource)}; {error.message}"
    if error.status == 404:
        group = resource.group or "core"
        return f"cannot {what}: the API does not know {group}/{resource.version} {resource.plural}"
    return f"cannot {what}: {error.status} {error.reason}: {error.message}".replace(" : ", ": ")


def _rule(resource: Resource) -> str:
    """The rule of a Role that allows to follow a resource."""
    return f'{{apiGroups: ["{resource.group}"], resources: [{resource.plural}], verbs: [{VERBS}]}}'
