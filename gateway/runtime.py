"""What runs the data path: C that was made from it, or Python; and the garbage collector beside it.

Knows the extension modules beside the sources, and nothing of what is in them. setup.py makes them.
"""

import gc
import platform
import sys
import sysconfig
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("gateway", "planner")
MODULE = "gateway.proxy.exchange"  # all are compiled, or none
SUFFIX = EXTENSION_SUFFIXES[0]
LIBRARY = f"cuvee__mypyc{SUFFIX}"  # all the code; the files beside the sources only point to it

# Allocations, then rounds, between two collections of each generation. Requests free what they hold
# by themselves; the collector is there for the few cycles that errors leave.
YOUNG, MIDDLE, OLD = 20_000, 20, 50


def settle() -> None:
    """Keeps the collector from looking through what lives for good; called once all is built."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)


def compiled() -> bool:
    """Whether the data path is imported from extension modules."""
    spec = find_spec(MODULE)
    return spec is not None and not str(spec.origin).endswith(tuple(SOURCE_SUFFIXES))


def data_path() -> str:
    """The same in a word."""
    return "compiled" if compiled() else "interpreted"


def stale(root: Path = ROOT) -> tuple[Path, ...]:
    """Sources that were edited or removed after they were compiled, relative to root.

    Of a checkout only: in an installed package file times are those of the installation.
    """
    library = root / LIBRARY
    if not (root / "pyproject.toml").is_file():
        return ()
    made_s = library.stat().st_mtime if library.exists() else 0.0
    sources = (
        path.with_name(path.name.removesuffix(SUFFIX) + ".py")
        for package in PACKAGES
        for path in sorted((root / package).rglob(f"*{SUFFIX}"))
    )
    return tuple(
        source.relative_to(root)
        for source in sources
        if not source.exists() or source.stat().st_mtime > made_s
    )


def complaints() -> tuple[str, ...]:
    """What to tell whoever runs something stale: a line per file."""
    return tuple(
        f"{path} was changed after it was compiled, and runs as it was: `make compiled` compiles "
        "it again, `make interpreted` removes what is compiled"
        for path in stale()
    )


def optimised(
    arguments: str | None = sysconfig.get_config_var("CONFIG_ARGS"),
    prefix: str = sys.base_prefix,
) -> bool | None:
    """Whether this Python was built with --enable-optimizations; `None` where it does not say.

    A plain build, such as pyenv makes, uses up to a third more CPU. Distributions optimise theirs
    in ways of their own, which their arguments do not show.
    """
    if arguments is not None and "--enable-optimizations" in arguments:
        return True
    return None if arguments is None or prefix == "/usr" else False


def runtime() -> str:
    """Everything in a line: figures without it are worth nothing."""
    how = {True: ", --enable-optimizations", False: ", no --enable-optimizations", None: ""}
    return f"{data_path()} data path, Python {platform.python_version()}{how[optimised()]}"
