"""The proxies that the gateway is compared with: where each is, and how it is started at its best.

At its best: no access log, no retries, breakers or probes that could cost and can be switched off,
round robin, one thread or process per core given to it, and room for every stream.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from loadtest.overhead import mock

PATHS_VARIABLE = "CUVEE_PEERS"  # NAME=PATH, separated by spaces
MOST_REQUESTS = 1_000_000_000  # on one connection
VERSION_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a proxy listens, where its backend is (host:port), and what it may use.

    folder: for its files. spare_port: for metrics. files: that it may open. threads: or processes.
    """

    port: int
    backend: str
    spare_port: int
    folder: Path
    files: int
    threads: int

    @property
    def clients(self) -> int:
        """Connections that there are files for, one on either side."""
        return (self.files - 100) // 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One proxy. argv: its command line, given its program; writes its configuration.

    program: on the PATH, `None` where a path must be given. version: arguments that print it, or
    for a Python program the distribution's name. env: on top of ours. rebuilds: whether it makes
    replies and chunks anew, so that their number of bytes and events is its own.
    """

    name: str
    program: str | None
    argv: Callable[[str, Place], tuple[str, ...]]
    version: tuple[str, ...] | str
    env: Mapping[str, str] = field(default_factory=dict)
    rebuilds: bool = False


def find(peer: Peer, given: Mapping[str, Path]) -> str | None:
    """Where a peer's program is; Debian keeps HAProxy and nginx off a user's PATH."""
    if peer.name in given:
        return str(given[peer.name])
    if peer.program is None:
        return None
    return shutil.which(peer.program, path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def version(peer: Peer, program: str) -> str:
    """What it says of itself; empty if nothing."""
    argv: tuple[str, ...]
    if isinstance(peer.version, str):
        python = Path(program).parent / "python"  # of the environment it was installed into
        code = f"from importlib.metadata import version as v; print(v({peer.version!r}))"
        argv = (str(python if python.exists() else sys.executable), "-c", code)
    else:
        argv = (program, *peer.version)
    try:
        said = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=VERSION_S)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = (said.stdout or said.stderr).strip().splitlines()
    return lines[0] if lines and not said.returncode else ""


def haproxy_config(place: Place) -> str:
    """Kept-alive connections on both sides, no logging.

    Without `http-no-delay` HAProxy holds a stream's first chunks back for up to 200 ms and sends
    several at once: cheap, but not what a stream is for.
    """
    return f"""\
global
    nbthread {place.threads}
    maxconn {place.clients}
defaults
    mode http
    option http-keep-alive
    option http-no-delay
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    http-reuse always
frontend clients
    bind 127.0.0.1:{place.port} backlog 4096
    default_backend engines
backend engines
    server mock {place.backend}
"""


def nginx_config(place: Place) -> str:
    """Kept-alive connections on both sides, bodies in memory, replies passed on as they come."""
    folder = place.folder
    temporary = "".join(
        f"    {kind}_temp_path {folder}/nginx;\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""\
daemon off;
worker_processes {place.threads};
pid {folder}/nginx.pid;
events {{ worker_connections {place.files - 100}; }}
http {{
{temporary}\
    access_log off;
    keepalive_requests {MOST_REQUESTS};
    client_body_buffer_size 512k;
    client_max_body_size 0;
    upstream engines {{
        server {place.backend};
        keepalive {place.clients};
        keepalive_requests {MOST_REQUESTS};
    }}
    server {{
        listen 127.0.0.1:{place.port} backlog=4096;
        location / {{
            proxy_pass http://engines;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"""


def _haproxy(program: str, place: Place) -> tuple[str, ...]:
    path = place.folder / "haproxy.cfg"
    path.write_text(haproxy_config(place))
    return program, "-db", "-q", "-f", str(path)


def _nginx(program: str, place: Place) -> tuple[str, ...]:
    path = place.folder / "nginx.conf"
    path.write_text(nginx_config(place))
    return program, "-p", str(place.folder), "-e", "stderr", "-c", str(path)


def _rust(program: str, place: Place) -> tuple[str, ...]:
    """Both Rust routers; their default policy, cache_aware, costs far more."""
    return (
        program,
        *("--host", "127.0.0.1", "--port", str(place.port)),
        *("--worker-urls", f"http://{place.backend}"),
        *("--policy", "round_robin", "--log-level", "error"),
        *("--max-concurrent-requests", str(place.clients), "--queue-size", "0"),
        *("--disable-retries", "--disable-circuit-breaker"),
        *("--prometheus-port", str(place.spare_port)),
    )


def _sglang(program: str, place: Place) -> tuple[str, ...]:
    _, *options = _rust(program, place)
    return program, "launch", *options


def _production_stack(program: str, place: Place) -> tuple[str, ...]:
    return (
        program,
        *("--host", "127.0.0.1", "--port", str(place.port), "--service-discovery", "static"),
        *("--static-backends", f"http://{place.backend}"),
        *("--static-models", mock.MODEL, "--routing-logic", "roundrobin"),
        *("--log-level", "error"),  # its default logs each request
    )


def _litellm(program: str, place: Place) -> tuple[str, ...]:
    path = place.folder / "litellm.yaml"
    engine = {
        "model": f"openai/{mock.MODEL}",
        "api_base": f"http://{place.backend}/v1",
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
        *("--host", "127.0.0.1", "--port", str(place.port), "--config", str(path)),
        *("--num_workers", str(place.threads), "--telemetry", "False"),
    )


def gateway_config(place: Place) -> str:
    """One pool with one backend, and promises too loose to refuse anything."""
    profile = place.folder / "profile.yaml"
    profile.write_text(
        "format: cuvee-profile/1\norigin: analytic\ngpu: H100\nmodel: Llama-3-8B\n"
        "engine: vllm-v1\nmax_num_seqs: 4096\n"
    )
    workers = {"workers": place.threads} if place.threads > 1 else {}
    config = {
        "models": {mock.MODEL: {"slo": {"ttft_s": 60.0, "tpot_s": 5.0, "attainment": 0.99}}},
        "pools": {
            "bench": {
                "model": mock.MODEL,
                "profile": str(profile),
                "usd_per_hour": 1.0,
                "backends": [f"http://{place.backend}"],
            }
        },
        "gateway": {
            "host": "127.0.0.1",
            "port": place.port,
            "max_load": 1000.0,
            "drain_delay_s": 0.0,
            **workers,
        },
    }
    return msgspec.yaml.encode(config).decode()


def gateway_argv(place: Place) -> tuple[str, ...]:
    """The arguments of `cuvee`."""
    path = place.folder / "cuvee.yaml"
    path.write_text(gateway_config(place))
    return "serve", "--config", str(path)


LITELLM = {
    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",  # checking one is no cheaper
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # nothing is fetched
    "LITELLM_LOG": "ERROR",
    "LITELLM_MODE": "PRODUCTION",
}
PEERS = (
    Peer(name="haproxy", program="haproxy", argv=_haproxy, version=("-v",)),
    Peer(name="nginx", program="nginx", argv=_nginx, version=("-v",)),
    Peer(name="vllm-router", program="vllm-router", argv=_rust, version="vllm-router"),
    Peer(name="sglang-router", program="sglang-router", argv=_sglang, version="sglang-router"),
    Peer(  # its program has the name of another peer's
        name="production-stack", program=None, argv=_production_stack, version="vllm-router"
    ),
    Peer(
        name="litellm",
        program="litellm",
        argv=_litellm,
        version="litellm",
        env=LITELLM,
        rebuilds=True,
    ),
)
NAMES = tuple(peer.name for peer in PEERS)
