"""The import layers of ARCHITECTURE.md, read from the source: one row for every folder."""

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("planner", "gateway", "loadtest", "cuvee")
FILES = sorted(
    path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py")
)
MODULES = {".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in FILES}
# A room is a folder, without the folders in it, or a file that stands above or below its folder. A
# module may import from its own room and from the rooms of its row.
LAYERS = {
    "planner": "",
    "planner.engine": "planner",
    "planner.model": "planner planner.engine",
    "planner.traffic": "planner planner.model",
    "planner.program": "planner planner.engine planner.model",
    "planner.proof": "planner planner.engine planner.model planner.traffic",
    "planner.scaling": "planner",
    "planner.costs": "planner planner.engine planner.model planner.traffic planner.program",
    "gateway": "",
    "gateway.errors": "",
    "gateway.runtime": "",
    "gateway.logs": "",
    "gateway.processes": "gateway.telemetry",
    "gateway.service_manager": "",
    "gateway.successor": "",
    "gateway.access": "gateway.errors",
    "gateway.routing": "planner planner.model gateway.errors",
    "gateway.telemetry": "planner planner.model planner.traffic gateway.routing",
    "gateway.config": "PLANNER gateway.errors",
    "gateway.proxy.http": "gateway.errors",
    "gateway.proxy": "planner.model gateway.errors gateway.access gateway.config gateway.routing "
    "gateway.proxy.http",
    "gateway.cluster": "planner planner.model planner.traffic gateway.access gateway.config "
    "gateway.routing gateway.telemetry",
    "gateway.control.solver": "PLANNER gateway.runtime",
    "gateway.control": "PLANNER gateway.config gateway.proxy gateway.routing gateway.telemetry "
    "gateway.control.solver",
    "gateway.rehearsal": "PLANNER gateway.errors gateway.access gateway.config gateway.explanation "
    "gateway.overview gateway.routing",
    "gateway.workers": "planner.model planner.traffic gateway.access gateway.errors "
    "gateway.runtime gateway.logs gateway.cluster gateway.config gateway.otel gateway.routing "
    "gateway.telemetry gateway.proxy gateway.proxy.http",
    "gateway.kv_events": "gateway.config gateway.routing gateway.telemetry gateway.workers",
    "gateway.plannable": "planner.model gateway.config",
    "gateway.bill": "planner.program planner.scaling gateway.config gateway.routing",
    "gateway.planning": "PLANNER gateway.config gateway.control gateway.control.solver "
    "gateway.bill gateway.plannable gateway.rehearsal gateway.routing gateway.telemetry",
    "gateway.announcement": "planner.model gateway.actuation gateway.alliance gateway.insight "
    "gateway.journal gateway.solitary gateway.telemetry",
    "gateway.alliance": "planner planner.model gateway.cluster gateway.config gateway.planning "
    "gateway.routing gateway.telemetry gateway.workers",
    "gateway.solitary": "planner.model gateway.alliance gateway.cluster gateway.config "
    "gateway.planning "
    "gateway.routing gateway.telemetry gateway.workers",
    "gateway.line_file": "",
    "gateway.trace_file": "planner.traffic gateway.config gateway.line_file",
    "gateway.journal": "planner.model gateway.config gateway.line_file gateway.telemetry",
    "gateway.otel": "gateway.config gateway.plain_http gateway.routing gateway.runtime "
    "gateway.telemetry",
    "gateway.key_desk": "gateway.access gateway.cluster gateway.config gateway.journal "
    "gateway.telemetry",
    "gateway.counting": "gateway.config gateway.control gateway.journal gateway.key_desk "
    "gateway.logs gateway.otel "
    "gateway.planning "
    "gateway.processes gateway.routing gateway.telemetry gateway.trace_file gateway.workers",
    "gateway.rollout": "gateway.control gateway.proxy gateway.routing gateway.workers",
    "gateway.adoption": "planner planner.model gateway.config gateway.counting gateway.planning "
    "gateway.proxy gateway.rollout gateway.routing gateway.workers",
    "gateway.reload": "PLANNER gateway.errors gateway.config gateway.telemetry",
    "gateway.preflight": "PLANNER gateway.errors gateway.config gateway.routing gateway.proxy "
    "gateway.proxy.http",
    "gateway.inspection": "PLANNER gateway.errors gateway.runtime gateway.cluster gateway.config "
    "gateway.discovery gateway.discovery.kubernetes gateway.plain_http gateway.preflight "
    "gateway.proxy.http",
    "gateway.discovery": "planner planner.model gateway.errors gateway.config "
    "gateway.discovery.kubernetes gateway.discovery.source gateway.telemetry",
    "gateway.discovery.source": "",
    "gateway.discovery.kubernetes": "gateway.config gateway.discovery.source gateway.plain_http",
    "gateway.plain_http": "",
    "gateway.actuation": "PLANNER gateway.errors gateway.cluster gateway.config "
    "gateway.discovery.kubernetes "
    "gateway.journal gateway.plain_http gateway.planning gateway.routing gateway.telemetry",
    "gateway.overview": "planner planner.model gateway.journal gateway.routing gateway.telemetry",
    "gateway.explanation": "planner planner.model gateway.errors gateway.config gateway.overview "
    "gateway.proxy gateway.routing",
    "gateway.request_explainer": "gateway.errors gateway.config gateway.explanation "
    "gateway.overview gateway.page_feed gateway.planning gateway.routing gateway.telemetry",
    "gateway.plan_desk": "planner planner.model gateway.errors gateway.control gateway.planning "
    "gateway.routing",
    "gateway.advice": "PLANNER gateway.plain_http",
    "gateway.page_feed": "planner.model gateway.actuation gateway.alliance gateway.counting "
    "gateway.journal gateway.overview gateway.planning gateway.routing gateway.runtime "
    "gateway.solitary gateway.telemetry",
    "gateway.insight": "planner.model gateway.actuation gateway.admin gateway.alliance "
    "gateway.solitary gateway.counting gateway.page_feed "
    "gateway.discovery gateway.journal "
    "gateway.errors gateway.config gateway.plan_desk gateway.planning gateway.reload "
    "gateway.request_explainer "
    "gateway.routing gateway.telemetry",
    "gateway.admin": "gateway.access gateway.errors gateway.proxy.http",
    "gateway.admin_port": "gateway.access gateway.admin gateway.config gateway.insight "
    "gateway.proxy gateway.runtime "
    "gateway.workers",
    "gateway.app": "PLANNER GATEWAY",
    "loadtest": "gateway.runtime",
    "loadtest.replay": "PLANNER",
    "loadtest.emulator": "PLANNER",
    "loadtest.compare": "PLANNER GATEWAY",
    "loadtest.measure": "PLANNER gateway.proxy loadtest.replay",
    "loadtest.framing": "loadtest gateway.errors gateway.proxy.http",
    "loadtest.torture": "PLANNER GATEWAY",
    "loadtest.overhead": "loadtest loadtest.replay gateway.routing gateway.runtime",
    "loadtest.soak": "loadtest gateway.processes",
    "loadtest.demo": "PLANNER gateway.config gateway.rehearsal gateway.routing gateway.runtime "
    "loadtest "
    "loadtest.compare loadtest.emulator loadtest.replay",
    "loadtest.day": "PLANNER gateway.actuation gateway.config gateway.rehearsal gateway.routing "
    "loadtest.demo loadtest.emulator loadtest.replay",
    "cuvee": "PLANNER GATEWAY LOADTEST",
}
PURE = (
    "planner", "gateway.access", "gateway.explanation", "gateway.overview", "gateway.routing",
    "gateway.telemetry",
)  # fmt: skip
IMPURE = {"asyncio", "aiohttp", "time", "random", "socket", "uvloop", "prometheus_client"}
LONGEST_FILE = 350
# `package.module:name`, as `pkgutil.resolve_name` takes it, or `-m package.module`.
NAMED = re.compile(rf"^((?:{'|'.join(PACKAGES)})(?:\.\w+)+):\w+$")


def imports(path: Path) -> list[tuple[str, bool]]:
    """The modules a file imports, by statement or by a name in a string; each with whether the
    import stands inside a function."""
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
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [(n if n in MODULES else node.module or "", id(node) in inner) for n in names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found += [(match, False) for match in NAMED.findall(node.value)]
    return found


def room(name: str) -> str:
    """The room that a module is in."""
    return name if name in LAYERS or "." not in name else room(name.rpartition(".")[0])


def allowed(name: str) -> set[str]:
    """The rooms that a room may import from. A package in capitals is all of its rooms."""
    names = set(LAYERS[name].split())
    for package in PACKAGES:
        if package.upper() in names:
            names.remove(package.upper())
            names |= {other for other in LAYERS if other.split(".")[0] == package}
    return names - {name}


def test_every_folder_is_a_room():
    """A new folder without a row fails here instead of escaping the rules."""
    folders = {".".join(path.parent.parts) for path in FILES}

    assert folders - set(LAYERS) == set()
    assert set(LAYERS) - folders - MODULES == set()


def test_the_rooms_make_no_circle():
    """No room imports, by way of others, from itself: there is an order to read them in."""
    left = {name: allowed(name) for name in LAYERS}
    while free := [name for name, needs in left.items() if not needs & set(left)]:
        for name in free:
            del left[name]

    assert left == {}


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_keep_to_their_row(path: Path):
    """planner <- gateway <- loadtest <- cuvee, and inside them as the table says."""
    home = room(".".join(path.with_suffix("").parts).removesuffix(".__init__"))

    strangers = [
        name
        for name, _ in imports(path)
        if name.split(".")[0] in PACKAGES and room(name) not in {home, *allowed(home)}
    ]

    assert strangers == []


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_import_hides_inside_a_function(path: Path):
    """A lazy import is a wrong boundary: only the optional extras may be imported late."""
    extras = {"matplotlib"}

    lazy = [name for name, inner in imports(path) if inner and name.split(".")[0] not in extras]

    assert lazy == []


@pytest.mark.parametrize(
    "path", [p for p in FILES if ".".join(p.parent.parts).startswith(PURE)], ids=str
)
def test_the_core_reads_no_clock_and_does_no_io(path: Path):
    """Time and chance are arguments of the pure folders, so that all of them can be simulated."""
    reports = {  # how long a solve took, and how long it may take
        Path("planner/program/highs.py"): {"time"},
        Path("planner/program/solve.py"): {"time"},
    }

    impure = {name.split(".")[0] for name, _ in imports(path)} & IMPURE

    assert impure - reports.get(path, set()) == set()


def test_only_the_program_imports_pulp():
    """Everything but the solver, and the formulations it is compared with, knows no solver."""
    users = [path for path in FILES if any(n.split(".")[0] == "pulp" for n, _ in imports(path))]

    assert users == [Path("planner/program/highs.py"), Path("planner/program/slices.py")]


def test_a_class_name_means_one_thing():
    """No two classes have the same name, so that a reader and a search find the right one."""
    places: dict[str, list[str]] = {}
    for path in FILES:
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(str(path))

    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}


def test_no_file_is_too_long_to_hold_in_the_head():
    """What grows past this many lines bends somewhere, and is two things."""
    lines = {str(path): len((ROOT / path).read_text().splitlines()) for path in FILES}

    assert {path: count for path, count in lines.items() if count > LONGEST_FILE} == {}


def test_the_tests_mirror_the_packages():
    """The tests of a folder are found under its name; `rendered` needs Helm, the two
    others try other people's programs."""
    folders = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("*.py")}

    missing = [str(folder) for folder in folders if not (ROOT / folder).is_dir()]
    assert sorted(missing) == ["clients", "deploy/rendered", "real"]


def test_the_oldest_python_is_the_one_that_is_declared():
    """What is tested is what `requires-python` lets in."""
    assert sys.version_info >= (3, 11)
