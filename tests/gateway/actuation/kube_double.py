"""A double of the Kubernetes API for single objects: versions, patches, subresources, refusals.

https://kubernetes.io/docs/reference/using-api/api-concepts/ and RFC 7386, RFC 6902; what it does
was compared with a kube-apiserver (test_kube_apiserver.py).
"""

import copy
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs

from aiohttp import web

MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
REASONS = {401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "Conflict", 422: "Invalid"}


class Refused(Exception):
    """The API says no."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class KubeStore:
    """Objects by path; `PATH/scale` is the subresource of an object that has `spec.replicas`.

    tokens: that are accepted. denied: (verb, end of a path). failing: statuses of the next answers.
    meddle: called before each patch. requests: (verb, path), and patches: what they had.
    """

    def __init__(self) -> None:
        self.version = 100
        self.objects: dict[str, dict[str, Any]] = {}
        self.tokens = {"first"}
        self.denied: set[tuple[str, str]] = set()
        self.failing: list[int] = []
        self.requests: list[tuple[str, str]] = []
        self.patches: list[tuple[str, Any]] = []
        self.meddle: Callable[[], None] | None = None
        self.url = ""

    def put(self, path: str, item: dict[str, Any]) -> None:
        """Add or replace an object."""
        self.version += 1
        item = copy.deepcopy(item)
        item.setdefault("metadata", {})["resourceVersion"] = str(self.version)
        item["metadata"].setdefault("name", path.rpartition("/")[2])
        self.objects[path] = item

    def replicas(self, path: str, count: int) -> None:
        """Set the number of replicas, as others do."""
        item = copy.deepcopy(self.objects[path])
        item["spec"]["replicas"] = count
        self.put(path, item)

    async def handle(self, request: web.Request) -> web.Response:
        """Answer a request."""
        verb = {"GET": "get", "PATCH": "patch"}[request.method]
        self.requests.append((verb, request.path))
        try:
            if request.headers.get("authorization", "Bearer first")[7:] not in self.tokens:
                raise Refused(401, "Unauthorized")
            if any(verb == v and request.path.endswith(end) for v, end in self.denied):
                user = 'User "system:serviceaccount:default:gateway"'
                raise Refused(403, f"forbidden: {user} cannot {verb} resource")
            if self.failing:
                raise Refused(self.failing.pop(0), "not now")
            if request.path not in self.objects and request.path.endswith("/pods"):
                return web.json_response(self._pods(request))
            body = await request.read()
            return web.json_response(
                self._read(request.path)
                if verb == "get"
                else self._patched(request.path, request.content_type, json.loads(body))
            )
        except Refused as refused:
            status = {
                "kind": "Status",
                "status": "Failure",
                "message": str(refused),
                "reason": REASONS.get(refused.status, "InternalError"),
                "code": refused.status,
            }
            return web.json_response(status, status=refused.status)

    def _pods(self, request: web.Request) -> dict[str, Any]:
        wanted = parse_qs(request.query_string)["fieldSelector"][0].removeprefix("status.podIP=")
        items = [
            item
            for path, item in self.objects.items()
            if path.startswith(request.path + "/") and item["status"]["podIP"] == wanted
        ]
        return {"kind": "PodList", "metadata": {}, "items": items}

    def _read(self, path: str) -> dict[str, Any]:
        if path in self.objects:
            return self.objects[path]
        owner = self.objects.get(path.removesuffix("/scale"))
        if owner is None or "spec" not in owner:
            raise Refused(404, f'"{path.rpartition("/")[2]}" not found')
        metadata = {name: owner["metadata"][name] for name in ("name", "resourceVersion")}
        count = owner["spec"].get("replicas")
        spec = {} if not count else {"replicas": count}  # zero is left out
        return {
            "kind": "Scale",
            "apiVersion": "autoscaling/v1",
            "metadata": metadata,
            "spec": spec,
            "status": {"replicas": owner["spec"].get("replicas", 0)},
        }

    def _patched(self, path: str, kind: str, change: Any) -> dict[str, Any]:
        self._read(path)
        if self.meddle is not None:
            self.meddle()
        now = copy.deepcopy(self._read(path))
        self.patches.append((path, change))
        if kind == MERGE:
            merged = merge(now, change)
        elif kind == JSON_PATCH:
            merged = json_patched(now, change)
        else:
            raise Refused(415, f"{kind} is not supported")
        if merged["metadata"]["resourceVersion"] != self._read(path)["metadata"]["resourceVersion"]:
            raise Refused(409, "the object has been modified; please apply your changes to it")
        if path.endswith("/scale"):
            self.replicas(path.removesuffix("/scale"), merged["spec"].get("replicas", 0))
        else:
            self.put(path, merged)
        return self._read(path)


def merge(target: Any, change: Any) -> Any:
    """RFC 7386."""
    if not isinstance(change, dict):
        return change
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in change.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


def json_patched(target: Any, steps: list[dict[str, Any]]) -> Any:
    """RFC 6902, as far as it is used: `test`, `add` and `replace`."""
    for step in steps:
        *way, last = step["path"].strip("/").split("/")
        here = target
        for part in way:
            here = here[int(part)] if isinstance(here, list) else here[part]
        key = int(last) if isinstance(here, list) else last
        if step["op"] == "test":
            there = here[key] if isinstance(here, list) else here.get(key)
            if there != step["value"]:
                raise Refused(422, f"testing path {step['path']} failed")
        else:
            assert step["op"] in ("add", "replace")
            here[key] = step["value"]
    return target


@asynccontextmanager
async def kube_store() -> AsyncIterator[KubeStore]:
    """A store whose API listens on this machine."""
    store = KubeStore()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", store.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        store.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield store
    finally:
        await runner.cleanup()
