"""Certificates of the gateway's own ports: whether they can be used."""

from pathlib import Path

from gateway.config.access_schema import TlsSection
from gateway.config.findings import Findings
from gateway.config.schema import Config
from gateway.config.upstream import TlsPaths, read_paths, usable


class OwnTls:
    """Files of the data port and of the admin port; `None`: HTTP. `ca` is that of clients."""

    def __init__(self, config: Config, root: Path, findings: Findings) -> None:
        """root: the folder that paths are relative to. findings: hear of what cannot be used."""
        gateway = config.gateway
        self.data = _paths(gateway.tls, "gateway.tls", root, findings)
        self.admin = _paths(gateway.admin_tls, "gateway.admin_tls", root, findings)
        if gateway.admin_tls is not None and gateway.operator_paths == "both":
            text = "`both` fetches from the admin port, which has TLS: `admin` is left"
            findings.problem("gateway.operator_paths", text)

    def __repr__(self) -> str:
        return f"<OwnTls, data {self.data is not None}, admin {self.admin is not None}>"


def _paths(
    section: TlsSection | None, where: str, root: Path, findings: Findings
) -> TlsPaths | None:
    if section is None:
        return None
    files = {"certificate": section.certificate, "key": section.key, "client_ca": section.client_ca}
    read = read_paths(files, where, root, findings)
    if read is None:
        return None
    (certificate, key, ca), print_ = read
    checked = {"certificate": (certificate, key), "client_ca": (ca, None)}
    if not usable(checked, where, findings, authorities="client_ca"):
        return None
    return TlsPaths(ca=ca, certificate=certificate, key=key, print=print_)
