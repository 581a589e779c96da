"""The Host header of a request, as RFC 9112 §3.2 asks for it. No I/O.

The gateway serves every host alike. But a request that names none, two or an impossible one may
mean one host to a proxy in front and another one to what is behind, which is how caches are
poisoned; so servers must refuse it.
"""

import re
from typing import Final

from gateway.proxy.http.headers import Headers

# uri-host [ ":" port ] (RFC 3986 §3.2.2): an address in brackets, or a name, which may be empty.
# The comma that names may have is left out: some proxies write two Hosts with one between them.
VALID: Final = re.compile(
    rb"(?:\[[0-9A-Za-z:.%_~!$&'()*+;=-]+\]|(?:[0-9A-Za-z._~!$&'()*+;=-]|%[0-9A-Fa-f]{2})*)"
    rb"(?::[0-9]*)?"
)


def host_problem(headers: Headers, *, http11: bool) -> str | None:
    """What is wrong with the Host of a request with these headers; `None` if nothing is. HTTP/1.0
    may leave it out."""
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) == 1:
        return None if VALID.fullmatch(hosts[0].strip()) else "the Host header is not valid"
    if hosts:
        return "there is more than one Host header"
    return "the Host header is missing" if http11 else None
