"""What every process of a gateway shares: whether its data path is compiled, the settings of the
garbage collector and of the allocator, the limit of open files, and what a taken port is called.

Knows the names of the extension modules that setup.py makes, and nothing of what is in them.
"""

import ctypes
import gc
import os
import platform
import resource
import signal
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from multiprocessing import resource_tracker
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("gateway", "planner")
MODULE = "gateway.proxy.exchange"  # stands for all: setup.py compiles every module or none
SUFFIX = EXTENSION_SUFFIXES[0]
LIBRARY = f"cuvee__mypyc{SUFFIX}"  # has all compiled code; the files beside the sources load it

RESERVED_FILES = 128  # open files that are not for requests
UNLIMITED = 1 << 30  # where the system has no limit

# Thresholds of the three generations (allocations, then collections of the younger one). Requests
# free their objects by reference counting; only a few errors leave cycles for the collector.
YOUNG, MIDDLE, OLD = 20_000, 20, 50

# From <malloc.h> of glibc. Blocks from the first size on are mapped by themselves, and a freed one
# goes back to the system at once: of a body of 400 KB, read, joined and sent, the page faults took
# half of the CPU time. So bodies below it come from the heap, of which the free end goes back when
# it is larger than the second size. glibc itself raises both, to 32 and 64 MiB, as large blocks are
# freed: the heap then keeps their memory as long as anything behind them is in use.
MMAP_THRESHOLD, MAPPED_BYTES = -3, 1 << 20
TRIM_THRESHOLD, FREE_BYTES = -1, 1 << 23


def return_large_blocks() -> bool:
    """Have the memory of large bodies given back to the system when they end; return whether it
    will be, which only glibc can be told."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(MMAP_THRESHOLD, MAPPED_BYTES) and mallopt(TRIM_THRESHOLD, FREE_BYTES))


def return_free_memory() -> bool:
    """Give all free memory back to the system now, also between what is in use; return whether any
    was. Takes 0.1 ms for each MiB."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return False
    return bool(trim(0))


def raise_file_limit() -> int:
    """Raise the soft limit of open files to the hard one, as Go's runtime does; return it.

    The soft limit of shells and of systemd, 1,024, is there for programs that use select(2).
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def forbid_core_dumps() -> None:
    """Have this process, and those that it starts, leave no core dump.

    Not by prctl(PR_SET_DUMPABLE): the files of /proc/PID then belong to root, and profilers and
    the gateway's own count of open files could not read them.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def hold_standard_files() -> None:
    """Open the null device in place of standard input, output and error if they are closed: the
    first sockets would get their numbers, and what is written to standard error would be sent."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # Takes the lowest free number; child processes need it as much.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def hard_files() -> int:
    """What `raise_file_limit` raises the limit of open files to."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return UNLIMITED if hard < 0 else hard


def open_files() -> int:
    """The soft limit of open files; negative if there is none."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def most_clients(open_files: int) -> int:
    """How many client connections a limit of open files leaves room for; negative: no limit.

    Each request needs a second connection, to its backend; the reserve is for the admin port, the
    probes, the log and the other processes. Where there are very few, it is half of them.
    """
    if open_files < 0:
        return UNLIMITED
    return max(1, (open_files - min(RESERVED_FILES, open_files // 2)) // 2)


@contextmanager
def without_hangup() -> Iterator[None]:
    """Processes that start while the context is open never get SIGHUP, nor do theirs: a terminal
    sends it to the whole group, and of the gateway only the first process knows what it means."""
    with without_signals(signal.SIGHUP):
        yield


@contextmanager
def without_signals(*numbers: signal.Signals) -> Iterator[None]:
    """Processes that start while the context is open never get these, nor do theirs. Without
    SIGINT, Ctrl-C reaches the process that started them alone, which ends them."""
    if signal.SIGINT in numbers:
        # Started inside, as the first process of multiprocessing does, it would unblock SIGINT.
        resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def naming(key: str, host: str, port: int) -> Iterator[None]:
    """While the context is open, an OSError of listening names the key that sets the port."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # one of ours, which says what is wrong
            raise
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        # asyncio puts the address before the reason.
        reason = (error.strerror or str(error)).rpartition("): ")[2]
        raise OSError(f"{key}: cannot listen on {where}: {reason}") from error


def settle() -> None:
    """Take all present objects out of the garbage collector's rounds; called after the start."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)


def compiled() -> bool:
    """Whether the data path is imported from extension modules."""
    spec = find_spec(MODULE)
    return spec is not None and not str(spec.origin).endswith(tuple(SOURCE_SUFFIXES))


def data_path() -> str:
    """`compiled` or `interpreted`, for the log."""
    return "compiled" if compiled() else "interpreted"


def stale(root: Path = ROOT) -> tuple[Path, ...]:
    """Sources that were edited or removed after they were compiled, relative to root.

    Empty for an installed package, whose file times are those of the installation.
    """
    library = root / LIBRARY
    if not (root / "pyproject.toml").is_file():
        return ()
    compiled_at_s = library.stat().st_mtime if library.exists() else 0.0
    sources = (
        path.with_name(path.name.removesuffix(SUFFIX) + ".py")
        for package in PACKAGES
        for path in sorted((root / package).rglob(f"*{SUFFIX}"))
    )
    return tuple(
        source.relative_to(root)
        for source in sources
        if not source.exists() or source.stat().st_mtime > compiled_at_s
    )


def stale_warnings() -> tuple[str, ...]:
    """A warning for the log for each source that was changed after it was compiled."""
    return tuple(
        f"{path} was changed after it was compiled, and runs as it was: `make compiled` compiles "
        "it again, `make interpreted` removes what is compiled"
        for path in stale()
    )


def optimised(
    arguments: str | None = sysconfig.get_config_var("CONFIG_ARGS"),
    prefix: str = sys.base_prefix,
) -> bool | None:
    """Whether this Python was built with --enable-optimizations; `None` where that is unknown.

    A build without it, such as pyenv's default, uses up to a third more CPU. Distributions optimise
    their builds by other means, which the configure arguments do not show.
    """
    if arguments is not None and "--enable-optimizations" in arguments:
        return True
    return None if arguments is None or prefix == "/usr" else False


def build() -> dict[str, str]:
    """What this process runs: the version of Cuvée, that of Python, and the data path."""
    try:
        package = version("cuvee")
    except PackageNotFoundError:  # run from its sources
        package = "unknown"
    return {"version": package, "python": platform.python_version(), "data_path": data_path()}


def runtime() -> str:
    """The data path and the Python build in one line: every benchmark prints it."""
    built = {True: ", --enable-optimizations", False: ", no --enable-optimizations", None: ""}
    return f"{data_path()} data path, Python {platform.python_version()}{built[optimised()]}"
