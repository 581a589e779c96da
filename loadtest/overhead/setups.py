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
from loadtest.overhead import mock, peers
from loadtest.overhead.measure import DIRECT
from loadtest.overhead.peers import Peer, Place
from loadtest.process import Cores

GATEWAY = "cuvee"
ROOT = (
    Path(__file__).resolve().parent.parent.parent
)  # where `-m cuvee` and `-m loadtest…` are found
READY_S = 60.0
PROBE_S = 0.1
SETTLE_S = 1.0  # from the first answer to the reading of idle memory
LOG_CHARS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Something that answers on a port. pid: of the proxy whose CPU counts, `None` for none.

    idle_mib: memory before any load. version: what it says of itself. rebuilds: see `Peer`.
    """

    name: str
    port: int
    pid: int | None
    idle_mib: float | None = None
    version: str = ""
    rebuilds: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What every set-up is given. folder: for configurations and logs. files: to open."""

    folder: Path
    cores: Cores
    backend_port: int
    files: int

    def place(self, name: str) -> Place:
        """Of the next set-up, with an address of the backend for itself."""
        used = sum(path.is_dir() for path in self.folder.iterdir())
        folder = self.folder / name
        folder.mkdir()
        return Place(
            port=process.free_port(),
            backend=f"{mock.HOSTS[1 + used]}:{self.backend_port}",
            spare_port=process.free_port(),
            folder=folder,
            files=self.files,
            threads=len(self.cores.proxy),
        )


class NotReady(Exception):
    """A process that did not come to answer; the message holds the end of its output."""


def backend(stack: ExitStack, folder: Path, cores: Cores) -> Bench:
    """Starts a mock backend on each of its cores, all on one port. Raises NotReady."""
    files, port = (
        process.raise_file_limit(),
        process.free_port(),
    )  # first: children inherit the limit
    argv = (sys.executable, "-m", "loadtest.overhead.mock", "--port", str(port))
    for core in cores.backend:
        stack.enter_context(answering(f"mock-{core}", argv, port, (core,), folder))
    return Bench(folder=folder, cores=cores, backend_port=port, files=files)


def start(
    stack: ExitStack, bench: Bench, wanted: Sequence[str] | None, given: Mapping[str, Path]
) -> tuple[tuple[Setup, ...], dict[str, str]]:
    """Starts the gateway and every wanted peer; what is left out, with the reason.

    wanted: names of peers, `None` for all that are there. given: where peers are. Raises NotReady
    if the gateway does not start.
    """
    setups, skipped = [Setup(name=DIRECT, port=bench.backend_port, pid=None)], {}
    for peer in peers.PEERS:
        program = peers.find(peer, given)
        if wanted is not None and peer.name not in wanted:
            continue
        if program is None:
            skipped[peer.name] = "not installed" if peer.program else "needs --peer-path"
            continue
        try:
            setups.append(_peer(stack, bench, peer, program))
        except (NotReady, OSError) as error:
            skipped[peer.name] = str(error)
    setups.append(gateway(stack, bench, GATEWAY, (sys.executable, "-m", "cuvee")))
    return tuple(setups), skipped


def gateway(stack: ExitStack, bench: Bench, name: str, command: Sequence[str]) -> Setup:
    """Starts the gateway by a command that takes the arguments of `cuvee`. Raises NotReady."""
    place = bench.place(name)
    argv = (*command, *peers.gateway_argv(place))
    return replace(_started(stack, bench, name, argv, place), version=runtime.runtime())


def _peer(stack: ExitStack, bench: Bench, peer: Peer, program: str) -> Setup:
    place = bench.place(peer.name)
    argv = peer.argv(program, place)
    setup = _started(stack, bench, peer.name, argv, place, env=peer.env)
    return replace(setup, version=peers.version(peer, program), rebuilds=peer.rebuilds)


def _started(
    stack: ExitStack,
    bench: Bench,
    name: str,
    argv: Sequence[str],
    place: Place,
    *,
    env: Mapping[str, str] | None = None,
) -> Setup:
    cores = bench.cores.proxy
    child = stack.enter_context(answering(name, argv, place.port, cores, place.folder, env=env))
    time.sleep(SETTLE_S)
    idle_mib = process.memory_mib(child.pid)
    return Setup(name=name, port=place.port, pid=child.pid, idle_mib=idle_mib)


@contextmanager
def answering(
    name: str,
    argv: Sequence[str],
    port: int,
    cores: Sequence[int],
    folder: Path,
    *,
    env: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """A child that answers a chat request with 200 by the time it is handed out."""
    path = folder / f"{name}.log"
    with (
        path.open("wb") as log,
        process.child_process(argv, cores, log=log, cwd=ROOT, env=env) as child,
    ):
        until_s = time.monotonic() + READY_S
        while not _answers(port):
            if child.poll() is not None or time.monotonic() > until_s:
                tail = path.read_text(errors="replace")[-LOG_CHARS:]
                raise NotReady(f"{name} does not answer on port {port}:\n{tail}")
            time.sleep(PROBE_S)
        yield child


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=READY_S / 6)
    body = {"model": mock.MODEL, "messages": [{"role": "user", "content": "hello"}]}
    try:
        headers = {"content-type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
