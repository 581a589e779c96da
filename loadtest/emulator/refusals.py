"""What vLLM refuses, in its own words: the status and error object of every refusal.

Messages, types and params are those recorded from vLLM 0.32. Knows nothing of request bodies.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

JsonObject = dict[str, Any]

INVALID = "Bad Request"  # vLLM's type for what its schema rejects
REFUSED = "BadRequestError"  # vLLM's type for what its engine rejects


class RequestRefused(Exception):
    """An error answer: an HTTP status and a JSON body.

    message, error_type, param: of the OpenAI error object. error_type `None`: the web framework's
    own shape instead, `{"detail": message}`, which vLLM shows for bad UTF-8 and unknown routes.
    """

    def __init__(
        self, status: int, message: str, error_type: str | None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body: JsonObject = {"detail": message}
        if error_type is not None:
            error = {"message": message, "type": error_type, "param": param, "code": status}
            self.body = {"error": error}


def overloaded() -> RequestRefused:
    """The admission limit (`--max-num-queued-reqs`) is reached."""
    message = (
        "The engine is currently busy and cannot accept new requests. "
        "Please try again later or on a different instance."
    )
    return RequestRefused(503, message, "Service Unavailable")


def engine_dead() -> RequestRefused:
    """The engine process was killed; the API server still answers."""
    message = "EngineCore encountered an issue. See stack trace (above) for the root cause."
    return RequestRefused(500, message, "InternalServerError")


def model_not_found(model: object, served: str) -> RequestRefused:
    """The request names a model other than the served one."""
    message = f"The model `{model}` does not exist. Valid aliases: {served}."
    return RequestRefused(404, message, "NotFoundError", "model")


def validation_error(
    error_type: str, where: str, message: str, value: object, suffix: str = ""
) -> RequestRefused:
    """One schema error as pydantic words it.

    where: path of the field, such as `body.messages`. suffix: more of the entry, after the input.
    """
    return validation_errors((SchemaError(error_type, where, message, value, suffix),))


class SchemaError(NamedTuple):
    """One error of a schema; its fields as `validation_error` has them."""

    kind: str
    where: str
    message: str
    value: object
    suffix: str = ""

    @property
    def entry(self) -> str:
        input_text = str(self.value)
        if isinstance(self.value, dict | list):
            # vLLM does not print a whole body, which may hold a prompt.
            input_text = f"<{type(self.value).__name__} of {len(self.value)} items>"
        fields = {"type": self.kind, "loc": self.where, "msg": self.message, "input": input_text}
        told = ", ".join(f"'{name}': {text!r}" for name, text in fields.items())
        return f"  {{{told}{self.suffix}}}"


def validation_errors(errors: Sequence[SchemaError]) -> RequestRefused:
    """What is wrong with a field that may be of several types: an error for each of them."""
    count = f"{len(errors)} validation error{'s' if len(errors) > 1 else ''}"
    entries = "\n".join(error.entry for error in errors)
    return RequestRefused(400, f"{count}:\n{entries}", INVALID, errors[0].where)


def not_json() -> RequestRefused:
    """The content type is absent or not `application/json`."""
    message = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
    return RequestRefused(400, message, INVALID)


def bad_parameter(message: str, param: str, value: object) -> RequestRefused:
    """A parameter is outside what the model can do."""
    return RequestRefused(400, f"{message} (parameter={param}, value={value})", REFUSED, param)
