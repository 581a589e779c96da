"""What is wrong with a section about Kubernetes. Asks no API server."""

import re
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from gateway.config.findings import Findings
from gateway.config.kubernetes_schema import KubernetesSection
from planner.document import shown

WAYS = ("selector", "service", "inference_pool")
# https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/
NAME = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
DNS = r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?"
KEY = rf"({DNS}/)?{NAME}"
VALUE = rf"({NAME})?"
REQUIREMENT = (
    rf"\s*(!\s*{KEY}|{KEY}\s*(==|=|!=)\s*{VALUE}|{KEY}\s+(in|notin)\s*"
    rf"\(\s*{VALUE}\s*(,\s*{VALUE}\s*)*\)|{KEY})\s*"
)
SELECTOR = re.compile(rf"{REQUIREMENT}(,{REQUIREMENT})*")
OBJECT_NAME = re.compile(DNS)
LABEL_KEY = re.compile(KEY)
PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
LAST_PORT = 65535


class ApiKeys(Protocol):
    """Keys that every section about an API server has."""

    @property
    def api_server(self) -> str | None:
        """Its URL; `None`: that of the cluster around."""

    @property
    def token_file(self) -> str | None:
        """Relative to the configuration file."""

    @property
    def ca_file(self) -> str | None:
        """Relative to the configuration file."""


def check_kubernetes(key: str, section: KubernetesSection, root: Path, findings: Findings) -> None:
    """Note what cannot be used. key: of the section in the file. root: folder of the file."""
    _check_way(key, section, findings)
    _check_port(key, section, findings)
    if section.namespace is not None and not OBJECT_NAME.fullmatch(section.namespace):
        findings.problem(f"{key}.namespace", f"this is no namespace: {shown(section.namespace)}")
    for name, label in section.labels.items():
        if not LABEL_KEY.fullmatch(label):
            findings.problem(f"{key}.labels.{name}", f"this is no label: {shown(label)}")
    if section.gpu == "ignore" and (section.gpu_products or section.nodes):
        text = "`gpu: ignore` compares none: `gpu_products` and `nodes` have no effect"
        findings.warning(f"{key}.gpu", text)
    check_api(key, section, root, findings)


def check_api(key: str, section: ApiKeys, root: Path, findings: Findings) -> None:
    """Note what cannot be used of the keys about the API server. root: folder of the file."""
    url = section.api_server
    if url is not None:
        if not url.startswith(("http://", "https://")) or not _has_host(url):
            findings.problem(f"{key}.api_server", f"must be a URL of http or https: {shown(url)}")
        elif url.startswith("http://") and section.token_file is not None:
            findings.warning(f"{key}.token_file", "the token is sent over http, unprotected")
    for name in ("token_file", "ca_file"):
        file = getattr(section, name)
        if file is None:
            continue
        if url is None:
            findings.problem(f"{key}.{name}", "needs `api_server`: inside a cluster it is known")
        elif not (root / file).is_file():
            findings.problem(f"{key}.{name}", f"no such file: {shown(root / file)}")


def _check_way(key: str, section: KubernetesSection, findings: Findings) -> None:
    given = [way for way in WAYS if getattr(section, way) is not None]
    if len(given) != 1:
        found = f"has {' and '.join(given)}" if given else "has none"
        findings.problem(key, f"needs one of {', '.join(WAYS)}, and {found}")
    for way in given:
        text = getattr(section, way)
        form = SELECTOR if way == "selector" else OBJECT_NAME
        if not form.fullmatch(text):
            what = "label selector" if way == "selector" else "name of an object"
            findings.problem(f"{key}.{way}", f"this is no {what}: {shown(text)}")


def _check_port(key: str, section: KubernetesSection, findings: Findings) -> None:
    port = section.port
    if isinstance(port, int):
        if not 1 <= port <= LAST_PORT:
            findings.problem(f"{key}.port", f"must be between 1 and {LAST_PORT}, or a name")
    elif port is not None and not PORT_NAME.fullmatch(port):
        findings.problem(f"{key}.port", f"this is no name of a port: {shown(port)}")


def _has_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
