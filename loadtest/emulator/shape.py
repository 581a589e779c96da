"""The types of a body's fields, as vLLM's schema has them. Knows no meaning of any field."""

from loadtest.emulator.refusals import JsonObject, validation_error

# pydantic's name of an error and its words, by what a field must be.
WORDS = {
    "list": ("list_type", "Input should be a valid list"),
    "dict": ("dict_type", "Input should be a valid dictionary"),
    "str": ("string_type", "Input should be a valid string"),
    "bool": ("bool_parsing", "Input should be a valid boolean, unable to interpret input"),
}
PYTHON: dict[str, type | tuple[type, ...]] = {"list": list, "dict": dict, "str": str}
# What pydantic takes for a boolean.
BOOLEANS = (True, False, "yes", "no", "true", "false", "on", "off", "y", "n", "t", "f", "1", "0")
FIELDS = {
    "tools": "list", "response_format": "dict", "structured_outputs": "dict", "text": "dict",
    "stream_options": "dict", "vllm_xargs": "dict", "stream": "bool", "echo": "bool",
    "instructions": "str", "suffix": "str", "ignore_eos": "bool",
}  # fmt: skip


def check_shape(body: JsonObject) -> None:
    """Refuse fields of another type than the schema's. Absent and null are the same."""
    for name, kind in FIELDS.items():
        _check(f"body.{name}", body.get(name), kind)
    for place, tool in enumerate(body.get("tools") or []):
        where = f"body.tools.{place}"
        _check(where, tool, "dict", required=True)
        function = tool.get("function")
        _check(f"{where}.function", function, "dict")
        owner = tool if function is None else function
        named = tool.get("type") in (None, "function")  # a built-in tool has no name
        _check(f"{where}.name", owner.get("name"), "str", required=named)
        for schema in ("parameters", "input_schema"):
            _check(f"{where}.{schema}", owner.get(schema), "dict")
    for place, message in enumerate(_listed(body.get("messages"))):
        if isinstance(message, dict):
            where = f"body.messages.{place}.tool_calls"
            _check(where, message.get("tool_calls"), "list")


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
