"""Where gateways of one fleet meet: what is wrong with it. Connects to nothing."""

from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from gateway.config.cluster_schema import ClusterSection
from gateway.config.findings import Findings
from gateway.config.schema import Config
from planner.document import shown

WHERE = "gateway.cluster"
PACKAGE = "redis"
MISSING = f"needs the package {PACKAGE}, which is not installed: pip install 'cuvee[{PACKAGE}]'"


def check_cluster(config: Config, root: Path, findings: Findings) -> None:
    """Note a place that cannot be, and files that are not there. root: the folder that paths are
    relative to."""
    section = config.gateway.cluster
    if section is None:
        return
    if find_spec(PACKAGE) is None:
        findings.problem(f"{WHERE}.redis", MISSING)
    _check_url(section, findings)
    for key in ("password_file", "ca_file"):
        value = getattr(section, key)
        if value is not None and not (root / value).is_file():
            findings.problem(f"{WHERE}.{key}", f"no such file: {shown(root / value)}")
    zones = sorted({pool.zone for pool in config.pools.values() if pool.zone is not None})
    if section.zone is not None and section.zone not in zones:
        findings.warning(f"{WHERE}.zone", f"no pool is in {shown(section.zone)}")


def _check_url(section: ClusterSection, findings: Findings) -> None:
    parts = urlsplit(section.redis)
    try:
        known = bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        known = False
    if not known:
        findings.problem(f"{WHERE}.redis", "this is no URL of a host")
    if parts.password and section.password_file is not None:
        findings.problem(f"{WHERE}.password_file", "the URL has a password already")
    if section.ca_file is not None and parts.scheme != "rediss":
        findings.problem(f"{WHERE}.ca_file", "redis:// has no certificates: use rediss://")
