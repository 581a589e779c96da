"""What the gateway refuses or could not do, as OpenAI error objects with a status each.

GatewayError              500 server_error
├── BadRequest            400 invalid_request_error
│   ├── ModelNotFound     404 invalid_request_error, code model_not_found
│   ├── ClassNotFound     400 invalid_request_error, code slo_class_not_found
│   ├── NotFound          404 no such path
│   ├── MethodNotAllowed  405
│   ├── TooLarge          413 the body exceeds the limit
│   ├── HeadTooLarge      431 the request's head does
│   └── RequestTimeout    408 the request did not arrive in time
├── Saturated             429 rate_limit_error: everything is full, with Retry-After
│   └── Held              never answered: the request waits a moment in the queue
├── Unavailable           503 service_unavailable: no live backend, or draining, with Retry-After
└── UpstreamError         502 the backend failed before its first byte
    ├── ConnectFailed     502 nothing was sent: another backend may try
    ├── UpstreamTimeout   504 the backend did not answer in time
    └── StreamBroken      502 the stream broke after its head: told inside the stream
ClientGone                nobody is left to answer
ConfigError               not a response: the configuration is wrong, one line per problem
"""

import msgspec


class GatewayError(Exception):
    """Anything the gateway answers with an error object."""

    status = 500
    type = "server_error"
    code: str | None = None

    def __init__(
        self, message: str, *, param: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s

    def body(self) -> bytes:
        """The OpenAI error object as JSON."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return msgspec.json.encode({"error": error})


class BadRequest(GatewayError):
    """The request cannot be understood; sending it again will not help."""

    status = 400
    type = "invalid_request_error"


class ModelNotFound(BadRequest):
    """No pool serves the model that the request names."""

    status = 404
    code = "model_not_found"


class ClassNotFound(BadRequest):
    """The model has no SLO class of the name that the request's header gives."""

    code = "slo_class_not_found"


class NotFound(BadRequest):
    """No such path."""

    status = 404
    code = "not_found"


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


class HeadTooLarge(BadRequest):
    """Request line and headers exceed what any client needs."""

    status = 431
    code = "head_too_large"


class RequestTimeout(BadRequest):
    """The client was too slow with its request."""

    status = 408
    code = "request_timeout"


class Saturated(GatewayError):
    """Every backend is full and so is the queue, or the wait in it was too long."""

    status = 429
    type = "rate_limit_error"
    code = "saturated"


class WouldMissSlo(Saturated):
    """No backend keeps the SLO at this moment; one may soon."""


class Unavailable(GatewayError):
    """No backend for the model is alive, or the gateway is draining."""

    status = 503
    type = "service_unavailable"
    code = "no_backend"


class UpstreamError(GatewayError):
    """The backend failed before the first byte of its answer."""

    status = 502
    type = "upstream_error"
    code = "upstream_error"


class ConnectFailed(UpstreamError):
    """No connection: nothing was sent."""

    code = "connect_failed"


class UpstreamTimeout(UpstreamError):
    """The backend did not answer, or stopped answering, in time."""

    status = 504
    code = "upstream_timeout"


class StreamBroken(UpstreamError):
    """The backend's stream ended too early."""

    code = "stream_broken"


class ClientGone(Exception):
    """The client closed its connection before its answer was whole."""


class ConfigError(Exception):
    """A configuration that cannot be used; `problems` holds one line each, with the key's path."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
