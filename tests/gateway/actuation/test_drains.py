"""Who is drained, why, and until when."""

from dataclasses import replace

import pytest

from gateway.actuation.drain_request import meant, read_drain
from gateway.actuation.drains import DrainedBackend, Drains
from gateway.errors import BadRequest, NotFound
from gateway.routing.backend import Backend
from gateway.routing.membership import FINISHING, LEAVING


def drain(name="p-0", *, ends_s=None, shrinking=False, why="notice"):
    return DrainedBackend(
        backend=name, pool="p", url=f"http://{name}", why=why, since_s=100.0, ends_s=ends_s,
        shrinking=shrinking,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("ends_s", "how"), [(None, FINISHING), (220.0, LEAVING), (5000.0, FINISHING)]
)
def test_what_has_not_begun_leaves_only_where_the_end_is_near(ends_s, how):
    """A notice of two minutes is; one of an hour, or none, is not."""
    drains = Drains()
    drains.begin(drain(ends_s=ends_s))

    assert drains.wanted() == {"p-0": how}


def test_a_notice_that_comes_again_keeps_its_end_and_is_nobodys_to_take_back():
    """The loop takes back only what it chose itself."""
    drains = Drains()
    drains.begin(drain(shrinking=True))
    chosen = [one.backend for one in drains.shrinking("p")]
    drains.begin(drain(ends_s=130.0))
    drains.begin(drain())
    drains.begin(drain(shrinking=True))

    assert chosen == ["p-0"]
    assert drains.shrinking("p") == []
    assert drains.all["p-0"].ends_s == 130.0


def test_a_drain_is_forgotten_with_its_backend():
    """A backend that comes back under the same URL is another one."""
    drains = Drains()
    drains.begin(drain("p-0"))
    drains.begin(drain("p-1"))
    drains.keep({"p-1", "p-2"})

    assert list(drains.wanted()) == ["p-1"]
    assert drains.figures({"p-1": 3}, 160.0) == [
        {
            "backend": "p-1", "pool": "p", "url": "http://p-1", "why": "notice", "age_s": 60.0,
            "ends_in_s": None, "in_flight": 3,
        }
    ]  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{}", b'{"url": "http://a", "backend": "p-0"}', b'{"url": 3}',
        b'{"url": "http://a", "seconds": -1}', b'{"url": "http://a", "minutes": 1}', b"\xff",
    ],
)  # fmt: skip
def test_a_body_that_is_no_drain_is_refused(body):
    """With 400, whatever it is."""
    with pytest.raises(BadRequest):
        read_drain(body)


def test_a_url_means_all_backends_that_have_it():
    """One engine may serve two pools; a slash at its end does not count."""
    backends = [Backend(name=f"{p}-0", pool=p, url="http://a") for p in ("p", "q")]
    backends.append(Backend(name="p-1", pool="p", url="http://b"))

    by_url = meant(read_drain(b'{"url": "http://a/", "seconds": 30}'), backends)
    by_name = meant(read_drain(b'{"backend": "p-1"}'), backends)
    with pytest.raises(NotFound):
        meant(read_drain(b'{"backend": "p-9"}'), backends)

    assert [backend.name for backend in by_url] == ["p-0", "q-0"]
    assert [backend.name for backend in by_name] == ["p-1"]


def test_what_was_asked_outlives_the_gateway():
    """It is drained on when its backend is found again, by whatever name; what ended is not."""
    before = Drains()
    before.begin(replace(drain("p-0"), asked=True))
    before.begin(replace(drain("p-1", ends_s=220.0), asked=True))
    before.begin(replace(drain("p-2"), asked=True))
    before.begin(drain("p-3", shrinking=True))

    after = Drains()
    after.remember(before.asked())
    resumed = after.resume({("p", "http://p-0"): "p-7", ("p", "http://p-1"): "p-8"}, 300.0)
    again = after.resume({("p", "http://p-0"): "p-7"}, 300.0)

    assert [one.backend for one in resumed] == ["p-7"]
    assert again == []
    assert after.wanted() == {"p-7": FINISHING}
    assert [note.url for note in after.asked()] == ["http://p-0", "http://p-2"]
