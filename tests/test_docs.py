"""The documents tell the truth: what they name exists, and what exists is named."""

import json
import re
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner

import cuvee
from cuvee.reference import manual as cli_manual
from gateway.config.json_schema import text as schema
from gateway.config.load import load
from gateway.config.reference import manual
from gateway.telemetry.reference import reference
from planner.costs import prices
from planner.costs.portfolio import read_hourly_rates
from planner.engine import catalogue, profiles, runs, validation
from planner.program.published import read_published
from planner.program.published_tables import read_paper
from planner.traffic.trace import read_trace

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
FOLDERS = ("", "docs", "planner", "gateway", "loadtest", "configs")
PAGES = sorted({p for f in FOLDERS for p in (ROOT / f).glob("*.md" if not f else "**/*.md")})


def command(name: str) -> click.Command:
    """A subcommand, imported as the command line imports it."""
    found = cuvee.main.get_command(click.Context(cuvee.main), name)
    assert found is not None, name
    return found


def test_the_configuration_page_is_that_of_the_types():
    """After a change of a key: `python -m gateway.config.reference > docs/configuration.md`."""
    assert (ROOT / "docs" / "configuration.md").read_text() == manual()


def test_the_metrics_page_is_that_of_the_definitions():
    """After a change of a metric: `python -m gateway.telemetry.reference > docs/metrics.md`."""
    assert (ROOT / "docs" / "metrics.md").read_text() == reference()


def test_the_page_of_the_command_line_is_that_of_the_commands():
    """After a change of an option: `python -m cuvee.reference > docs/cli.md`."""
    assert (ROOT / "docs" / "cli.md").read_text() == cli_manual()


def test_the_readme_shows_both_commands_at_once():
    """A stranger finds `make demo` and `make test` in the first 25 lines."""
    top = "\n".join(README.splitlines()[:25])

    assert "make demo" in top
    assert "make test" in top


def test_every_command_in_the_readme_exists():
    """Each `cuvee NAME` and each of its options is known to the command line."""
    for line in re.findall(r"^\s*(?:\$ )?cuvee (.+)$", README, re.MULTILINE):
        name, *words = line.split()
        known = command(name)
        options = {option for parameter in known.params for option in parameter.opts}
        assert {word.split("=")[0] for word in words if word.startswith("--")} <= options, line


@pytest.mark.parametrize("name", sorted(cuvee.COMMANDS))
def test_every_command_has_help_that_suffices(name: str):
    """`--help` works, says what the command does, and explains every option."""
    result = CliRunner().invoke(cuvee.main, [name, "--help"])

    assert result.exit_code == 0
    assert command(name).help
    assert command(name).name == name
    unexplained = [p.name for p in command(name).params if not getattr(p, "help", None)]
    assert set(unexplained) <= {
        "host", "port", "log_level", "endpoint", "shell", "urls", "what",
    }  # fmt: skip


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_point_to_files_that_exist(path: Path):
    """Every relative link of a document leads somewhere."""
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", path.read_text())

    assert [link for link in links if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("path", sorted((ROOT / "configs").rglob("*.*")), ids=lambda p: p.name)
def test_every_file_in_configs_is_one_the_product_reads(path: Path):
    """Nothing in configs/ is dead: each example loads as what it is."""
    folder = path.parent.name
    if folder == "measured" and path.suffix == ".csv":
        assert len(validation.read_timings(path)) > 0
    elif folder == "runs" and path.suffix == ".csv":
        assert len(runs.read_runs(path)[0]) > 0
    elif folder == "rates" and path.suffix == ".csv":
        assert len(read_hourly_rates(path)) > 24
    elif path.suffix == ".csv":
        assert len(read_trace(path)) > 0
    elif path.suffix == ".yaml" and path.parent.parent.name == "profiles":
        assert profiles.read_profile(path).max_model_len > 0
    elif folder == "melange" and path.stem == "paper":
        assert read_paper(path).tables
    elif folder == "melange":
        assert read_published(path).gpus
    elif folder == "prometheus":
        assert yaml.safe_load(path.read_text())["groups"]  # more in test_observability
    elif folder == "grafana":
        assert json.loads(path.read_text())["panels"]  # the same
    elif folder == "prices":
        assert prices.read_prices(path)
    elif folder == "kubernetes":
        assert list(yaml.safe_load_all(path.read_text()))  # tests/gateway/actuation/test_manifests
    elif path.name == "schema.json":
        assert path.read_text() == schema()  # more in tests/gateway/config/test_json_schema
    elif path.name == "gpus.yaml":
        assert catalogue.read_gpus(path)
    elif path.name == "models.yaml":
        assert catalogue.read_models(path)
    elif path.suffix == ".yaml":
        assert load(path).pools
        assert yaml.safe_load(path.read_text())["models"]
    else:
        assert path.name == "ATTRIBUTION.md"


def test_the_page_of_profiles_says_which_gpus_are_datasheet_only():
    """Fitted and datasheet-only rows are told apart, every shipped GPU in one of the two lines."""
    page = (ROOT / "docs" / "profiles.md").read_text()
    lines = re.findall(r"^\| (L4, .+|T4, .+) \| (fitted|\*\*datasheet only)", page, re.MULTILINE)
    listed = {origin: set(names.split(", ")) for names, origin in lines}
    rows = catalogue.gpus().values()

    assert listed["fitted"] == {gpu.name for gpu in rows if gpu.fitted}
    assert listed["**datasheet only"] == {gpu.name for gpu in rows if not gpu.fitted}


def test_the_changelog_names_the_version():
    """The version of the package has an entry for its users."""
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)

    assert version is not None
    assert f"## [{version[1]}]" in (ROOT / "CHANGELOG.md").read_text()
