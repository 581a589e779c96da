"""The question what would become of a request: read, and estimated as at its arrival. No I/O."""

from collections.abc import Collection, Sequence

import msgspec

from gateway.config.serving import ServingConfig
from gateway.errors import BadRequest, NotFound
from gateway.proxy.engines import dialects
from gateway.proxy.names import Names
from gateway.routing.affinity import CALLER, OFF, Affinity
from gateway.routing.body import read_body
from gateway.routing.body_schema import NOTHING
from gateway.routing.class_names import ClassNames
from gateway.routing.endpoints import BY_PATH, CHAT, COMPLETIONS, ENDPOINTS, Endpoint
from gateway.routing.estimate import Estimate
from gateway.routing.estimator import Estimator
from gateway.routing.llm_request import LlmRequest
from gateway.routing.prefix_trail import PrefixTrail, trail_of
from gateway.routing.table import RoutingTable
from planner.model.buckets import DEFAULT

PREFIX_NOTE = (
    "where the beginning of the prompt has been is not counted here, because only a running "
    "gateway knows it; in a pool it may prefer another backend, and then the decision is `affinity`"
)
BELIEF_NOTE = (
    "how much of a prefix engines still have is taken as most likely here; workers learn it from "
    "the hits that answers tell"
)
TOKENIZER_NOTE = (
    "the model has a tokenizer, by which the gateway counts prompts; here their tokens are "
    "estimated from bytes"
)
PREVIOUS_NOTE = "it goes on from an earlier answer: it goes to the backend that has that one"


class ExplainQuestion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked: a request by its body, or one that was served by its id.

    endpoint: a path, or the name of an endpoint; `None`: that of the body's fields. slo_class: that
    the request would name. caller: the id of the one who sends it.
    """

    body: msgspec.Raw = NOTHING  # empty: not given
    request_id: str | None = None
    endpoint: str | None = None
    slo_class: str | None = None
    caller: str = ""


class ReadQuestion(msgspec.Struct, frozen=True):
    """A request that was read, and what is believed of it. notes: what is not counted."""

    request: LlmRequest
    estimate: Estimate
    caller: str
    notes: tuple[str, ...]


def decoded(text: bytes) -> ExplainQuestion:
    """A question as the admin port gets it. Raises BadRequest."""
    try:
        question = msgspec.json.decode(text, type=ExplainQuestion)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the question is not understood: {error}") from error
    if (question.body == NOTHING) == (question.request_id is None):
        raise BadRequest("the question needs `body` or `request_id`, one of them")
    return question


def read(
    question: ExplainQuestion,
    config: ServingConfig,
    table: RoutingTable,
    estimator: Estimator,
    affinity: Affinity | None = None,
    now_s: float = 0.0,
) -> ReadQuestion:
    """The request of a question as the router would believe it at its arrival. affinity: where
    prompts have been, `None` if that is not known. Raises BadRequest for what the data port would
    refuse."""
    body = bytes(question.body)
    endpoint = _endpoint(question.endpoint, body)
    request = read_body(body, endpoint)
    names = Names(config.models, config.upstreams)
    model = names.base(_named(request, [one.name for one in config.models]))
    slo_class = question.slo_class or DEFAULT
    ClassNames(table.buckets.classes).index(model, slo_class)
    estimate = estimator.estimate(request, model=model, caller=question.caller, slo_class=slo_class)
    able = names.able(model, request, body)
    estimate.only = _with_endpoint(endpoint, config, names.pools[model], able)
    notes = []
    if endpoint.generates and affinity is None:
        notes.append(PREFIX_NOTE)
    elif affinity is not None:
        switches = {config.upstreams[pool].affinity for pool in names.pools[model]}
        estimate.trail = _trail(request, body, affinity, switches, question.caller)
        if estimate.trail is not None:
            affinity.find(estimate.trail, now_s)
            notes.append(BELIEF_NOTE)
    if any(one.tokenizer is not None for one in config.models if one.name == model):
        notes.append(TOKENIZER_NOTE)
    if request.previous is not None:
        notes.append(PREVIOUS_NOTE)
    return ReadQuestion(request, estimate, question.caller, tuple(notes))


def _trail(
    request: LlmRequest, body: bytes, affinity: Affinity, switches: Collection[str], caller: str
) -> PrefixTrail | None:
    """The beginnings of a prompt, as the data path names them. switches: of the model's pools."""
    if set(switches) <= {OFF}:
        return None
    owner = caller if CALLER in switches else ""
    return trail_of(request, body, salt=affinity.salt, owner=owner)


def _endpoint(named: str | None, body: bytes) -> Endpoint:
    """The endpoint that a question means. Raises BadRequest."""
    if named is not None:
        endpoint = BY_PATH.get(named) or ENDPOINTS.get(named)
        if endpoint is None:
            raise NotFound(f"there is no endpoint {named}")
    else:
        endpoint = _likely(body)
    if endpoint.form:
        raise BadRequest(f"{endpoint.path} takes forms, which cannot be explained")
    return endpoint


def _likely(body: bytes) -> Endpoint:
    """The endpoint that a body is for, by its fields. Raises BadRequest."""
    try:
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not a JSON object: {error}") from error
    for endpoint in (CHAT, COMPLETIONS):
        if endpoint.prompt in fields:
            return endpoint
    raise BadRequest("the body has no `messages` and no `prompt`: name the endpoint")


def _named(request: LlmRequest, models: Sequence[str]) -> str:
    """The name that a request has for its model. Raises BadRequest if it names none of several."""
    if request.model is None and len(models) > 1:
        raise BadRequest("you must provide a model parameter", param="model")
    return models[0] if request.model is None else request.model


def _with_endpoint(
    endpoint: Endpoint, config: ServingConfig, pools: frozenset[str], able: frozenset[str] | None
) -> frozenset[str] | None:
    """Names of the pools whose engines have the endpoint too; `None`: all of the model."""
    if not endpoint.answer:  # every engine has the others
        return able
    spoken = dialects(config.upstreams)
    having = frozenset(
        pool
        for pool in (pools if able is None else able)
        if pool not in spoken or endpoint.name not in spoken[pool].lacks
    )
    if not having:
        raise NotFound(f"No engine of the model has {endpoint.path}.")
    return able if having == pools else having
