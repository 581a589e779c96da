"""The proxies that the gateway is compared with: where each is, and how it is started at its best.

At its best: no access log, no retries, breakers or probes that cost and can be switched off, round
robin, one thread or process per core given to it, and room for every stream.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from loadtest.overhead import mock

PATHS_VARIABLE = "CUVEE_PEERS"  # NAME=PATH, separated by spaces
# nginx closes a connection after so many requests. With its default of 1,000 a closed loop would
# connect again and again.
KEEPALIVE_REQUESTS = 1_000_000_000
SPARE_FILES = 100  # for listeners, logs and libraries
VERSION_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxySettings:
    """What a proxy is started with.

    port: to listen on. backend: host:port. spare_port: for its metrics. folder: for its files.
    open_files: the limit. threads: its threads, or worker processes.
    """

    port: int
    backend: str
    spare_port: int
    folder: Path
    open_files: int
    threads: int

    @property
    def max_clients(self) -> int:
        """Client connections that the limit of open files allows, with one backend socket each."""
        return (self.open_files - SPARE_FILES) // 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One proxy.

    program: its name on PATH, `None` where a path must be given. argv: its command line, from the
    program's path and the settings; writes its configuration file. version: arguments that print
    it, or for a Python program the distribution's name. env: variables on top of ours.
    rebuilds: whether it makes replies and chunks anew, so that bytes and events are not the mock's.
    """

    name: str
    program: str | None
    argv: Callable[[str, ProxySettings], tuple[str, ...]]
    version: tuple[str, ...] | str
    env: Mapping[str, str] = field(default_factory=dict)
    rebuilds: bool = False


def find_program(peer: Peer, paths: Mapping[str, Path]) -> str | None:
    """The path of a peer's program; `None` if there is none. paths: given by name, they win."""
    if peer.name in paths:
        return str(paths[peer.name])
    if peer.program is None:
        return None
    # Debian installs HAProxy and nginx into /usr/sbin, which is not on a user's PATH.
    return shutil.which(peer.program, path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def program_version(peer: Peer, program: str) -> str:
    """The first line of what the program says of its version; empty if it says nothing."""
    argv: tuple[str, ...]
    if isinstance(peer.version, str):
        python = Path(program).parent / "python"  # of the environment it was installed into
        code = f"from importlib.metadata import version as v; print(v({peer.version!r}))"
        argv = (str(python if python.exists() else sys.executable), "-c", code)
    else:
        argv = (program, *peer.version)
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=VERSION_S)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = (done.stdout or done.stderr).strip().splitlines()  # `nginx -v` writes to stderr
    return lines[0] if lines and not done.returncode else ""


def haproxy_config(settings: ProxySettings) -> str:
    """Kept-alive connections on both sides, any of which serves any client; no logging.

    Without `http-no-delay` HAProxy holds a stream's first chunks back for up to 200 ms and sends
    several at once: cheap, but not what a stream is for.
    """
    return f"""\
global
    nbthread {settings.threads}
    maxconn {settings.max_clients}
defaults
    mode http
    option http-keep-alive
    option http-no-delay
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    http-reuse always
frontend clients
    bind 127.0.0.1:{settings.port} backlog 4096
    default_backend engines
backend engines
    server mock {settings.backend}
"""


