"""Fields of multipart forms, whatever files stand between them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadRequest
from gateway.routing.body import read_body
from gateway.routing.endpoints import TRANSCRIPTIONS
from gateway.routing.form import form_fields, with_model


def part(name, value, more=b""):
    head = b'Content-Disposition: form-data; name="%b"%b' % (name, more)
    return b"--bound\r\n%b\r\n\r\n%b\r\n" % (head, value)


def form(*parts):
    return b"".join(parts) + b"--bound--\r\n"


FILE = b'; filename="model"\r\nContent-Type: audio/wav'


@given(st.binary(max_size=4096))
def test_the_model_is_found_beside_any_file(audio):
    """Before the file and behind it; what the file holds is no field."""
    audio = audio.replace(b"--bound", b"")
    body = form(
        part(b"file", b"x" * 2000 + audio, FILE), part(b"model", b"m"), part(b"stream", b"True")
    )
    found = read_body(body, TRANSCRIPTIONS)

    assert (found.model, found.stream, found.asks_usage) == ("m", True, True)


def test_a_form_may_say_little():
    """No model, no stream: as in JSON."""
    found = read_body(form(part(b"language", b"en")), TRANSCRIPTIONS)

    assert (found.model, found.stream) == (None, False)


@pytest.mark.parametrize("body", [b"", b"{}", b"--", b"--" + b"x" * 100 + b"\r\n", b"\r\n--b\r\n"])
def test_what_is_no_form_is_refused(body):
    """As what is no JSON is."""
    with pytest.raises(BadRequest):
        read_body(body, TRANSCRIPTIONS)
    with pytest.raises(BadRequest):
        read_body(form(part(b"model", b"\xff")), TRANSCRIPTIONS)


@given(st.binary(max_size=200))
def test_garbage_is_no_field(data):
    """Never another exception."""
    form_fields(b"--b\r\n" + data)


def test_the_model_gets_another_name():
    """Of whatever length; what looks like it in a file stays."""
    inside = part(b"model", b"m").replace(b"--bound", b"--other")
    for before, after in ((b"m", b"other"), (b"a/long/name", b"x")):
        fields = part(b"language", b"en"), part(b"model", before), part(b"file", inside, FILE)
        renamed = with_model(form(*fields), after)
        assert renamed == form(fields[0], part(b"model", after), fields[2])
    without = form(part(b"language", b"en"))
    assert with_model(without, b"x") == without
