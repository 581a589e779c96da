"""The headers by which a request names its SLO class. No I/O."""

from typing import Final

from gateway.proxy.http.request import Request
from gateway.routing.class_names import CLASS_HEADER
from gateway.routing.router import Router
from planner.model.buckets import DEFAULT

OURS: Final = CLASS_HEADER.encode()
OBJECTIVE: Final = b"x-llm-d-inference-objective"


def named_class(request: Request, router: Router, model: str) -> str | None:
    """The SLO class that a request names, or `None`.

    In Cuvée's own header a wrong name is an error. llm-d's header may mean something else, so it
    counts only if it is the name of a class.
    """
    named = request.fields.get(OURS)
    if named is not None:
        return named.decode("latin-1")
    named = request.fields.get(OBJECTIVE)
    if named is None:
        return None
    name = named.decode("latin-1")
    return name if name in router.class_names(model) else None


def default_class(own: str | None, router: Router, model: str) -> str:
    """The SLO class of a request that names none. own: of its caller, which the model may lack."""
    return DEFAULT if own is None or own not in router.class_names(model) else own
