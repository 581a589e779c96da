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
        ([{"id": "m", "meta": {"n_ctx": 8192}}], "serves `m`, context 8192 tokens"),
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


@pytest.mark.parametrize(
    ("fitted", "told", "other"),
    [
        ("0.11", "0.11.2", False), ("0.11.0", "v0.11.2rc1+cu129", False), ("0.11", "0.9.2", True),
        ("0.1", "0.11.2", True), ("1.0", "0.11.2", True), ("nightly", "0.11.2", False),
        ("0.11", "dev", False),
    ],
)  # fmt: skip
def test_another_release_is_a_warning(fitted, told, other):
    """The first two numbers count; what has none cannot be compared. It serves all the same."""
    backend = BACKEND._replace(engine_version=fitted)
    listed = models({"id": "m", "max_model_len": 8192})
    told = HttpAnswer(200, msgspec.json.encode({"version": told, "model_id": "m"}))
    found = compare(backend, WELL, listed, told, keyed=False)

    assert found.kind == "ok"
    assert bool(found.warning) is other
    assert not other or fitted in found.warning


@pytest.mark.parametrize(
    "answer",
    [
        HttpAnswer(404, b'{"version": "9.9"}'), HttpAnswer(200, b"9.9"), HttpAnswer(200, b"\xff"),
        HttpAnswer(200, b'{"version": 9.9}'), REFUSED, None,
    ],
)  # fmt: skip
def test_an_engine_that_does_not_say_its_version_is_no_other(answer):
    """Nothing is said of what is not known."""
    backend = BACKEND._replace(engine_version="0.11")
    listed = models({"id": "m", "max_model_len": 8192})

    assert compare(backend, WELL, listed, answer, keyed=False).warning == ""
