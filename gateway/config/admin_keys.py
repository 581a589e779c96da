"""Who may use the admin port, as values: tokens are digests only."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import msgspec

from gateway.config.access_schema import AdminAccessSection
from gateway.config.findings import Findings, no_value
from gateway.config.schema import Config
from gateway.config.upstream import content_of

SHORTEST = 16  # characters of a token
NO_TOKEN = f"a token must be one word of printable ASCII, {SHORTEST} characters or more"


class AdminKey(msgspec.Struct, frozen=True, kw_only=True):
    """Who may use one part. digest: SHA-256 of the token, `None` without one. certificates: names,
    `*` for all of them."""

    digest: bytes | None = None
    certificates: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<AdminKey, token {self.digest is not None}, {len(self.certificates)} names>"


class AdminKeys(msgspec.Struct, frozen=True, kw_only=True):
    """Who may read and who may write; `None`: whoever reaches the port."""

    read: AdminKey | None = None
    write: AdminKey | None = None


def admin_keys(
    config: Config, root: Path, environ: Mapping[str, str], findings: Findings
) -> AdminKeys:
    """The keys of a configuration. Findings hear of what cannot be used. root: the folder that
    paths are relative to."""
    access, tls = config.access, config.gateway.admin_tls
    certified = tls is not None and tls.client_ca is not None
    read = write = None
    if access is not None:
        for name, section in (("read", access.admin_read), ("write", access.admin_write)):
            if section is not None and section.certificates and not certified:
                where = f"access.admin_{name}.certificates"
                findings.problem(where, "needs gateway.admin_tls.client_ca")
        read = _key(access.admin_read, "access.admin_read", root, environ, findings)
        write = _key(access.admin_write, "access.admin_write", root, environ, findings)
    if certified and read is None:  # to ask for certificates means to want one
        read = AdminKey(certificates=("*",))
    return AdminKeys(read=read, write=write or read)


def _key(
    section: AdminAccessSection | None,
    where: str,
    root: Path,
    environ: Mapping[str, str],
    findings: Findings,
) -> AdminKey | None:
    if section is None:
        return None
    text: str | None = None
    if section.token_file is not None:
        key = f"{where}.token_file"
        if section.token_env is not None:
            findings.problem(key, "token_env is there too: one of the two")
        found = content_of(root / section.token_file, key, findings)
        text = None if found is None else found.decode("latin-1").strip()
    elif section.token_env is not None:
        key, text = f"{where}.token_env", environ.get(section.token_env, "").strip()
        if not text:
            findings.problem(key, no_value(section.token_env))
            text = None
    elif not section.certificates:
        findings.problem(where, "needs token_file, token_env or certificates")
    if text is None:
        return AdminKey(certificates=section.certificates)
    if len(text) < SHORTEST or not text.isascii() or not text.isprintable() or " " in text:
        findings.problem(key, NO_TOKEN)
        return AdminKey(certificates=section.certificates)
    digest = sha256(text.encode()).digest()
    return AdminKey(digest=digest, certificates=section.certificates)
