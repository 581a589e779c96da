"""What runs the data path, and whether it is what the sources say."""

import ast
import os
import platform
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gateway import runtime

ROOT = Path(__file__).resolve().parents[2]
SOURCE = Path("gateway", "proxy", "x.py")


def listed():
    """The modules that setup.py compiles."""
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "MODULES":
            folders = ast.literal_eval(node.value)
            return [Path(f, f"{name}.py") for f, names in folders.items() for name in names]
    raise AssertionError("setup.py has no MODULES")


@pytest.fixture
def checkout(tmp_path):
    """One source, compiled at the time 100."""
    source = tmp_path / SOURCE
    source.parent.mkdir(parents=True)
    library = tmp_path / runtime.LIBRARY
    for path in (source, source.with_suffix(runtime.SUFFIX), library, tmp_path / "pyproject.toml"):
        path.touch()
    os.utime(library, (100, 100))
    os.utime(source, (99, 99))
    return tmp_path


def test_what_was_compiled_last_is_not_stale(checkout):
    """Whatever the times of the files that only point to the library."""
    os.utime((checkout / SOURCE).with_suffix(runtime.SUFFIX), (1, 1))

    assert runtime.stale(checkout) == ()


def test_an_edited_source_is_named(checkout):
    """Its extension module would run in its place."""
    os.utime(checkout / SOURCE, (101, 101))

    assert runtime.stale(checkout) == (SOURCE,)


def test_a_removed_source_is_named(checkout):
    """It could be imported still."""
    (checkout / SOURCE).unlink()

    assert runtime.stale(checkout) == (SOURCE,)


def test_without_its_library_nothing_compiled_is_good(checkout):
    """The files beside the sources are empty without it."""
    (checkout / runtime.LIBRARY).unlink()

    assert runtime.stale(checkout) == (SOURCE,)


def test_an_installed_package_is_never_stale(checkout):
    """pip writes files in any order."""
    (checkout / "pyproject.toml").unlink()
    os.utime(checkout / SOURCE, (101, 101))

    assert runtime.stale(checkout) == ()


@pytest.mark.parametrize(
    ("arguments", "prefix", "said"),
    [
        ("'--enable-shared' '--enable-optimizations'", "/opt", True),
        ("'--enable-shared'", "/opt", False),
        ("'--enable-shared'", "/usr", None),
        (None, "/opt", None),
    ],
)
def test_a_python_tells_how_it_was_built(arguments, prefix, said):
    """Nothing is claimed of one that does not."""
    assert runtime.optimised(arguments, prefix) is said


def test_one_line_says_what_runs():
    """The way of the data path and the version of Python."""
    assert f"{runtime.data_path()} data path, Python 3." in runtime.runtime()


@pytest.mark.parametrize("path", listed(), ids=str)
def test_what_is_compiled_can_be(path):
    """mypyc loses the defaults of msgspec's Structs."""
    classes = [
        n for n in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(n, ast.ClassDef)
    ]
    bases = {ast.unparse(base) for found in classes for base in found.bases}

    assert not bases & {"msgspec.Struct", "Struct"}


def test_no_interpreted_class_inherits_from_a_compiled_one():
    """mypyc refuses that when such an object is made, which may be long after the start."""
    sources = [p for package in runtime.PACKAGES for p in (ROOT / package).rglob("*.py")]
    bases = {
        p.relative_to(ROOT): {
            (found.name, ast.unparse(base).partition("[")[0])
            for found in ast.walk(ast.parse(p.read_text()))
            if isinstance(found, ast.ClassDef)
            for base in found.bases
        }
        for p in sources
    }
    compiled = {
        found.name
        for path in listed()
        for found in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(found, ast.ClassDef)
    }

    strangers = [
        name
        for path, pairs in bases.items()
        for name, base in pairs
        if path not in set(listed()) and base in compiled
    ]
    assert strangers == []


def test_only_what_is_compiled_has_final_constants():
    """mypyc copies their values into whatever uses them, and that would not be seen to be stale."""
    sources = [p for package in runtime.PACKAGES for p in (ROOT / package).rglob("*.py")]
    final = {p.relative_to(ROOT) for p in sources if ": Final" in p.read_text()}

    assert final <= set(listed())


@pytest.mark.skipif(not runtime.compiled(), reason="the data path is interpreted")
def test_all_of_it_is_compiled():
    """Every listed module, and no other."""
    suffix = runtime.SUFFIX
    found = [p for package in runtime.PACKAGES for p in (ROOT / package).rglob(f"*{suffix}")]

    assert {p.relative_to(ROOT) for p in found} == {p.with_suffix(suffix) for p in listed()}


def test_clients_get_half_of_the_files_less_a_reserve():
    """Each of their requests needs a connection to a backend too."""
    limits = (1024, 1_048_576, 100, resource.RLIM_INFINITY)

    assert [runtime.most_clients(n) for n in limits] == [448, 524_224, 25, runtime.UNLIMITED]
    assert runtime.open_files() == resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def test_the_limit_of_open_files_is_raised_to_the_hard_one():
    """In a process of its own: the tests' limit stays as it is."""
    code = (
        "import resource; from gateway import runtime;"
        "_, hard = resource.getrlimit(resource.RLIMIT_NOFILE);"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard));"
        "assert runtime.raise_file_limit() == hard;"
        "assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_closed_standard_files_are_held():
    """Or a connection would get number 2, and its peer the log; in child processes too."""
    code = (
        "import os, subprocess; os.close(0); os.close(2); from gateway import runtime;"
        "runtime.hold_standard_files(); runtime.hold_standard_files();"
        "subprocess.run(['readlink', '/proc/self/fd/0', '/proc/self/fd/2'])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, text=True
    )

    assert found.stdout == "/dev/null\n/dev/null\n"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no other allocator can be told")
def test_the_memory_of_large_bodies_is_given_back():
    """Also where something small and new lies behind each of them."""
    code = (
        "import gc; from gateway import runtime;"
        "resident = lambda: int(open('/proc/self/statm').read().split()[1]) * 4096;"
        "assert runtime.return_large_blocks();"
        "bytes(1 << 21); before = resident();"
        "large, small = zip(*[(b'x' * (1 << 20), bytes(2000)) for _ in range(100)]);"
        "assert resident() - before > 90 << 20;"
        "del large; gc.collect();"
        "assert resident() - before < 10 << 20"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_what_starts_without_hangup_never_gets_it():
    """Neither does what that starts; afterwards this process gets it as before."""
    code = (
        "import signal, subprocess, sys; print(signal.SIGHUP in signal.pthread_sigmask(0, ()));"
        "len(sys.argv) > 2 and subprocess.run([sys.executable, '-c', sys.argv[1], ''], check=True)"
    )
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with runtime.without_hangup():
        found = subprocess.run(
            [sys.executable, "-c", code, code, "again"], check=True, capture_output=True, text=True
        )

    assert found.stdout == "True\nTrue\n"
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
