"""Where the API is, and what comes of its answers."""

import asyncio
import os
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from gateway.discovery.kubernetes.api import (
    ApiRefusal,
    ApiServer,
    ApiUnreachable,
    KubeApi,
    in_cluster,
)


def test_a_pod_finds_its_api_server():
    """By the variables and files that every pod has; IPv6 in brackets."""
    account = Path("/account")
    environment = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "6443"}

    server = in_cluster(environment, account)

    assert server == ApiServer("https://10.96.0.1:6443", account / "token", account / "ca.crt")
    assert in_cluster({"KUBERNETES_SERVICE_HOST": "fd00::1"}).url == "https://[fd00::1]:443"
    with pytest.raises(ApiUnreachable, match="`api_server` must be given"):
        in_cluster({})


async def answered(answer: bytes) -> bytes:
    """What a client makes of the bytes of a server that closes then."""

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        return await KubeApi(ApiServer(f"http://127.0.0.1:{port}")).get("/api")


async def test_an_answer_is_whole_or_an_error():
    """A list that broke off would be a fleet that shrank."""
    head = b"HTTP/1.1 200 OK\r\n"

    assert await answered(head + b"content-length: 2\r\n\r\n{}") == b"{}"
    chunked = head + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n"
    assert await answered(chunked + b"0\r\n\r\n") == b"{}"
    assert await answered(head + b"connection: close\r\n\r\n{}") == b"{}"
    for broken in (chunked, head + b"content-length: 9\r\n\r\n{}", head, b"", b"SSH-2.0-x\r\n"):
        with pytest.raises(ApiUnreachable):
            await answered(broken)


async def test_a_refusal_has_the_servers_words():
    """Of a Status object, or of whatever stands in between."""
    body = b'{"kind":"Status","code":429,"reason":"TooManyRequests","message":"slow down"}'
    head = b"HTTP/1.1 429 x\r\nretry-after: 7\r\ncontent-length: %d\r\n\r\n" % len(body)
    with pytest.raises(ApiRefusal, match="slow down") as caught:
        await answered(head + body)
    assert (caught.value.status, caught.value.retry_after_s) == (429, 7.0)

    with pytest.raises(ApiRefusal, match="Bad gateway") as caught:
        await answered(b"HTTP/1.1 502 x\r\ncontent-length: 11\r\n\r\nBad gateway")
    assert caught.value.status == 502


async def test_a_missing_token_is_told(tmp_path):
    """With its path; so is what would be another header."""
    file = tmp_path / "no-token"
    api = KubeApi(ApiServer("http://127.0.0.1:1", file))
    with pytest.raises(ApiUnreachable, match="no-token"):
        await api.get("/api")

    file.write_text("a\r\nb: c")
    with pytest.raises(ApiUnreachable, match="this file has no token"):
        await api.get("/api")


def make_certificate(key, certificate):
    """Make a key and a certificate for 127.0.0.1, signed by itself."""
    made = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=k -addext"
    subprocess.run(
        [
            *("openssl", *made.split(), "subjectAltName=IP:127.0.0.1"),
            *("-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate")
async def test_a_server_is_trusted_by_its_authorities(tmp_path):
    """Those of the file, also after the file has changed, and nobody else."""
    for name in ("a", "b"):
        await asyncio.to_thread(
            make_certificate, tmp_path / f"{name}.key", tmp_path / f"{name}.pem"
        )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "a.pem", tmp_path / "a.key")
    authorities = tmp_path / "ca.crt"

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        api = KubeApi(ApiServer(f"https://127.0.0.1:{port}", None, authorities))
        with pytest.raises(ApiUnreachable, match="No such file"):
            await api.get("/api")
        authorities.write_bytes((tmp_path / "b.pem").read_bytes())
        with pytest.raises(ApiUnreachable, match="CERTIFICATE_VERIFY_FAILED"):
            await api.get("/api")
        authorities.write_bytes((tmp_path / "a.pem").read_bytes())
        os.utime(authorities, (1, 1))
        assert await api.get("/api") == b"{}"
