"""The set-ups that the overhead benchmark compares: started, pinned and known to answer.

Knows the gateway by its command line and its configuration file, and whether it is compiled.
"""

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from gateway import runtime
from loadtest import process
from loadtest.overhead import front_door, generator, mock, peers, scenarios
from loadtest.overhead.peers import Peer, ProxySettings
from loadtest.overhead.results import DIRECT
from loadtest.process import Cores

GATEWAY = "cuvee"
COMMAND = (sys.executable, "-m", "cuvee")
ROOT = Path(__file__).resolve().parents[2]  # where `-m cuvee` and `-m loadtest…` are found
READY_S = 60.0
PROBE_S = 0.1
SETTLE_S = 1.0  # from the first answer to the reading of idle memory
LOG_CHARS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Something that answers on a port: a proxy, or the backend itself as `direct`.

    pid: of the proxy whose CPU counts, `None` for the backend. idle_mib: memory before any load.
    version: what the program says of itself. rebuilds: as in `Peer`. tls: whether the port speaks
    it.
    """

    name: str
    port: int
    pid: int | None
    idle_mib: float | None = None
    version: str = ""
    rebuilds: bool = False
    tls: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchEnvironment:
    """What all set-ups share. folder: for configurations and logs. open_files: the limit."""

    folder: Path
    cores: Cores
    backend_port: int
    open_files: int

    def settings_for(self, name: str) -> ProxySettings:
        """Settings of the next set-up, with a folder and a backend address for itself."""
        used = sum(path.is_dir() for path in self.folder.iterdir())
        folder = self.folder / name
        folder.mkdir()
        return ProxySettings(
            port=process.free_port(),
            backend=f"{mock.HOSTS[1 + used]}:{self.backend_port}",
            spare_port=process.free_port(),
            folder=folder,
            open_files=self.open_files,
            threads=len(self.cores.proxy),
        )


class NotReady(Exception):
    """A process did not come to answer; the message holds the end of its output."""


def start_environment(stack: ExitStack, folder: Path, cores: Cores) -> BenchEnvironment:
    """Start a mock backend on each backend core, all on one port. Raises NotReady."""
    open_files = runtime.raise_file_limit()  # first, because children inherit the limit
    port = process.free_port()
    argv = (sys.executable, "-m", "loadtest.overhead.mock", "--port", str(port))
    for core in cores.backend:
        stack.enter_context(answering_process(f"mock-{core}", argv, port, (core,), folder))
    return BenchEnvironment(folder=folder, cores=cores, backend_port=port, open_files=open_files)


def start_setups(
    stack: ExitStack,
    bench: BenchEnvironment,
    names: Sequence[str] | None,
    paths: Mapping[str, Path],
    parts: tuple[str, ...] = (),
) -> tuple[tuple[Setup, ...], dict[str, str]]:
    """Start the gateway and every wanted peer. Return set-ups, and why others were left out.

    names: of the wanted peers, `None` for all that are installed. paths: where peers are, by name.
    parts: of `front_door`, each turned on in a further gateway. Raises NotReady if the gateway does
    not start.
    """
    setups, skipped = [Setup(name=DIRECT, port=bench.backend_port, pid=None)], {}
    for peer in peers.PEERS:
        program = peers.find_program(peer, paths)
        if names is not None and peer.name not in names:
            continue
        if program is None:
            skipped[peer.name] = "not installed" if peer.program else "needs --peer-path"
            continue
        try:
            setups.append(_start_peer(stack, bench, peer, program))
        except (NotReady, OSError) as error:
            skipped[peer.name] = str(error)
    setups.append(start_gateway(stack, bench, GATEWAY, COMMAND))
    collector = _start_collector(stack, bench) if front_door.needs_collector(parts) else ""
    for part in parts:
        name = f"{GATEWAY}-{part}"
        setups.append(start_gateway(stack, bench, name, COMMAND, part, collector))
    return tuple(setups), skipped


def start_gateway(
    stack: ExitStack,
    bench: BenchEnvironment,
    name: str,
    command: Sequence[str],
    part: str | None = None,
    collector: str = "",
) -> Setup:
    """Start the gateway. command: takes the arguments of `cuvee`. part, collector: as in
    `front_door.sections`. Raises NotReady."""
    settings = bench.settings_for(name)
    try:
        more = None if part is None else front_door.sections(part, settings.folder, collector)
    except (OSError, subprocess.CalledProcessError) as error:
        raise NotReady(f"{name} has no certificate: {error}") from None
    argv = (*command, *peers.gateway_argv(settings, more))
    setup = _start(stack, bench, name, argv, settings, tls=part == front_door.TLS)
    return replace(setup, version=runtime.runtime())


def _start_collector(stack: ExitStack, bench: BenchEnvironment) -> str:
    """The URL of a new one, which shares a core with the backend: it has little to do."""
    port = process.free_port()
    argv = (sys.executable, "-m", "loadtest.overhead.front_door", "--port", str(port))
    log = stack.enter_context((bench.folder / "collector.log").open("wb"))
    stack.enter_context(process.child_process(argv, bench.cores.backend, log=log, cwd=ROOT))
    return f"http://127.0.0.1:{port}"


def _start_peer(stack: ExitStack, bench: BenchEnvironment, peer: Peer, program: str) -> Setup:
    settings = bench.settings_for(peer.name)
    argv = peer.argv(program, settings)
    setup = _start(stack, bench, peer.name, argv, settings, env=peer.env)
    return replace(setup, version=peers.program_version(peer, program), rebuilds=peer.rebuilds)


def _start(
    stack: ExitStack,
    bench: BenchEnvironment,
    name: str,
    argv: Sequence[str],
    settings: ProxySettings,
    *,
    env: Mapping[str, str] | None = None,
    tls: bool = False,
) -> Setup:
    cores, folder = bench.cores.proxy, settings.folder
    child = stack.enter_context(
        answering_process(name, argv, settings.port, cores, folder, env=env, tls=tls)
    )
    time.sleep(SETTLE_S)
    idle_mib = process.memory_mib(child.pid)
    return Setup(name=name, port=settings.port, pid=child.pid, idle_mib=idle_mib, tls=tls)


@contextmanager
def answering_process(
    name: str,
    argv: Sequence[str],
    port: int,
    cores: Sequence[int],
    folder: Path,
    *,
    env: Mapping[str, str] | None = None,
    tls: bool = False,
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a child, and yield it when it has answered a chat request with 200. Raises NotReady."""
    path = folder / f"{name}.log"
    with (
        path.open("wb") as log,
        process.child_process(argv, cores, log=log, cwd=ROOT, env=env) as child,
    ):
        give_up_s = time.monotonic() + READY_S
        while not _answers(port, tls):
            if child.poll() is not None or time.monotonic() > give_up_s:
                tail = path.read_text(errors="replace")[-LOG_CHARS:]
                raise NotReady(f"{name} does not answer on port {port}:\n{tail}")
            time.sleep(PROBE_S)
        yield child


def _answers(port: int, tls: bool) -> bool:
    """Whether a chat request gets a 200: the way to the backend works, not only the port."""
    timeout_s = READY_S / 6
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    if tls:
        context = generator.trusting()
        connection = http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=timeout_s, context=context
        )
    body = {"model": mock.MODEL, "messages": [{"role": "user", "content": "hello"}]}
    try:
        key = f"Bearer {scenarios.KEY}"
        headers = {"authorization": key, "content-type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
