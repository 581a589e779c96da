"""What is installed works: wheel and sdist, each in a fresh environment, from an empty folder."""

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HOOK = "import building, sys; print(getattr(building, sys.argv[1])(sys.argv[2]))"
CONFIG = """models:
  llama-3-8b:
    slo: {ttft_s: 2.0, tpot_s: 0.12}
prices: AWS-2026-07
pools:
  a10g: {model: llama-3-8b, profile: llama-3-8b/a10g, backends: ["http://127.0.0.1:9001"]}
  h200: {model: llama-3-8b, profile: llama-3-8b/H200, backends: ["http://127.0.0.1:9002"]}
"""
TRACE = "arrival_s,input_tokens,output_tokens\n0,300,100\n1,900,220\n2,1800,40\n3,120,300\n"
WAIT_S = 120.0


def run(*arguments: str | Path, folder: Path, **variables: str) -> str:
    """What a command prints; it must succeed."""
    done = subprocess.run(
        [str(a) for a in arguments],
        cwd=folder,
        env=os.environ | {"CUVEE_COMPILE": "0"} | variables,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
    return done.stdout


def built(hook: str, source: Path, to: Path) -> Path:
    """What a hook of the build backend makes of a folder of sources, as `pip` calls it."""
    to.mkdir(exist_ok=True)
    return to / run(sys.executable, "-c", HOOK, hook, to, folder=source).splitlines()[-1]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the files that git knows, without what else lies in a checkout."""
    if not (ROOT / ".git").exists():
        pytest.skip("no checkout: which files belong to the sources is not known")
    names = run("git", "ls-files", "-z", "-co", "--exclude-standard", folder=ROOT).split("\0")
    copy = tmp_path_factory.mktemp("sources")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def wheel(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built where an earlier build left files that are deleted since."""
    for name in ("cuvee_configs/prices/old.yaml", "planner/old.py"):
        left = sources / "build" / "lib" / name
        left.parent.mkdir(parents=True)
        left.write_text("")
    return built("build_wheel", sources, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def wheel_of_sdist(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that an installer makes from the sdist."""
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(built("build_sdist", sources, folder)) as archive:
        archive.extractall(folder, filter="data")
    [unpacked] = [path for path in folder.iterdir() if path.is_dir()]
    return built("build_wheel", unpacked, folder / "wheel")


class Installed:
    """A wheel in an environment of its own; what it depends on is borrowed from the tests'.

    The path of the tests' environment is given as PYTHONPATH, whose .pth files Python does not
    read: the editable checkout, which one of them adds, is not found.
    """

    def __init__(self, wheel: Path, folder: Path) -> None:
        self.folder = folder / "empty"
        self.folder.mkdir()
        self._bin = folder / "venv" / "bin"
        paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
        self.variables = {"PYTHONPATH": os.pathsep.join(sorted(paths)), "COLUMNS": "120"}
        run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", folder=folder)
        pip = (sys.executable, "-m", "pip", "--python", self._bin / "python", "install", "--quiet")
        run(*pip, "--disable-pip-version-check", "--no-index", "--no-deps", wheel, folder=folder)

    def command(self, *arguments: str) -> list[str]:
        return [str(self._bin / "cuvee"), *arguments]

    def cuvee(self, *arguments: str) -> str:
        return run(*self.command(*arguments), folder=self.folder, **self.variables)

    def python(self, code: str) -> str:
        return run(self._bin / "python", "-c", code, folder=self.folder, **self.variables)


@pytest.fixture(scope="module")
def installed_wheel(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(wheel, tmp_path_factory.mktemp("installed"))


@pytest.fixture(scope="module")
def installed_sdist(wheel_of_sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(wheel_of_sdist, tmp_path_factory.mktemp("installed"))


@pytest.fixture(scope="module", params=["wheel", "sdist"])
def installed(request: pytest.FixtureRequest) -> Installed:
    """What was installed from each of the two."""
    found: Installed = request.getfixturevalue(f"installed_{request.param}")
    return found


def members(wheel: Path) -> dict[str, int]:
    """The checksums of a wheel's files, without those about the wheel itself."""
    with zipfile.ZipFile(wheel) as archive:
        return {i.filename: i.CRC for i in archive.infolist() if ".dist-info/" not in i.filename}


def test_the_sdist_is_whole(wheel: Path, wheel_of_sdist: Path):
    """The wheel made from it is the wheel made from the checkout, file by file."""
    assert members(wheel_of_sdist) == members(wheel)


def test_the_wheel_has_the_data_and_no_more_than_the_packages(wheel: Path):
    """All of configs/ is in it, under a name of its own, and every package is marked as typed. So
    is the page of the admin port."""
    names = set(members(wheel))
    shipped = {f"cuvee_configs/{p.relative_to(ROOT / 'configs')}" for p in data()}
    packages = {"planner", "gateway", "loadtest", "cuvee"}

    assert shipped <= names
    assert {name.split("/")[0] for name in names} == packages | {"cuvee_configs"}
    assert {f"{package}/py.typed" for package in packages} <= names
    page = (ROOT / "gateway" / "admin" / "page").iterdir()
    assert {f"gateway/admin/page/{path.name}" for path in page} <= names


def data() -> list[Path]:
    return [path for path in (ROOT / "configs").rglob("*") if path.is_file()]


def test_what_runs_is_what_was_installed(installed: Installed):
    """Code and data come from the environment, not from the checkout that runs this test."""
    code = "import planner, planner.shipped as s; print(planner.__file__, s.folder(), sep='\\n')"

    module, folder = installed.python(code).splitlines()

    assert Path(module).is_relative_to(installed.folder.parent)
    assert Path(folder) == Path(module).parents[1] / "cuvee_configs"


def test_built_in_names_suffice_for_check_and_plan(installed: Installed):
    """A configuration that names no file of Cuvée's is checked and planned with, in any case."""
    (installed.folder / "cuvee.yaml").write_text(CONFIG)
    (installed.folder / "trace.csv").write_text(TRACE)

    checked = installed.cuvee("check", "--config", "cuvee.yaml")
    planned = installed.cuvee("plan", "--config", "cuvee.yaml", "--trace", "trace.csv")

    assert "2 pools" in checked
    assert "h200" in planned


def test_the_report_finds_the_measurements(installed: Installed):
    """`cuvee --help` lists the commands, and the report reads the shipped measurements."""
    assert "profile" in installed.cuvee("--help")
    assert "splitwise" in installed.cuvee("profile", "report")


def test_the_demo_starts(installed: Installed):
    """Up to its first plan, which needs the configuration, profiles, prices and both traces.

    The whole demo takes two minutes; stopped here, it ends at once and says so.
    """
    process = subprocess.Popen(
        installed.command("demo"),
        cwd=installed.folder,
        env=os.environ | installed.variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if " plan " in line:
            break
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=WAIT_S)

    assert re.search(r"plan \w+: \d A10G.*, \$\d", lines[-1]), "".join(lines) + rest
    assert "Aborted" in rest


@pytest.mark.long
def test_the_paper_s_instance_is_found(installed_wheel: Installed):
    """`compare --paper` prints its table; once, because its two solvers take ten seconds."""
    assert "Mélange's own instance" in installed_wheel.cuvee("compare", "--paper")