def nginx_config(settings: ProxySettings) -> str:
    """Kept-alive connections on both sides, bodies in memory, replies passed on as they come.

    Towards upstreams nginx sends `Connection: close` unless the header is emptied, and bodies above
    16 KiB go through a file unless their buffer is larger. The temporary paths are set because the
    compiled-in ones belong to root.
    """
    folder = settings.folder
    temporary = "".join(
        f"    {module}_temp_path {folder}/nginx;\n"
        for module in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""\
daemon off;
worker_processes {settings.threads};
pid {folder}/nginx.pid;
events {{ worker_connections {settings.open_files - SPARE_FILES}; }}
http {{
{temporary}\
    access_log off;
    keepalive_requests {KEEPALIVE_REQUESTS};
    client_body_buffer_size 512k;
    client_max_body_size 0;
    upstream engines {{
        server {settings.backend};
        keepalive {settings.max_clients};
        keepalive_requests {KEEPALIVE_REQUESTS};
    }}
    server {{
        listen 127.0.0.1:{settings.port} backlog=4096;
        location / {{
            proxy_pass http://engines;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"""


def _haproxy(program: str, settings: ProxySettings) -> tuple[str, ...]:
    path = settings.folder / "haproxy.cfg"
    path.write_text(haproxy_config(settings))
    return program, "-db", "-q", "-f", str(path)


def _nginx(program: str, settings: ProxySettings) -> tuple[str, ...]:
    path = settings.folder / "nginx.conf"
    path.write_text(nginx_config(settings))
    return program, "-p", str(settings.folder), "-e", "stderr", "-c", str(path)


def _rust_router(program: str, settings: ProxySettings) -> tuple[str, ...]:
    """Both Rust routers. No option sets their threads: they make one per core that they may use.

    Their default policy, cache_aware, halves the vLLM router's requests per CPU-second at 1 KB.
    """
    return (
        program,
        *("--host", "127.0.0.1", "--port", str(settings.port)),
        *("--worker-urls", f"http://{settings.backend}"),
        *("--policy", "round_robin", "--log-level", "error"),
        *("--max-concurrent-requests", str(settings.max_clients), "--queue-size", "0"),
        *("--disable-retries", "--disable-circuit-breaker"),
        *("--prometheus-port", str(settings.spare_port)),
    )


def _sglang(program: str, settings: ProxySettings) -> tuple[str, ...]:
    _, *options = _rust_router(program, settings)
    return program, "launch", *options


def _production_stack(program: str, settings: ProxySettings) -> tuple[str, ...]:
    return (
        program,
        *("--host", "127.0.0.1", "--port", str(settings.port), "--service-discovery", "static"),
        *("--static-backends", f"http://{settings.backend}"),
        *("--static-models", mock.MODEL, "--routing-logic", "roundrobin"),
        *("--log-level", "error"),  # its default logs each request
    )


def _litellm(program: str, settings: ProxySettings) -> tuple[str, ...]:
    path = settings.folder / "litellm.yaml"
    engine = {
        "model": f"openai/{mock.MODEL}",
        "api_base": f"http://{settings.backend}/v1",
        "api_key": "sk-overhead",
        "max_retries": 0,
    }
    config = {
        "model_list": [{"model_name": mock.MODEL, "litellm_params": engine}],
        "litellm_settings": {"num_retries": 0, "telemetry": False},
        "router_settings": {"num_retries": 0, "disable_cooldowns": True},
    }
    path.write_text(json.dumps(config))  # JSON is YAML
    return (
        program,
        *("--host", "127.0.0.1", "--port", str(settings.port), "--config", str(path)),
        *("--num_workers", str(settings.threads), "--telemetry", "False"),
    )


def gateway_config(settings: ProxySettings, more: Mapping[str, Any] | None = None) -> str:
    """One pool with one backend, and promises too loose to refuse anything. more: sections of
    `front_door`."""
    profile = settings.folder / "profile.yaml"
    profile.write_text(
        "format: cuvee-profile/1\norigin: analytic\ngpu: H100\nmodel: Llama-3-8B\n"
        "engine: vllm-v1\nmax_num_seqs: 1000000\nkv_tokens: 10000000000\n"
    )
    workers = {"workers": settings.threads} if settings.threads > 1 else {}
    more = {"gateway": {}} if more is None else more
    config = {
        "models": {mock.MODEL: {"slo": {"ttft_s": 600.0, "tpot_s": 10.0, "attainment": 0.99}}},
        "pools": {
            "bench": {
                "model": mock.MODEL,
                "profile": str(profile),
                "usd_per_hour": 1.0,
                "backends": [f"http://{settings.backend}"],
            }
        },
        "gateway": {
            "host": "127.0.0.1",
            "port": settings.port,
            "admin_port": settings.spare_port,
            "drain_delay_s": 0.0,
            **workers,
            **more["gateway"],
        },
    }
    return msgspec.yaml.encode({**more, **config}).decode()


def gateway_argv(settings: ProxySettings, more: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """The arguments of `cuvee`; writes its configuration file. more: as in `gateway_config`."""
    path = settings.folder / "cuvee.yaml"
    path.write_text(gateway_config(settings, more))
    return "serve", "--config", str(path)


LITELLM_ENV = {
    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",  # checking one is no cheaper
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it fetches a price list at its start
    "LITELLM_LOG": "ERROR",
    "LITELLM_MODE": "PRODUCTION",
}
PEERS = (
    Peer(name="haproxy", program="haproxy", argv=_haproxy, version=("-v",)),
    Peer(name="nginx", program="nginx", argv=_nginx, version=("-v",)),
    Peer(name="vllm-router", program="vllm-router", argv=_rust_router, version="vllm-router"),
    Peer(name="sglang-router", program="sglang-router", argv=_sglang, version="sglang-router"),
    Peer(  # its program is called vllm-router as well, so it is found by a given path alone
        name="production-stack", program=None, argv=_production_stack, version="vllm-router"
    ),
    Peer(
        name="litellm",
        program="litellm",
        argv=_litellm,
        version="litellm",
        env=LITELLM_ENV,
        rebuilds=True,
    ),
)
NAMES = tuple(peer.name for peer in PEERS)
