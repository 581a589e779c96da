"""A double of the Kubernetes API server: lists, watches and refusals as its documents have them.

https://kubernetes.io/docs/reference/using-api/api-concepts/: resource versions, pages, bookmarks,
410 Gone as a status and inside a stream, Status objects of 401, 403, 404, 429.
"""

import asyncio
import json
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from gateway.discovery.kubernetes.api import ApiServer, KubeApi
from gateway.discovery.kubernetes.reflector import WatchTiming

TIMING = WatchTiming(
    pause_s=0.01, longest_pause_s=0.05, resync_s=600, watch_s=60, grace_s=5, settle_s=0.01
)
REASONS = {401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 410: "Expired"}
GROUPS = {"pods": "", "nodes": "", "endpointslices": "discovery.k8s.io"}


def matches(labels, selector):
    """Whether labels match a selector of equalities, which is all that the double knows."""
    wanted = (part.split("=", 1) for part in selector.split(",") if part)
    return all(labels.get(name) == value for name, value in wanted)


class Cluster:
    """The objects of one cluster, and what its API server does wrong."""

    def __init__(self):
        self.version = 100
        self.oldest = 0  # versions before it are compacted
        self.objects = {}
        self.events = []  # (version, type, collection, object)
        self.tokens = {"first"}
        self.denied = set()  # (verb, resource)
        self.unknown = set()  # resources whose definitions are not installed
        self.failing = []  # statuses of the next answers
        self.requests = []
        self.dead = False  # watches that hear nothing and do not end
        self.deaf = False  # events do not reach watches
        self.gone_inside = True  # 410 inside the stream
        self.page = 1000
        self.changed = asyncio.Event()
        self.streams = []
        self.url = ""
        self.token_file = Path()

    def count(self, verb, resource="pods"):
        """How many requests of a kind came."""
        return self.requests.count((verb, resource))

    def put(self, collection, item):
        """Add or replace an object. collection: path below the group's root."""
        self.version += 1
        name = item["metadata"]["name"]
        item = json.loads(json.dumps(item))
        item["metadata"]["resourceVersion"] = str(self.version)
        kind = "MODIFIED" if (collection, name) in self.objects else "ADDED"
        self.objects[collection, name] = item
        self._tell(kind, collection, item)

    def delete(self, collection, name):
        """Delete an object."""
        self.version += 1
        item = self.objects.pop((collection, name))
        item["metadata"]["resourceVersion"] = str(self.version)
        self._tell("DELETED", collection, item)

    def compact(self):
        """Forget all events until now."""
        self.version += 1
        self.oldest = self.version

    def bookmark(self, collection):
        """Tell watches the version."""
        self.version += 1
        metadata = {"name": "", "resourceVersion": str(self.version)}
        self._tell("BOOKMARK", collection, {"kind": "Pod", "metadata": metadata})

    def cut(self):
        """Break all watches that run."""
        for stream in self.streams:
            stream.transport.abort()

    def _tell(self, kind, collection, item):
        self.events.append((self.version, kind, collection, json.loads(json.dumps(item))))
        if not self.deaf:
            self.changed.set()
            self.changed = asyncio.Event()

    async def handle(self, request):
        """Answer a GET."""
        parts = request.path.strip("/").split("/")
        parts = parts[2:] if parts[0] == "api" else parts[3:]
        single = parts[0] == "nodes"
        resource = parts[0] if single else parts[2]
        verb = "get" if single else "watch" if "watch" in request.query else "list"
        self.requests.append((verb, resource))
        if request.headers.get("authorization", "Bearer first")[7:] not in self.tokens:
            return self.refuse(401, "Unauthorized")
        if (verb, resource) in self.denied:
            user = 'User "system:serviceaccount:default:gateway"'
            text = f'{resource} is forbidden: {user} cannot {verb} resource "{resource}"'
            return self.refuse(403, text)
        if resource in self.unknown:
            return web.Response(status=404, text="404 page not found\n")
        if self.failing:
            status = self.failing.pop(0)
            return self.refuse(status, "not now", {"Retry-After": "0"} if status == 429 else {})
        if single:
            item = self.objects.get(("nodes", parts[1]))
            return web.json_response(item) if item else self.refuse(404, "nodes not found")
        collection = "/".join(parts)
        if verb == "watch":
            return await self.watch(request, collection)
        return self.list(request, collection)

    def refuse(self, status, message, headers=None):
        """An answer that says no."""
        return web.json_response(self.status(status, message), status=status, headers=headers)

    def status(self, code, message):
        """A Status object."""
        reason = REASONS.get(code, "InternalError")
        return {"kind": "Status", "status": "Failure", "message": message, "reason": reason} | {
            "code": code
        }

    def wanted(self, request, item):
        """Whether the selectors of a request match an object."""
        fields = request.query.get("fieldSelector", "")
        name = item["metadata"]["name"]
        labels = item["metadata"].get("labels", {})
        return matches(labels, request.query.get("labelSelector", "")) and (
            not fields or fields == f"metadata.name={name}"
        )

    def list(self, request, collection):
        """A page of a list."""
        start, _, version = request.query.get("continue", "0/").partition("/")
        if version and int(version) < self.oldest:
            return self.refuse(410, "The provided continue parameter is too old")
        items = [item for (where, _), item in sorted(self.objects.items()) if where == collection]
        items = [item for item in items if self.wanted(request, item)]
        end = int(start) + min(self.page, int(request.query["limit"]))
        metadata = {"resourceVersion": version or str(self.version)}
        if end < len(items):
            metadata["continue"] = f"{end}/{metadata['resourceVersion']}"
        return web.json_response({"metadata": metadata, "items": items[int(start) : end]})

    async def watch(self, request, collection):
        """A stream of events after a version, until the time is over."""
        since = int(request.query["resourceVersion"])
        too_old = f"too old resource version: {since} ({self.oldest})"
        if since < self.oldest and not self.gone_inside:
            return self.refuse(410, too_old)
        stream = web.StreamResponse(headers={"content-type": "application/json"})
        await stream.prepare(request)
        self.streams.append(request)
        try:
            if since < self.oldest:
                await self.send(stream, "ERROR", self.status(410, too_old))
                return stream
            async with asyncio.timeout(int(request.query["timeoutSeconds"])):
                while True:
                    if self.dead:
                        await asyncio.Event().wait()
                    changed = self.changed
                    for version, kind, where, item in list(self.events):
                        if version > since and where == collection:
                            since = version
                            if kind == "BOOKMARK" or self.wanted(request, item):
                                await self.send(stream, kind, item)
                    await changed.wait()
        except TimeoutError:
            return stream
        finally:
            self.streams = [one for one in self.streams if one is not request]

    async def send(self, stream, kind, item):
        """One event, in two pieces, as networks cut."""
        line = json.dumps({"type": kind, "object": item}).encode() + b"\n"
        await stream.write(line[:20])
        await stream.write(line[20:])


