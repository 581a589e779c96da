"""The errors of the gateway, each with its HTTP status and its OpenAI error object.

GatewayError              500 server_error
├── BadRequest            400 invalid_request_error
│   ├── ModelNotFound     404 invalid_request_error, code model_not_found
│   ├── ClassNotFound     400 invalid_request_error, code slo_class_not_found
│   ├── KeyRefused        401 no key, or none that is known here, code invalid_api_key
│   ├── KeyForbids         403 the key may not use this model, class or path
│   ├── NotFound          404 no such path
│   ├── Conflict          409 what the request goes out from is not so any more
│   ├── MethodNotAllowed  405 the path exists, but not for this method
│   ├── TooLarge          413 the body exceeds the limit
│   ├── UnsupportedCoding 415 the body is compressed by what is not known here
│   ├── VersionNotSupported  505 the request is of no version of HTTP that is spoken here
│   ├── HeadTooLarge      431 the head of the request exceeds the limit
│   └── RequestTimeout    408 the request did not arrive in time
├── Saturated             429 rate_limit_error: no room in time, with Retry-After
├── LimitReached          429 requests or tokens: a limit of the key, with Retry-After
├── Unavailable           503 service_unavailable: no live backend, with Retry-After
│   ├── Draining          503 service_unavailable: the gateway is about to end, with Retry-After
│   └── Overloaded        503 too many bytes of bodies are in memory
├── ReplyTooLarge         502 upstream_error: a reply that is no stream exceeds the limit
└── UpstreamError         502 the backend failed before its first byte
    ├── ConnectFailed     502 no connection, nothing was sent: another backend may be tried
    ├── ConnectionLost    502 a connection that was kept open broke before any byte of an answer
    │   └── Vacated       502 its backend ends soon, and another one can begin: no fault
    ├── InvalidAnswer     502 it answered, but with what is no answer
    ├── UpstreamTimeout   504 the backend did not answer in time
    └── StreamBroken      502 the stream ended too early: an error event inside the stream
ClientGone                no response: the client closed its connection
ConfigError               no response: the configuration is wrong, one line per problem
"""

from enum import StrEnum

import msgspec

# Characters of a message at most: a client's own words may stand in it, as a name of a megabyte.
LONGEST = 1000


class FailureKind(StrEnum):
    """How a backend failed a request, as metrics name it.

    UNREACHABLE: no connection. BROKEN: the answer was cut or unreadable before its first byte.
    TIMEOUT: no answer, or silence, for too long. CUT: a stream broke off. ERROR: it answered with
    an error of its own (5xx), or refused what another backend served. INVALID: it answered with
    what is no answer. FULL: it said that it had no room, which is no fault.
    """

    UNREACHABLE = "unreachable"
    BROKEN = "broken"
    TIMEOUT = "timeout"
    CUT = "cut"
    ERROR = "error"
    INVALID = "invalid"
    FULL = "full"


class GatewayError(Exception):
    """An error that a client receives as an OpenAI error object.

    param: the field of the request that is wrong, if one is. retry_after_s: seconds after which the
    client may try again; it becomes the header `Retry-After`.
    """

    status = 500
    type = "server_error"
    code: str | None = None

    def __init__(
        self, message: str, *, param: str | None = None, retry_after_s: float | None = None
    ) -> None:
        if len(message) > LONGEST:
            message = message[:LONGEST] + "…"
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s

    @property
    def reason(self) -> str:
        """The error in one word, for metrics and the log."""
        return self.code or self.type

    def body(self) -> bytes:
        """The OpenAI error object as JSON."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return msgspec.json.encode({"error": error})


class BadRequest(GatewayError):
    """The request is wrong; to send it again will not help."""

    status = 400
    type = "invalid_request_error"


class ModelNotFound(BadRequest):
    """No pool serves the model that the request names."""

    status = 404
    code = "model_not_found"


class ClassNotFound(BadRequest):
    """The model has no SLO class of the name that the request's header gives."""

    code = "slo_class_not_found"


class KeyRefused(BadRequest):
    """The request has no key, or one that does not open this port. scheme: by which to send one.

    The key itself is in no message: what a client sends by mistake may be a key of elsewhere.
    """

    status = 401

    def __init__(self, message: str, *, code: str | None, scheme: str = "Bearer") -> None:
        super().__init__(message)
        self.code = code
        self.scheme = scheme

    @property
    def reason(self) -> str:
        return self.code or "no_api_key"


class KeyForbids(BadRequest):
    """The key is known, and may not do this."""

    status = 403

    def __init__(self, message: str, *, code: str, param: str | None = None) -> None:
        super().__init__(message, param=param)
        self.code = code


