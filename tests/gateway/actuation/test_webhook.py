"""Wishes reach a URL: signed, with the same key at each try, and every answer is understood."""

import asyncio
import hashlib
import hmac
import json
from pathlib import Path

import msgspec
import pytest

from gateway.actuation.actuator import ActuationError
from gateway.actuation.webhook import Webhook
from gateway.config.scale_schema import WebhookSection

NOW_S = 1_800_000_000.7


@pytest.fixture
def hook(receiver, pool, tmp_path):
    """Makes webhooks of these keys, at the receiver."""

    def make(path: str = "/orders", **keys) -> Webhook:
        section = msgspec.convert({"url": receiver.url + path} | keys, WebhookSection)
        environ = {"KEY": "secret"}
        return Webhook(pool, section, tmp_path, environ, now_s=lambda: NOW_S, first_pause_s=0.001)

    return make


async def refused(actuator: Webhook, order) -> ActuationError:
    """Why a wish was refused."""
    with pytest.raises(ActuationError) as caught:
        await actuator.apply(order)
    assert "\n" not in str(caught.value)
    return caught.value


async def test_a_wish_is_a_post_with_all_that_is_known(receiver, hook, order):
    """The document's fields, the further headers, and the URL with its query."""
    actuator = hook("/orders?tenant=1", headers={"x-tenant": "b"})
    await actuator.apply(order(leaving=("http://a:1",)))
    head, headers, body = receiver.requests[0]

    assert actuator.name == f"webhook {receiver.url}/orders"
    assert head == "POST /orders?tenant=1 HTTP/1.1"
    assert headers["content-type"] == "application/json"
    assert (headers["idempotency-key"], headers["x-tenant"]) == ("k-1", "b")
    assert json.loads(body) == {
        "version": 1, "key": "k-1", "pool": "a100", "model": "llama-3-8b", "gpu": "A100-80G",
        "gpus": 2, "zone": "eu-west", "backends": 5, "running": 3, "leaving": ["http://a:1"],
        "why": "more demand", "at": 1800000000,
    }  # fmt: skip
    assert "x-cuvee-signature" not in headers


def as_documented(key: bytes, headers: dict[str, str], body: bytes) -> bool:
    """The check of a signature as docs/actuation.md has it."""
    page = (Path(__file__).resolve().parents[3] / "docs" / "actuation.md").read_text()
    code = page.split("```python\n")[1].split("```")[0]
    namespace: dict = {}
    exec(code, namespace)
    signed: bool = namespace["signed"](key, headers, body, now_s=NOW_S)
    return signed


async def test_a_wish_is_signed_with_the_key_of_now(receiver, hook, order, tmp_path):
    """That of the file is read each time, that of the environment is a variable's."""
    file = tmp_path / "key"
    file.write_text("one\n")
    actuator = hook(key_file="key")
    await actuator.apply(order())
    file.write_text("two\n")
    await actuator.apply(order(key="k-2"))
    await hook(key_env="KEY").apply(order(key="k-3"))
    for key, (_, headers, body) in zip((b"one", b"two", b"secret"), receiver.requests, strict=True):
        timestamp = headers["x-cuvee-timestamp"]
        made = hmac.new(key, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        assert timestamp == "1800000000"
        assert headers["x-cuvee-signature"] == f"sha256={made}"
        assert as_documented(key, headers, body)
        assert not as_documented(b"other", headers, body)
        assert not as_documented(key, headers, body + b" ")

    file.unlink()
    assert "the key cannot be read" in str(await refused(actuator, order(key="k-4")))
    file.write_text("\n")
    assert "the key is empty: key" in str(await refused(actuator, order(key="k-5")))
    assert len(receiver.requests) == 3


@pytest.mark.parametrize(
    "answer",
    [
        (200, "", "text/plain"),
        (204, "", "text/plain"),
        (202, "ok", "text/plain"),
        (200, "null", "application/json"),
        (200, '{"backends": 5, "key": "k-1", "pool": "a100", "job": 17}', "application/json"),
    ],
    ids=str,
)
async def test_what_accepts_a_wish(receiver, hook, order, respond, answer):
    """Nothing, a word, or the wish repeated."""
    receiver.answers = [respond(*answer)]
    await hook().apply(order())

    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    ("answer", "why", "final"),
    [
        ((200, "<html>Sign in</html>", "text/html"), "answers 200 with a page of HTML", False),
        ((200, " <!doctype html>", "text/plain"), "is this the right URL?", False),
        ((200, '{"backends": 5', "application/json"), "with what is no JSON", False),
        ((200, b"x" * 70000, "text/plain"), "with more than 64 KiB", False),
        ((200, '{"backends": 9}'), "answers 9 backends where 5 are wished", False),
        ((200, '{"backends": "5"}'), "answers 5 backends where 5 are wished", False),
        ((200, '{"key": "k-0"}'), "answers for another key: k-0 instead of k-1", False),
        ((200, '{"pool": "b"}'), "answers for another pool: b instead of a100", False),
        (
            (202, '{"backends": 4, "why": "quota"}'),
            "accepts 4 of 5 backends: quota",
            True,
        ),
        ((400, "bad\nworse", "text/plain"), "does not take this wish (400): bad", True),
        ((401, '{"error": "stale"}'), "does not accept the signature (401): stale", True),
        ((403, ""), "does not allow it (403)", True),
        ((404, "<html>", "text/html"), "nothing at this URL (404): a page of HTML", True),
        ((418, "x" * 999, "text/plain"), "failed (418): xxx", True),
        ((501, ""), "failed (501)", True),
        ((503, '{"final": true, "why": "no A100 left"}'), "cannot now (503): no A100 left", True),
        ((302, ""), "answers 302 to elsewhere: redirects are not followed", True),
    ],
    ids=str,
)
async def test_what_is_not_tried_again(receiver, hook, order, respond, answer, why, final):
    """Lies and refusals are told in one line, after one try."""
    receiver.answers = [respond(*answer)]
    error = await refused(hook(), order())

    assert why in str(error)
    assert len(str(error)) < 300
    assert error.final == final
    assert len(receiver.requests) == 1


