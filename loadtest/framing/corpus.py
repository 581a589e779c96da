"""Requests and replies by name, as bytes, and what the gateway makes of each. Data only.

After each request `NEXT` is sent: a server that takes the request to end elsewhere than another
server answers another number of requests, which is how requests are smuggled.
"""

HOST = b"Host: a\r\n"
GET, POST = b"GET / HTTP/1.1\r\n" + HOST, b"POST / HTTP/1.1\r\n" + HOST
TE = b"Transfer-Encoding: chunked\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"


def post(lines: bytes, body: bytes) -> bytes:
    """A POST with these header lines."""
    return POST + lines + b"\r\n" + body


# By name: the bytes, and the answers of the gateway: the status, and for 200 what was served.
REQUESTS: dict[str, tuple[bytes, str]] = {
    "length": (post(b"Content-Length: 3\r\n", b"abc"), "200 POST / 3, 200 GET /next 0"),
    "chunks": (post(TE, b"3\r\nabc\r\n0\r\n\r\n"), "200 POST / 3, 200 GET /next 0"),
    "chunk extension": (post(TE, b"3;a=b\r\nabc\r\n0\r\n\r\n"), "200 POST / 3, 200 GET /next 0"),
    "trailer": (post(TE, b"3\r\nabc\r\n0\r\nX: 1\r\n\r\n"), "200 POST / 3, 200 GET /next 0"),
    "empty lines before": (b"\r\n\r\n" + GET + b"\r\n", "200 GET / 0, 200 GET /next 0"),
    "absolute form": (
        b"GET http://a/x HTTP/1.1\r\nHost: a\r\n\r\n", "200 GET /x 0, 200 GET /next 0",
    ),
    "length with zeros": (
        post(b"Content-Length: 003\r\n", b"abc"), "200 POST / 3, 200 GET /next 0",
    ),
    "upgrade offered": (
        GET + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n", "200 GET / 0, 200 GET /next 0",
    ),
    "length and chunks": (post(b"Content-Length: 5\r\n" + TE, b"0\r\n\r\n" + HIDDEN), "400"),
    "chunks and length": (post(TE + b"Content-Length: 5\r\n", b"0\r\n\r\n" + HIDDEN), "400"),
    "two lengths": (post(b"Content-Length: 3\r\nContent-Length: 0\r\n", b"abc"), "400"),
    "same length twice": (post(b"Content-Length: 3\r\nContent-Length: 3\r\n", b"abc"), "400"),
    "list of lengths": (post(b"Content-Length: 3, 3\r\n", b"abc"), "400"),
    "length with sign": (post(b"Content-Length: +3\r\n", b"abc"), "400"),
    "length in hex": (post(b"Content-Length: 0x3\r\n", b"abc"), "400"),
    "length 2^64": (post(b"Content-Length: 18446744073709551616\r\n", b"abc"), "400"),
    "no length's value": (post(b"Content-Length: \r\n", b""), "400"),
    "other coding": (post(b"Transfer-Encoding: gzip\r\n", b"abc"), "400"),
    "two codings": (post(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"), "400"),
    "coding twice": (post(TE + TE, b"0\r\n\r\n"), "400"),
    "misspelt coding": (post(b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"), "400"),
    "coding behind a control": (post(b"Transfer-Encoding: \x0bchunked\r\n", b"0\r\n\r\n"), "400"),
    "chunks in HTTP/1.0": (b"POST / HTTP/1.0\r\n" + HOST + TE + b"\r\n0\r\n\r\n", "400"),
    "chunk size with sign": (post(TE, b"+3\r\nabc\r\n0\r\n\r\n"), "400"),
    "chunk size in 0x": (post(TE, b"0x3\r\nabc\r\n0\r\n\r\n"), "400"),
    "chunk size 2^64": (post(TE, b"10000000000000000\r\nabc"), "400"),
    "chunk size 2^63": (post(TE, b"7FFFFFFFFFFFFFFF\r\nabc"), "413"),
    "chunk longer than its size": (post(TE, b"3\r\nabcd\r\n0\r\n\r\n"), "400"),
    "line feeds in chunks": (post(TE, b"3\nabc\n0\n\n"), "400"),
    "line feed in a chunk extension": (post(TE, b"3;a\nabc\r\n0\r\n\r\n"), "400"),
    "line feeds only": (b"GET / HTTP/1.1\nHost: a\n\n", "400"),
    "a line feed in the head": (GET + b"X: a\nY: b\r\n\r\n", "400"),
    "a carriage return in a value": (GET + b"X: a\rY: b\r\n\r\n", "400"),
    "a null in a value": (GET + b"X: a\0b\r\n\r\n", "400"),
    "a folded line": (GET + b"X: a\r\n b\r\n\r\n", "400"),
    "space before the colon": (post(b"Content-Length : 3\r\n", b"abc"), "400"),
    "space before the first name": (b"GET / HTTP/1.1\r\n " + HOST + b"\r\n", "400"),
    "no colon": (GET + b"X\r\n\r\n", "400"),
    "empty name": (GET + b": a\r\n\r\n", "400"),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", "400"),
    "two hosts": (GET + b"Host: b\r\n\r\n", "400"),
    "impossible host": (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "400"),
    "empty host": (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", "200 GET / 0, 200 GET /next 0"),
    "no host in HTTP/1.0": (b"GET / HTTP/1.0\r\n\r\n", "200 GET / 0"),
    "no version": (b"GET /\r\n\r\n", "400"),
    "version 2.0": (b"GET / HTTP/2.0\r\n" + HOST + b"\r\n", "505"),
    "version 1.2": (b"GET / HTTP/1.2\r\n" + HOST + b"\r\n", "400"),
    "small letters in the method": (b"get / HTTP/1.1\r\n" + HOST + b"\r\n", "400"),
    "unknown method": (b"FOO / HTTP/1.1\r\n" + HOST + b"\r\n", "400"),
    "target without slash": (b"GET x HTTP/1.1\r\n" + HOST + b"\r\n", "400"),
    "proxying": (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", "400"),
}  # fmt: skip

OK = b"HTTP/1.1 200 OK\r\n"
# By name: the bytes of a backend, which then closes the connection, and what the gateway makes of
# them: the status and the body, or that there is none that could be trusted.
REPLIES: dict[str, tuple[bytes, str]] = {
    "length": (OK + b"Content-Length: 3\r\n\r\nabc", "200 abc"),
    "chunks": (OK + TE + b"\r\n3\r\nabc\r\n0\r\n\r\n", "200 abc"),
    "until the end": (OK + b"\r\nabc", "200 abc"),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\n\r\nabc", "200 abc"),
    "interim replies": (
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\na", "200 a",
    ),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", "204 "),
    "no reason phrase": (b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\na", "200 a"),
    "longer than its length": (OK + b"Content-Length: 1\r\n\r\nabc", "200 a"),
    "shorter than its length": (OK + b"Content-Length: 9\r\n\r\nabc", "broken"),
    "chunks without an end": (OK + TE + b"\r\n3\r\nabc\r\n", "broken"),
    "length and chunks": (
        OK + b"Content-Length: 3\r\n" + TE + b"\r\n3\r\nabc\r\n0\r\n\r\n", "broken",
    ),
    "two lengths": (OK + b"Content-Length: 1\r\nContent-Length: 3\r\n\r\nabc", "broken"),
    "length with sign": (OK + b"Content-Length: +3\r\n\r\nabc", "broken"),
    "bad chunk size": (OK + TE + b"\r\n+3\r\nabc\r\n0\r\n\r\n", "broken"),
    "line feeds only": (b"HTTP/1.1 200 OK\nContent-Length: 3\n\nabc", "broken"),
    "a folded line": (OK + b"X: a\r\n b\r\nContent-Length: 3\r\n\r\nabc", "broken"),
    "space before the colon": (OK + b"Content-Length : 3\r\n\r\nabc", "broken"),
    "switching protocols": (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\nabc", "broken"),
    "another protocol": (b"SSH-2.0-OpenSSH_9.6\r\n", "broken"),
    "nothing": (b"", "broken"),
}  # fmt: skip