class NotFound(BadRequest):
    """No such path."""

    status = 404
    code = "not_found"


class Conflict(BadRequest):
    """What the request goes out from has changed; to look again and to send another may help."""

    status = 409
    code = "conflict"


class MethodNotAllowed(BadRequest):
    """The path exists, but not for this method."""

    status = 405
    code = "method_not_allowed"

    def __init__(self, path: str, allowed: str) -> None:
        super().__init__(f"{path} takes {allowed}")
        self.allowed = allowed


class TooLarge(BadRequest):
    """The body exceeds `gateway.max_body_bytes`."""

    status = 413
    code = "request_too_large"


class UnsupportedCoding(BadRequest):
    """The body has a Content-Encoding that is not known here. accepted: those that are."""

    status = 415
    code = "unsupported_content_encoding"

    def __init__(self, coding: str, accepted: str) -> None:
        message = f"Content-Encoding `{coding}` is not known here; known are {accepted}."
        super().__init__(message, param="content-encoding")
        self.accepted = accepted


class HeadTooLarge(BadRequest):
    """The request line and headers exceed the limit."""

    status = 431
    code = "head_too_large"


class VersionNotSupported(BadRequest):
    """The request line names a version of HTTP that the gateway does not speak."""

    status = 505
    code = "http_version_not_supported"


class RequestTimeout(BadRequest):
    """The client did not send its whole request in time."""

    status = 408
    code = "request_timeout"


class Saturated(GatewayError):
    """No backend has room in the time in which the request must be served.

    reason: for metrics and the log.
    """

    status = 429
    type = "rate_limit_error"
    code = "saturated"

    def __init__(self, message: str, *, retry_after_s: float, reason: str = "full") -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.why = reason

    @property
    def reason(self) -> str:
        return self.why


class LimitReached(GatewayError):
    """A limit of the client's key leaves no room now.

    resource: what is limited, which is the error's type as OpenAI has it. hopeless: whether no wait
    helps, because the request is larger than the limit.
    """

    status = 429

    def __init__(
        self,
        message: str,
        *,
        resource: str,
        retry_after_s: float,
        hopeless: bool = False,
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.type = resource
        self.code = resource if resource == "insufficient_quota" else "rate_limit_exceeded"
        self.hopeless = hopeless

    @property
    def reason(self) -> str:
        return f"key_{self.type}" if self.code != self.type else self.type


class Unavailable(GatewayError):
    """No backend for the model is alive."""

    status = 503
    type = "service_unavailable"
    code = "no_backend"


class Draining(Unavailable):
    """The gateway is about to end: it takes no more requests, and ends those that take longer."""

    code = "draining"

    def __init__(self) -> None:
        super().__init__("The gateway is shutting down.", retry_after_s=1.0)


class Overloaded(Unavailable):
    """The gateway holds as many bytes of bodies as it may; nobody else is at fault."""

    code = "overloaded"

    def __init__(self) -> None:
        message = "The gateway holds as many bytes of requests and answers as it may."
        super().__init__(message, retry_after_s=1.0)


class ReplyTooLarge(GatewayError):
    """The reply does not end within the limit. Another backend's would be as large."""

    status = 502
    type = "upstream_error"
    code = "reply_too_large"


class UpstreamError(GatewayError):
    """The backend failed before the first byte of its answer."""

    status = 502
    type = "upstream_error"
    code = "upstream_error"
    kind = FailureKind.BROKEN


class ConnectFailed(UpstreamError):
    """The connection to the backend could not be made, so that nothing was sent."""

    code = "connect_failed"
    kind = FailureKind.UNREACHABLE


class ConnectionLost(UpstreamError):
    """A connection that was kept open broke before any byte of an answer came. Perhaps the backend
    closed it, as servers close idle ones, just as the request was sent."""


class Vacated(ConnectionLost):
    """The gateway gave the attempt up: the backend ends soon and has not begun to answer."""


class InvalidAnswer(UpstreamError):
    """What the backend answered is no answer: a redirect, another shape than the route's, or the
    end of an engine that stopped before it was done."""

    code = "invalid_answer"
    kind = FailureKind.INVALID


class UpstreamTimeout(UpstreamError):
    """The backend did not answer, or stopped answering, in time."""

    status = 504
    code = "upstream_timeout"
    kind = FailureKind.TIMEOUT


class StreamBroken(UpstreamError):
    """The backend's stream ended too early."""

    code = "stream_broken"
    kind = FailureKind.CUT


class ClientGone(Exception):
    """The client closed its connection before its answer was whole."""


class ConfigError(Exception):
    """The configuration cannot be used. problems: one line each, with the path of the key."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
