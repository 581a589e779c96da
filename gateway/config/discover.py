"""Where backends of pools are found: what is wrong with it. Looks for none."""

from pathlib import Path
from typing import Any

from gateway.config.discover_schema import DiscoverSection, DnsSection, nameserver
from gateway.config.findings import Findings
from gateway.config.kubernetes import check_kubernetes
from gateway.config.schema import Config
from planner.document import shown, under


def check_discover(config: Config, raw: Any, root: Path, findings: Findings) -> None:
    """Note pools that can have no backends, and sources that cannot be.

    raw: the file. root: the folder that paths are relative to.
    """
    entries = {str(name): entry for name, entry in raw["pools"].items()}
    for name, section in config.pools.items():
        where = under("pools", name)
        if section.discover is not None:
            _check_kind(section.discover, f"{where}.discover", findings)
            _check_file(section.discover.file, root, f"{where}.discover.file", findings)
            _check_dns(section.discover.dns, f"{where}.discover.dns", findings)
            if section.discover.kubernetes is not None:
                key = f"{where}.discover.kubernetes"
                check_kubernetes(key, section.discover.kubernetes, root, findings)
                if section.discover.kubernetes.scheme == "https" and not section.tls_server_name:
                    text = "https needs `tls_server_name` of the pool: URLs have addresses"
                    findings.problem(f"{key}.scheme", text)
        elif "backends" not in entries[name] and not findings.hides(where):
            findings.problem(f"{where}.backends", "missing")


def _check_kind(section: DiscoverSection, where: str, findings: Findings) -> None:
    kinds = DiscoverSection.__struct_fields__
    given = [kind for kind in kinds if getattr(section, kind) is not None]
    if len(given) != 1:
        names = " or ".join(f"`{kind}`" for kind in kinds)
        findings.problem(where, f"needs {'one of ' * (len(kinds) > 1)}{names}")


def _check_file(value: str | None, root: Path, where: str, findings: Findings) -> None:
    if value is None:
        return
    path = root / value
    if path.is_dir():
        findings.problem(where, f"a folder: {shown(path)}")
    elif not path.exists():
        findings.warning(where, f"no such file: {shown(path)}")


def _check_dns(section: DnsSection | None, where: str, findings: Findings) -> None:
    if section is None:
        return
    if section.record == "a" and section.port is None:
        findings.problem(f"{where}.port", "missing")
    if section.record == "srv" and section.port is not None:
        findings.problem(f"{where}.port", "of `srv`, each record has its own port")
    if section.server is not None:
        try:
            nameserver(section.server)
        except ValueError:
            text = f"must be ADDRESS or ADDRESS:PORT: {shown(section.server)}"
            findings.problem(f"{where}.server", text)
