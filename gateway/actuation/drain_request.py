"""What the admin port is told about backends that are to be drained, or no longer. Pure."""

from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import Meta

from gateway.errors import BadRequest, NotFound
from gateway.routing.backend import Backend

LONGEST = 200  # characters of a reason


class DrainRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body: url or backend, one of them. seconds: until it will be gone, `None` if nobody
    knows. why: for people."""

    url: str | None = None
    backend: str | None = None
    seconds: Annotated[float, Meta(ge=0, le=1e7)] | None = None
    why: str = ""


def read_drain(body: bytes) -> DrainRequest:
    """Raises BadRequest."""
    try:
        request = msgspec.json.decode(body, type=DrainRequest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"The body is no drain: {error}") from error
    if (request.url is None) == (request.backend is None):
        raise BadRequest("The body must have one of `url` and `backend`.")
    return msgspec.structs.replace(request, why=" ".join(request.why.split())[:LONGEST])


def meant(request: DrainRequest, backends: Iterable[Backend]) -> list[Backend]:
    """The backends that are meant: all of a URL. Raises NotFound."""
    url = None if request.url is None else request.url.rstrip("/")
    found = [b for b in backends if b.name == request.backend or b.url == url]
    if not found:
        raise NotFound(f"There is no backend {request.backend or request.url}.")
    return found
