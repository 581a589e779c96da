"""Where traces and metrics are sent: what is wrong with it. Connects to nothing."""

from pathlib import Path
from urllib.parse import urlsplit

from gateway.config.findings import Findings
from gateway.config.schema import Config
from planner.document import shown

WHERE = "gateway.otel"
PATHS = ("/v1/traces", "/v1/metrics")


def check_otel(config: Config, root: Path, findings: Findings) -> None:
    """Note a collector that cannot be, and files that are not there. root: the folder that paths
    are relative to."""
    section = config.gateway.otel
    if section is None:
        return
    parts = urlsplit(section.endpoint)
    try:
        known = bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        known = False
    if not known:
        findings.problem(f"{WHERE}.endpoint", "this is no URL of a host")
    elif parts.path.rstrip("/").endswith(PATHS):
        findings.problem(f"{WHERE}.endpoint", "ends before /v1/traces, which is added")
    if section.ca_file is not None and parts.scheme != "https":
        findings.problem(f"{WHERE}.ca_file", "http:// has no certificates: use https://")
    for key in ("headers_file", "ca_file"):
        value = getattr(section, key)
        if value is not None and not (root / value).is_file():
            findings.problem(f"{WHERE}.{key}", f"no such file: {shown(root / value)}")
