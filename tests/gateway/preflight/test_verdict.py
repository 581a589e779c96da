"""What is said of a backend by its answers."""

import msgspec
import pytest

from gateway.preflight.verdict import Expected, HttpAnswer, compare

BACKEND = Expected(pool="a", url="http://a:1", model="m", context=8192, health="/health")
WELL = HttpAnswer(200)
REFUSED = HttpAnswer(0, fault="cannot be reached")


def models(*entries):
    """An answer of /v1/models with these entries."""
    return HttpAnswer(200, msgspec.json.encode({"object": "list", "data": list(entries)}))


def verdict(health, listed, *, keyed=False):
    found = compare(BACKEND, health, listed, keyed=keyed)
    return found.kind, found.text


@pytest.mark.parametrize(
    ("entries", "text"),
    [
        ([{"id": "m", "max_model_len": 8192}], "serves `m`, context 8192 tokens"),
        ([{"id": "x"}, {"id": "m", "max_model_len": 8192}], "serves `m`, context 8192 tokens"),
        ([{"id": "m", "max_model_len": 9000}],
         "serves `m`, context 9000 tokens; the plan uses 8192, as the profile says"),
        ([{"id": "m"}], "serves `m`; tells no context length"),
    ],
)  # fmt: skip
def test_a_backend_as_configured(entries, text):
    """It serves the model, with no shorter context than the profile's."""
    assert verdict(WELL, models(*entries)) == ("ok", text)


@pytest.mark.parametrize(
    ("entries", "text"),
    [
        ([{"id": "org/m"}], "does not serve `m`, but `org/m`: give the engine that name"),
        ([], "does not serve `m`, but none:"),
        ([{"id": f"n{n}"} for n in range(7)],
         "does not serve `m`, but `n6`, `n5`, `n4`, `n3`, `n2` and 2 more: "),
        ([{"id": "m", "max_model_len": 4096}],
         "its context is 4096 tokens and the profile's 8192"),
        ([{"id": "m", "owned_by": "cuvee"}], "is a Cuvée gateway, not an engine"),
    ],
)  # fmt: skip
def test_a_backend_that_is_something_else(entries, text):
    """Both sides are named, and what to change."""
    kind, said = verdict(WELL, models(*entries))

    assert kind == "mismatch"
    assert said.startswith(text)


@pytest.mark.parametrize(
    ("health", "listed", "keyed", "text"),
    [
        (REFUSED, REFUSED, False, "cannot be reached"),
        (HttpAnswer(503), models({"id": "m"}), False, "/health answered 503"),
        (HttpAnswer(404), HttpAnswer(307), False, "/health answered 404; /v1/models answered 307"),
        (WELL, HttpAnswer(401), False, "asks for a key: /v1/models answered 401"),
        (WELL, HttpAnswer(403), True, "refuses the key: /v1/models answered 403"),
        (WELL, HttpAnswer(200, b"<html>"), False, "/v1/models answered no list of models"),
        (WELL, HttpAnswer(200, b"[]"), False, "/v1/models answered no list of models"),
        (WELL, HttpAnswer(200, b"\xff"), False, "/v1/models answered no list of models"),
        (WELL, HttpAnswer(200, b'{"data": [1, {"id": 2}]}'), False, None),
    ],
)
def test_a_backend_that_cannot_be_compared(health, listed, keyed, text):
    """With the path and the status."""
    kind, said = verdict(health, listed, keyed=keyed)

    assert (kind, said) == ("unknown", text) if text else kind == "mismatch"