class Listener:
    """What a source has told."""

    def __init__(self):
        self.founds, self.faults = [], []

    @property
    def urls(self):
        """The last URLs by pool."""
        return dict(self.founds[-1].urls) if self.founds else None

    @property
    def remarks(self):
        """The last remarks."""
        return self.founds[-1].remarks if self.founds else ()


async def eventually(condition):
    """Wait until something holds."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - it is of many objects
            await asyncio.sleep(0.002)


@pytest.fixture
def until():
    """`await until(condition)`."""
    return eventually


@pytest.fixture
async def cluster(tmp_path):
    """A cluster whose API server listens here; `token_file` has the token."""
    double = Cluster()
    application = web.Application()
    application.router.add_get("/{path:.*}", double.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    double.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    double.token_file = tmp_path / "token"
    double.token_file.write_text("first\n")
    yield double
    await runner.cleanup()


@pytest.fixture
def following(cluster):
    """`async with following(watches) as listener`: a source that runs against the cluster."""

    @asynccontextmanager
    async def follow(source_type, watches, timing=TIMING, server=None):
        listener = Listener()
        server = server or ApiServer(cluster.url, cluster.token_file)
        source = source_type(watches, server, timing)
        run = source.run(listener.founds.append, listener.faults.append)
        task = asyncio.get_running_loop().create_task(run)
        try:
            yield listener
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    return follow


@pytest.fixture
def api(cluster):
    """A client of the cluster."""
    parts = urlsplit(cluster.url)
    return KubeApi(ApiServer(f"http://{parts.netloc}", Path(cluster.token_file)))
