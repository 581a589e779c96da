"""Which Host headers are accepted."""

import pytest

from gateway.proxy.http.host import host_problem


@pytest.mark.parametrize(
    "host",
    [b"a", b"a.example", b"A_b-c.example:8000", b"127.0.0.1:80", b"[::1]", b"[fe80::1%25eth0]:80",
     b"", b":80", b"a:", b"a%20b", b" a ", b"xn--caf-dma.example", b"a.:443"],
)  # fmt: skip
@pytest.mark.parametrize("http11", [False, True])
def test_a_name_or_an_address_with_or_without_a_port_is_a_host(host, http11):
    """An empty one too, which stands for a target without a host (RFC 9112 §3.2)."""
    assert host_problem([(b"x", b"1"), (b"host", host)], http11=http11) is None


@pytest.mark.parametrize(
    "host",
    [b"a/b", b"http://a", b"u@a", b"a b", b"a,b", b"a:80:90", b"a:x", b"::1", b"[::1", b"[::1]a",
     b"a%2", b"caf\xe9", b"a?b", b"a#b", b"a\\b", b"<a>", b'"a"', b"[]"],
)  # fmt: skip
def test_anything_else_is_none(host):
    """Other servers would make a host of their own of it. A comma would join two of them."""
    assert "not valid" in str(host_problem([(b"host", host)], http11=True))


def test_there_is_one_host():
    """Only HTTP/1.0 may leave it out, and nobody may name two, even of one value."""
    two = [(b"host", b"a"), (b"x", b"1"), (b"host", b"a")]

    assert "missing" in str(host_problem([], http11=True))
    assert host_problem([], http11=False) is None
    for http11 in (False, True):
        assert "more than one" in str(host_problem(two, http11=http11))
