"""The image's recipe, as far as it can be read (`deploy/image/try.py` does what it says)."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
IMAGE = ROOT / "deploy" / "image"
EXTRAS = ("kv-events", "redis", "zstd")


def test_it_runs_as_a_user_without_rights():
    """By number: `runAsNonRoot` of Kubernetes reads no names; as the chart has it."""
    text = (IMAGE / "Dockerfile").read_text()
    chart = (ROOT / "deploy/helm/cuvee/templates/deployment.yaml").read_text()

    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == ["65532:65532"]
    assert "runAsUser: 65532" in chart
    assert re.search(r"^HEALTHCHECK", text, re.MULTILINE)
    assert re.search(r"^STOPSIGNAL SIGTERM$", text, re.MULTILINE)


def test_its_stages_have_what_they_copy():
    """From the sources, and not kept from the builder."""
    text = (IMAGE / "Dockerfile").read_text()
    shown = set(re.findall(r"^!(.+)$", (IMAGE / "Dockerfile.dockerignore").read_text(), re.M))
    copied = set()
    for words in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE):
        copied.update(words.split()[:-1])

    assert copied == shown
    assert all((ROOT / name).exists() for name in copied)


@pytest.mark.parametrize("extra", ["", *EXTRAS])
def test_every_dependency_is_locked(extra: str):
    """In a version that pyproject.toml allows, with its hashes; `lock.sh` makes the file."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = project["optional-dependencies"][extra] if extra else project["dependencies"]
    text = (IMAGE / "requirements.txt").read_text()
    locked = dict(re.findall(r"^([a-z0-9-]+)==(\S+) \\$", text, re.MULTILINE))

    assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}", text)) > len(locked)
    for requirement in map(Requirement, listed):
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        assert requirement.specifier.contains(locked[name]), requirement
