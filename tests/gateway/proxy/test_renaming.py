"""Names of models in bodies: the bytes of one value take the place of another's."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.renaming import Renaming, replaced

ONE = Renaming("fast", "org/v2")


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (b'{"model":"fast","n":1}', b'{"model":"org/v2","n":1}'),
        (b' {\n "model" : "fa\\"st" }', b' {\n "model" : "org/v2" }'),
        (b'{"n":[{"model":"x"}],"model":"fast"}', b'{"n":[{"model":"x"}],"model":"org/v2"}'),
        (b'{"model":"a","o":{"model":"x"},"model":"fast"}',
         b'{"model":"org/v2","o":{"model":"x"},"model":"org/v2"}'),
        (b'{"mod\\u0065l":"fast","a":"\\"model\\":1"}',
         b'{"mod\\u0065l":"org/v2","a":"\\"model\\":1"}'),
        (b'{"a":"model","b":"x","model":"fast"}', b'{"a":"model","b":"x","model":"org/v2"}'),
        (b'{"user":"model","n":2}', b'{"user":"model","n":2}'),
        (b'{"model":null}', b'{"model":null}'),
        (b"no JSON, \"model\":", b"no JSON, \"model\":"),
        (b"", b""),
        (b'name="model"\r\n\r\n{"model":"fast"}', b'name="model"\r\n\r\n{"model":"fast"}'),
    ],
)  # fmt: skip
def test_only_the_objects_own_model_is_renamed(body, sent):
    """Wherever it stands, however it is written, and as often as it stands there."""
    assert ONE.request(body) == sent


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("model"), inner),
)


@pytest.mark.long
@given(
    st.dictionaries(st.text() | st.sampled_from(["model", "messages"]), JSON),
    st.text(min_size=1),
    st.booleans(),
)
def test_nothing_else_of_any_object_changes(fields, name, escaped):
    """A parser finds the new name, and everything else as it was."""
    fields["model"] = "fast"
    body = json.dumps(fields, ensure_ascii=escaped).encode(errors="surrogatepass")

    found = json.loads(replaced(body, json.dumps(name).encode()).decode(errors="surrogatepass"))

    assert found == fields | {"model": name}


@pytest.mark.parametrize("told", ['"org/v2"', '"org\\/v2"'])
@pytest.mark.parametrize("colon", [":", ": "])
def test_events_get_the_clients_name_back(told, colon):
    """Of several events in one piece each; text of the answer stays, however it looks."""
    event = f'data: {{"model"{colon}{told},"t":"\\"model\\":\\"org/v2\\""}}\n\n'.encode()

    renamed = ONE.events(event * 2 + b"data: [DONE]\n\n")

    expected = b'data: {"model":"fast","t":"\\"model\\":\\"org/v2\\""}\n\n'
    assert renamed == expected * 2 + b"data: [DONE]\n\n"


def test_a_piece_without_a_name_is_the_same_object():
    """So that it can be passed on as it came."""
    piece = b"data: [DONE]\n\n"

    assert ONE.events(piece) is piece


def test_a_whole_answer_gets_the_clients_name():
    """Whatever the engine calls itself."""
    assert ONE.answer(b'{"id":"1","model":"/data/w","choices":[]}') == (
        b'{"id":"1","model":"fast","choices":[]}'
    )


def test_an_engine_may_write_another_of_its_names():
    """The first that it was started with, or that of the weights; the client gets its own."""
    renaming = Renaming("fast", "served")
    text = json.dumps({"delta": 'the "model":"big" and "model": "x"'})
    events = [
        f'data: {{"id":"c","model":{sep}"big/one","choices":[{text}]}}\n\n' for sep in ("", " ")
    ]
    piece = "".join([": hi\n\n", *events, "data: [DONE]\n\n"]).encode()

    renamed = renaming.events(piece)

    assert [json.loads(line[6:])["model"] for line in renamed.splitlines() if b"{" in line] == [
        "fast"
    ] * 2
    assert renamed.replace(b'"fast"', b'"big/one"') == piece
    asked = b'data: {"model": {"type":"string"},"a":"model"}\n\n'
    assert renaming.events(asked) == asked
