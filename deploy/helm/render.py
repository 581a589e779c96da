"""Writes deploy/kubernetes/cuvee.yaml: the chart with its default values, for `kubectl apply`.

    make manifests

Needs helm-python-sdk. Prints to standard output; `make manifests` puts it into the file.
"""

import sys
from pathlib import Path

import helm_python

CHART = Path(__file__).resolve().parent / "cuvee"
HEAD = """\
# The Helm chart deploy/helm/cuvee with its default values: made by `make manifests`, do not edit,
# but copy. Write your models and pools into the ConfigMap, and your registry into `image`;
# docs/deployment.md says more.
"""


def manifests(namespace: str = "models") -> str:
    """All objects as one text, in the order of their templates' names."""
    files = helm_python.Chart.load(CHART).render(name="cuvee", namespace=namespace)
    parts = [files[name].strip("\n") for name in sorted(files) if name.endswith(".yaml")]
    text = "\n---\n".join(part.removeprefix("---\n") for part in parts if part.strip())
    lines = [line for line in text.splitlines() if "app.kubernetes.io/managed-by" not in line]
    return HEAD + "---\n" + "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(manifests())
