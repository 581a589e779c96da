"""The types of a body's fields, as vLLM's schema has them. Knows no meaning of any field."""

from loadtest.emulator.refusals import (
    REFUSED,
    JsonObject,
    RequestRefused,
    SchemaError,
    validation_error,
    validation_errors,
)

# pydantic's name of an error and its words, by what a field must be.
ATTRIBUTES = "Input should be a valid dictionary or object to extract fields from"
WORDS = {
    "object": ("model_attributes_type", ATTRIBUTES),
    "list": ("list_type", "Input should be a valid list"),
    "dict": ("dict_type", "Input should be a valid dictionary"),
    "str": ("string_type", "Input should be a valid string"),
    "bool": ("bool_parsing", "Input should be a valid boolean, unable to interpret input"),
}
PYTHON: dict[str, type] = {"object": dict, "list": list, "dict": dict, "str": str}
# What pydantic takes for a boolean.
BOOLEANS = (True, False, "yes", "no", "true", "false", "on", "off", "y", "n", "t", "f", "1", "0")
FORMATS = ("text", "json_object", "json_schema", "structural_tag")
FIELDS = {
    "model": "str", "tools": "list", "response_format": "object", "structured_outputs": "dict",
    "text": "dict", "stream_options": "object", "vllm_xargs": "dict", "stream": "bool",
    "echo": "bool",
    "instructions": "str", "suffix": "str", "ignore_eos": "bool",
}  # fmt: skip


def check_shape(body: JsonObject) -> None:
    """Refuse fields of another type than the schema's. Absent and null are the same."""
    for name, kind in FIELDS.items():
        check_field(body, name, kind)
    _check_stop(body.get("stop"))
    _check_format(body.get("response_format"))
    for place, tool in enumerate(body.get("tools") or []):
        where = f"body.tools.{place}"
        _check(where, tool, "dict", required=True)
        function = tool.get("function")
        _check(f"{where}.function", function, "dict")
        owner, place_of_name = tool, f"{where}.name"
        if function is not None:
            owner, place_of_name = function, f"{where}.function.name"
        if "name" not in owner and tool.get("type") in (None, "function"):
            raise validation_error("missing", place_of_name, "Field required", owner)
        _check(place_of_name, owner.get("name"), "str")  # a built-in tool has none
        for schema in ("parameters", "input_schema"):
            _check(f"{where}.{schema}", owner.get(schema), "dict")
    for place, message in enumerate(_listed(body.get("messages"))):
        if isinstance(message, dict):
            where = f"body.messages.{place}.tool_calls"
            _check(where, message.get("tool_calls"), "list")


def check_field(body: JsonObject, name: str, kind: str) -> None:
    """Refuse a field of another type; `kind` is a name in `WORDS`."""
    _check(f"body.{name}", body.get(name), kind)


def _check_stop(value: object) -> None:
    """A string, or a list of strings: what is neither gets the errors of both."""
    texts = [(f"body.stop.{n}", item) for n, item in enumerate(_listed(value))]
    strange = [(where, item) for where, item in texts if not isinstance(item, str)]
    if value is None or isinstance(value, str) or (isinstance(value, list) and not strange):
        return
    errors = [SchemaError(*_worded("str", "body.stop"), value)]
    if isinstance(value, list):
        errors += [SchemaError(*_worded("str", where), item) for where, item in strange]
    else:
        errors.append(SchemaError(*_worded("list", "body.stop"), value))
    raise validation_errors(errors)


def _worded(kind: str, where: str) -> tuple[str, str, str]:
    return WORDS[kind][0], where, WORDS[kind][1]


def _check_format(value: object) -> None:
    """The parts of `response_format`."""
    if not isinstance(value, dict):
        return
    kind, wrapped = value.get("type"), value.get("json_schema")
    if kind not in FORMATS:
        allowed = "'text', 'json_object' or 'json_schema'"
        context = f", 'ctx': {{'expected': {allowed!r}}}"
        message = f"Input should be {allowed}"
        where = "body.response_format.type"
        raise validation_error("literal_error", where, message, kind, context)
    if kind == "json_schema" and wrapped is None:
        message = "When response_format type is 'json_schema', the 'json_schema' field must be "
        raise RequestRefused(
            400, f"{message}provided. (parameter=response_format)", REFUSED, "response_format"
        )
    _check("body.response_format.json_schema", wrapped, "dict")
    if isinstance(wrapped, dict):
        _check("body.response_format.json_schema.schema", wrapped.get("schema"), "dict")


def _check(where: str, value: object, kind: str, *, required: bool = False) -> None:
    if value is None and not required:
        return
    if kind == "bool":
        lower = value.lower() if isinstance(value, str) else value
        fits = isinstance(lower, str | int | float) and lower in BOOLEANS
    else:
        fits = isinstance(value, PYTHON[kind])
    if not fits:
        error_type, message = WORDS[kind]
        raise validation_error(error_type, where, message, value)


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []
