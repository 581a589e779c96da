"""Other servers that read the corpus: how each is started. Programs are found on PATH."""

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from loadtest.process import free_port

START_S = 10.0
NGINX = """
daemon off; pid {folder}/nginx.pid; error_log /dev/null; worker_processes 1;
events {{ worker_connections 64; }}
http {{
    access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://127.0.0.1:{backend}; proxy_http_version 1.1; }}
    }}
}}
"""
HAPROXY = """
defaults
    mode http
    timeout connect 2s
    timeout client 5s
    timeout server 5s
frontend front
    bind 127.0.0.1:{port}
    default_backend back
backend back
    server one 127.0.0.1:{backend}
"""


def _nginx(program: str, folder: Path, port: int, backend: int) -> list[str]:
    file = folder / "nginx.conf"
    file.write_text(NGINX.format(folder=folder, port=port, backend=backend))
    return [program, "-p", str(folder), "-c", str(file)]


def _haproxy(program: str, folder: Path, port: int, backend: int) -> list[str]:
    file = folder / "haproxy.cfg"
    file.write_text(HAPROXY.format(port=port, backend=backend))
    return [program, "-db", "-f", str(file)]


def _uvicorn(http: str) -> Callable[[str, Path, int, int], list[str]]:
    def argv(program: str, folder: Path, port: int, backend: int) -> list[str]:
        options = ["--port", str(port), "--http", http, "--log-level", "critical"]
        return [program, "loadtest.framing.asgi:echo", *options]

    return argv


# By name: the program, and its command line. The last two are no proxies; h11 and httptools are
# what reads HTTP in them.
PROXIES = {"nginx": ("nginx", _nginx), "haproxy": ("haproxy", _haproxy)}
SERVERS = {"h11": ("uvicorn", _uvicorn("h11")), "httptools": ("uvicorn", _uvicorn("httptools"))}
PEERS = PROXIES | SERVERS


def found() -> list[str]:
    """The peers whose program is there."""
    return [name for name, (program, _) in PEERS.items() if shutil.which(program)]


@asynccontextmanager
async def peer_port(name: str, backend: int) -> AsyncIterator[int]:
    """The port of a running peer. backend: port of what a proxy passes requests on to."""
    program, argv = PEERS[name]
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = argv(shutil.which(program) or program, Path(folder), port, backend)
        process = await asyncio.create_subprocess_exec(
            *command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            await _accepting(port)
            yield port
        finally:
            process.terminate()
            await process.wait()


async def _accepting(port: int) -> None:
    """Wait until something listens. Raises TimeoutError."""
    async with asyncio.timeout(START_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return
