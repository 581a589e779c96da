"""The import layers of ARCHITECTURE.md, read from the source."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(
    path.relative_to(ROOT)
    for package in ("planner", "gateway", "loadtest")
    for path in (ROOT / package).rglob("*.py")
)
# A module may import from its own layer and from those to the left of it.
LAYERS = {
    "planner": {"planner"},
    "gateway.routing": {"planner", "gateway.routing", "gateway.errors"},
    "gateway.proxy": {
        "planner",
        "gateway.routing",
        "gateway.proxy",
        "gateway.errors",
        "gateway.sections",
        "gateway.telemetry",
    },
    "gateway.control": {"planner", "gateway.routing", "gateway.control", "gateway.telemetry"},
    "gateway.telemetry": {"planner", "gateway.routing", "gateway.telemetry"},
    "gateway.errors": {"gateway.errors"},
    "gateway.sections": {"gateway.sections"},
    "gateway": {"planner", "gateway"},
    "loadtest": {"planner", "gateway", "loadtest"},
}
PURE = {"asyncio", "aiohttp", "time", "random", "socket", "uvloop", "prometheus_client"}


def imports(path: Path) -> list[tuple[str, bool]]:
    """The modules a file imports, each with whether the import stands inside a function."""
    tree = ast.parse((ROOT / path).read_text())
    inner = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in inner) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.append((node.module or "", id(node) in inner))
    return found


def layer(module: str) -> str:
    """The most specific layer that a module name belongs to."""
    names = [name for name in LAYERS if module == name or module.startswith(name + ".")]
    return max(names, key=len)


def own(module: str) -> bool:
    return module.split(".")[0] in {"planner", "gateway", "loadtest"}


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_never_point_upwards(path: Path):
    """planner <- gateway <- loadtest, and inside gateway the routing core knows nobody above it."""
    module = ".".join(path.with_suffix("").parts)

    upward = [
        name
        for name, _ in imports(path)
        if own(name)
        and not any(name == ok or name.startswith(ok + ".") for ok in LAYERS[layer(module)])
    ]

    assert upward == []


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_import_hides_inside_a_function(path: Path):
    """A lazy import is a wrong boundary: only the optional extras may be imported late."""
    extras = {"matplotlib"}

    lazy = [name for name, inner in imports(path) if inner and name.split(".")[0] not in extras]

    assert lazy == []


@pytest.mark.parametrize(
    "path", [p for p in FILES if p.parts[0] == "planner" or p.parts[:2] == ("gateway", "routing")]
)
def test_the_core_reads_no_clock_and_does_no_io(path: Path):
    """Time and chance are arguments of planner and routing, so that both can be simulated."""
    allowed = {"time"} if path == Path("planner/solve.py") else set()  # it reports how long it took

    impure = {name.split(".")[0] for name, _ in imports(path)} & PURE

    assert impure - allowed == set()


def test_only_solve_imports_pulp():
    """Everything but the solver, and the formulations it is compared with, knows no solver."""
    users = [path for path in FILES if any(n.split(".")[0] == "pulp" for n, _ in imports(path))]

    assert users == [Path("planner/baselines.py"), Path("planner/solve.py")]


def test_the_layer_table_names_every_package():
    """A new package without a layer fails here instead of escaping the rules."""
    assert sys.version_info >= (3, 11)
    assert {layer(".".join(path.with_suffix("").parts)) for path in FILES} <= set(LAYERS)