async def test_a_redirect_is_not_followed(receiver, hook, order, respond):
    """Its place is told; nothing goes there."""
    receiver.answers = [respond(307, location=f"{receiver.url}/other"), respond(200)]
    error = await refused(hook(), order())

    assert f"answers 307 to {receiver.url}/other" in str(error)
    assert len(receiver.requests) == 1


async def test_what_passes_is_tried_again_with_the_same_key(receiver, hook, order, respond):
    """Refusals for now, broken connections and answers that are none; each with the same bytes."""
    again = [respond(status) for status in (408, 409, 425, 500, 502, 503, 504)]
    wait = respond(429, '{"why": "slow"}', retry_after="0.01")
    early = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + respond(200)
    receiver.answers = [*again, wait, b"", b"SSH-2.0-x\r\n", early]
    await hook().apply(order())

    assert len(receiver.requests) == 11
    assert len({(h["idempotency-key"], body) for _, h, body in receiver.requests}) == 1


async def test_a_later_try_of_a_wish_has_the_same_bytes(receiver, hook, order, respond):
    """Also where the caller comes back with it after a failure, and more run by then."""
    receiver.answers = [respond(400), respond(200)]
    actuator = hook()
    await refused(actuator, order())
    await actuator.apply(order(running=4))
    await actuator.apply(order(running=4, key="k-2"))
    first, second, third = (json.loads(body) for _, _, body in receiver.requests)

    assert first == second
    assert (third["key"], third["running"]) == ("k-2", 4)


async def test_tries_end(receiver, hook, order, respond):
    """After the time for all of them; at once, where the answer asks for a longer pause."""
    receiver.answers = [respond(500, "down", "text/plain")]
    error = await refused(hook(give_up_s=0.2, timeout_s=0.2), order())
    assert str(error) == "failed (500): down"
    assert not error.final
    assert len(receiver.requests) > 1

    receiver.requests.clear()
    receiver.answers = [respond(429, retry_after="3600")]
    assert "asks to wait (429)" in str(await refused(hook(), order()))
    assert len(receiver.requests) == 1


async def test_a_receiver_that_hangs_is_left(receiver, hook, order):
    """Each try has its time; the line says so."""
    receiver.answers = [None]
    error = await refused(hook(timeout_s=0.05, give_up_s=0.1), order())

    assert "no end of the answer within" in str(error)
    assert not error.final


async def test_nobody_there_is_told(receiver, hook, order):
    """With the URL's host."""
    actuator = hook(url="http://127.0.0.1:1/orders", give_up_s=0.05, timeout_s=0.05)
    error = await refused(actuator, order())

    assert "http://127.0.0.1:1: " in str(error)


async def test_one_wish_at_a_time(receiver, hook, order):
    """So that an older one is never accepted after a newer one."""
    actuator = hook()
    await asyncio.gather(*(actuator.apply(order(key=f"k-{n}")) for n in range(5)))
    await actuator.aclose()

    assert receiver.busiest == 1
    assert [h["idempotency-key"] for _, h, _ in receiver.requests] == [f"k-{n}" for n in range(5)]


async def test_any_key_can_be_sent(receiver, hook, order):
    """Names of pools may be in it, whatever they have in them."""
    await hook().apply(order(key="pöol\r\nx: y 1"))

    assert receiver.requests[0][1]["idempotency-key"] == "p%C3%B6ol%0D%0Ax:%20y%201"
