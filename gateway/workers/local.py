"""The paths of the data port that are no requests to a model.

`/livez`, `/readyz`, `/health`, `/ping`, `/version` and `/v1/models` are answered from the worker's
own state, so that they work without a supervisor too, and so is OPTIONS for every path; `/metrics`
and `/cuvee/…` are fetched from the admin port, where the configuration says so; stored responses
are `proxy/stored_responses`'.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

import msgspec

from gateway.access.gate import Gate
from gateway.config.serving import ServedModel, ServingConfig
from gateway.errors import (
    Draining,
    GatewayError,
    ModelNotFound,
    NotFound,
    Unavailable,
    UpstreamError,
    UpstreamTimeout,
)
from gateway.proxy.http.client import ClientConnection
from gateway.proxy.http.fiber import Fiber
from gateway.proxy.http.headers import error_head, reply_head, status_line
from gateway.proxy.http.pool import ConnectionPools
from gateway.proxy.http.reply import Reply
from gateway.proxy.http.request import Request, canonical_path
from gateway.proxy.responses import error_body
from gateway.proxy.stored_responses import StoredResponses, stored
from gateway.routing.endpoints import BY_PATH, CHAT
from gateway.routing.fleet import Fleet
from gateway.runtime import build

# Of the page: a stream would be waited for in vain, and single requests are no client's business.
PAGE = ("/cuvee/events", "/cuvee/view/")
FETCH_S = 10.0  # the supervisor must answer within this time
MODELS, BARE_MODELS = "/v1/models/", "/models/"
JSON = b"content-type: application/json\r\n"

State = tuple[int, dict[str, Any]]  # status, body


class LocalEndpoints:
    """Answers requests by path. One object serves one worker."""

    def __init__(
        self,
        config: ServingConfig,
        *,
        gate: Gate,
        ready: Callable[[], State],
        connection_pools: ConnectionPools,
        stored_responses: StoredResponses,
        admin: str,
        on_refusal: Callable[[GatewayError], None],
        contexts: Callable[[], Mapping[str, int]],
    ) -> None:
        """gate: who may see which models. ready: returns the worker's readiness. admin: base URL of
        the supervisor's admin port. on_refusal: called with the error of every request that is
        answered with one. contexts: returns by pool the longest context, tokens, as plans count
        with it."""
        self._contexts = contexts
        self._gate = gate
        self._stored = stored_responses
        self._admin = connection_pools.pool(admin)
        self._on_refusal = on_refusal
        self._ready = ready
        self.configure(config)

    def configure(self, config: ServingConfig) -> None:
        """Name these models from now on."""
        self._operator_paths = config.gateway.operator_paths == "both"
        self._models = {name: model for model in config.models for name in _names(model)}
        self._created_s = int(time.time())
        version = {"version": build()["version"]}
        self._states: dict[str, Callable[[], State]] = {
            "/livez": lambda: (200, {"status": "alive"}),
            "/readyz": self._ready,
            "/health": self._ready,
            "/ping": self._ready,
            "/version": lambda: (200, version),
        }

    def serve(self, client: ClientConnection, request: Request) -> None:
        """Answer one request, at once or when the supervisor has answered; then call
        `client.finish()`."""
        path = canonical_path(request.target)
        try:
            if request.method == b"OPTIONS":
                client.respond(status_line(204) + self._allowed(path) + _id(request), b"")
            elif path in self._states:
                request.require_method(b"GET")
                status, body = self._states[path]()
                head = status_line(status) + JSON + _id(request)
                client.respond(head, msgspec.json.encode(body))
            elif f"{path}/".startswith((MODELS, BARE_MODELS)):
                request.require_method(b"GET")
                body = self._model_answer(path.partition(BARE_MODELS)[2], request)
                limits = self._gate.lines(request.credential)
                head = status_line(200) + JSON + _id(request) + limits
                client.respond(head, msgspec.json.encode(body))
            elif path == "/metrics" or path.startswith("/cuvee/"):
                if not self._operator_paths or path.startswith(PAGE):
                    raise NotFound(f"{path} is answered on the admin port only.")
                request.require_method(b"GET")
                fiber = Fiber()
                fiber.start(self._fetch(client, request, fiber))
                return
            elif stored(path):
                self._gate.identify(request.credential)
                self._stored.serve(client, request, path, self._on_refusal)
                return
            elif path in BY_PATH:
                request.require_method(b"POST")
                raise Draining
            else:
                raise NotFound(f"Unknown path: {path}")
        except GatewayError as error:
            self._refuse(client, request, error)
        client.finish()

    def _allowed(self, path: str) -> bytes:
        """The header line that says what a path takes, of a path that is served."""
        if path in BY_PATH:
            return b"allow: POST, OPTIONS\r\n"
        if methods := stored(path):
            listed = ", ".join(("HEAD", *methods) if "GET" in methods else methods)
            return f"allow: {listed}, OPTIONS\r\n".encode()
        if path in self._states or f"{path}/".startswith((MODELS, BARE_MODELS)):
            return b"allow: GET, HEAD, OPTIONS\r\n"
        raise NotFound(f"Unknown path: {path}")

    def _model_answer(self, written: str, request: Request) -> dict[str, Any]:
        """The answer about one model, or about all for an empty name: those that the key opens.
        Raises ModelNotFound."""
        key = self._gate.identify(request.credential).key
        opened = [
            name
            for name, model in self._models.items()
            if key is None or key.opens(name, *_parents(name, model))
        ]
        if not written:
            return {"object": "list", "data": [self._described(name) for name in opened]}
        name = self._named(written)
        if name not in opened:  # as if it did not exist: a key is not told what others have
            raise ModelNotFound(f"The model `{name}` does not exist.", param="model")
        return self._described(name)

    def _named(self, written: str) -> str:
        """The name of a model as it is written in a path: as it is, or with `%2F` for a slash, as
        the openai SDK sends it. Raises ModelNotFound."""
        for name in (written, unquote(written)):
            if name in self._models:
                return name
        raise ModelNotFound(f"The model `{unquote(written)}` does not exist.", param="model")

    def _described(self, name: str) -> dict[str, Any]:
        """One name as `/v1/models` has it: adapters have their model as `parent`, as with vLLM."""
        model, told = self._models[name], self._contexts()
        context = max((told[p] for p in model.pools if p in told), default=model.max_model_len)
        return {
            "id": name,
            "object": "model",
            "created": self._created_s,
            "owned_by": "cuvee",
            "root": name if name in model.adapters else model.name,
            "parent": model.name if name in model.adapters else None,
            "max_model_len": context,
        }

    def _refuse(self, client: ClientConnection, request: Request, error: GatewayError) -> None:
        self._on_refusal(error)
        endpoint = BY_PATH.get(canonical_path(request.target), CHAT)
        client.respond(error_head(error) + _id(request), error_body(error, endpoint))

    async def _fetch(self, client: ClientConnection, request: Request, fiber: Fiber) -> None:
        late = UpstreamTimeout("The supervisor did not answer in time.")
        timer = asyncio.get_running_loop().call_later(FETCH_S, fiber.cancel, late)
        reply: Reply | None = None
        try:
            accept = b"accept: %b\r\n" % request.fields.get(b"accept", b"*/*")
            shown = request.fields.get(b"authorization")  # which the admin port may ask for
            key = b"" if shown is None else b"authorization: %b\r\n" % shown
            head = self._admin.request_start("GET", request.path) + accept + key + b"\r\n"
            reply = await self._admin.send(head, b"")
            body = await reply.read()
            client.respond(reply_head(reply.status, reply.headers) + _id(request), body)
        except (UpstreamError, Unavailable):
            gone = Unavailable("The gateway's supervisor does not answer.", retry_after_s=1.0)
            self._refuse(client, request, gone)
        finally:
            timer.cancel()
            if reply is not None:
                reply.close()
            client.finish()


def readiness(
    config: ServingConfig, fleet: Fleet, plan_id: str, now_s: float, *, leaving: bool
) -> State:
    """The answer of `/readyz`: 503 while the gateway drains or can serve no model at all.

    One model without a live backend is named under `unserved` and is no reason for a 503: a
    balancer would take away the models that are served too.
    """
    live = {p: sum(b.live(now_s) for b in fleet.pool(p)) for p in fleet.membership.pools}
    asleep = {p: sum(b.asleep for b in fleet.pool(p)) for p in fleet.membership.pools}
    unserved = [m.name for m in config.models if not any(live[pool] for pool in m.pools)]
    served = len(unserved) < len(config.models)
    status = "draining" if leaving else "ready" if served else "no backend"
    body = {"status": status, "unserved": unserved, "live": live, "plan_id": plan_id}
    if any(asleep.values()):
        body["asleep"] = asleep
    return 200 if status == "ready" else 503, body


def _parents(name: str, model: ServedModel) -> tuple[str, ...]:
    """Further names by which a key may have been given this one."""
    return () if name == model.name else (model.name,)


def _names(model: ServedModel) -> tuple[str, ...]:
    """All names by which clients may ask for a model."""
    return model.name, *model.aliases, *model.adapters


def _id(request: Request) -> bytes:
    return b"x-request-id: %b\r\n" % (request.client_id or uuid4().hex.encode())
