"""The chart, rendered by Helm's own code."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "deploy" / "helm" / "cuvee"


@dataclass(frozen=True, slots=True)
class Rendered:
    """The objects of one set of values, and what is said after an installation."""

    objects: tuple[dict[str, Any], ...]
    notes: str

    def of(self, kind: str, name: str = "cuvee") -> dict[str, Any]:
        """The one object of a kind and a name."""
        (found,) = [o for o in self.objects if (o["kind"], o["metadata"]["name"]) == (kind, name)]
        return found

    def kinds(self) -> set[str]:
        return {o["kind"] for o in self.objects}

    @property
    def pod(self) -> dict[str, Any]:
        """The pod of the gateway."""
        pod: dict[str, Any] = self.of("Deployment")["spec"]["template"]
        return pod

    @property
    def container(self) -> dict[str, Any]:
        (container,) = self.pod["spec"]["containers"]
        return dict(container)

    @property
    def configuration(self) -> str:
        """The file that the gateway reads."""
        text: str = self.of("ConfigMap")["data"]["cuvee.yaml"]
        return text


@pytest.fixture(scope="session")
def chart() -> helm_python.Chart:
    return helm_python.Chart.load(CHART)


@pytest.fixture(scope="session")
def render(chart):
    """Renders values, a mapping or a file; raises what Helm raises."""

    def rendered(values: Mapping[str, Any] | Path | None = None) -> Rendered:
        if isinstance(values, Path):
            values = yaml.safe_load(values.read_text())
        chart.validate_schema(values)  # as `helm install` does before it renders
        files = chart.render(values, name="cuvee", namespace="models")
        (notes,) = [text for name, text in files.items() if name.endswith("NOTES.txt")]
        texts = [text for name, text in sorted(files.items()) if name.endswith(".yaml")]
        objects = [o for text in texts for o in yaml.safe_load_all(text) if o]
        return Rendered(tuple(objects), notes)

    return rendered


@pytest.fixture(scope="session")
def check():
    """What `cuvee check` of the product says of a file: exit code and text."""

    def checked(path: Path) -> tuple[int, str]:
        cuvee = ROOT / ".venv" / "bin" / "python"
        program = str(cuvee if cuvee.exists() else sys.executable)
        done = subprocess.run(
            [program, "-m", "cuvee", "check", "--config", str(path)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    return checked
