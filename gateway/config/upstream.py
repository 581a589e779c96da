"""How the gateway speaks to the engines of each pool: names, keys, headers, certificates, timeouts.

Reads the files that the configuration names for it, so that a mistake in them is told at once.
"""

import ssl
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import msgspec

from gateway.config.findings import Findings, no_value
from gateway.config.pool_schema import PoolSection
from gateway.config.schema import Config, GatewaySection
from planner.document import note, shown, under

CREDENTIALS = ("authorization", "x-api-key", "api-key")  # by which clients identify themselves
# What the gateway writes itself, or what belongs to one request or one connection.
RESERVED = frozenset(
    (
        "accept-encoding", "connection", "content-encoding", "content-length", "content-type",
        "expect", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade",
        "x-request-id",
    )
)  # fmt: skip


class TlsPaths(msgspec.Struct, frozen=True, kw_only=True):
    """Files for `https`, by absolute paths. print: a digest of what is in them, so that files with
    another content make another value. server_name: that certificates must be for, `None`: the host
    of the URL."""

    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    print: str = ""
    server_name: str | None = None


class Upstream(msgspec.Struct, frozen=True, kw_only=True):
    """One pool's engines.

    engine: by name, `None` if it is unknown. names: all names by which clients may ask this pool,
    each with that of the engines. without: what the engines cannot do. headers: to add to each
    request; a key is one of them. forwards: whether the engines get the keys of clients.
    affinity: as in the configuration. health: path, `None`: that of the engine. tls: `None`: as the
    system trusts. Times in seconds.
    """

    engine: str | None = None
    names: dict[str, str] = {}
    without: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    forwards: bool = False
    affinity: str = "auto"
    health: str | None = None
    tls: TlsPaths | None = None
    connect_timeout_s: float | None = None
    first_byte_timeout_s: float | None = None
    idle_timeout_s: float | None = None
    unary_timeout_s: float | None = None

    def __repr__(self) -> str:
        return f"<Upstream {self.engine or 'of any engine'}, {', '.join(self.names)}>"  # no keys


def upstreams(
    config: Config, root: Path, environ: Mapping[str, str], findings: Findings
) -> dict[str, Upstream]:
    """The value of each pool; findings hear of what cannot be used. root: the folder that paths are
    relative to."""
    return {
        name: _upstream(config, section, under("pools", name), root, environ, findings)
        for name, section in config.pools.items()
    }


def withheld(settings: GatewaySection, upstreams: Mapping[str, Upstream]) -> tuple[str, ...]:
    """Headers of clients that no backend gets: those that are configured, and those that some pool
    adds, whose values clients must not choose."""
    added = [name.lower() for one in upstreams.values() for name, _ in one.headers]
    return tuple(dict.fromkeys((*settings.withheld_headers, *sorted(added))))


def _upstream(
    config: Config,
    section: PoolSection,
    where: str,
    root: Path,
    environ: Mapping[str, str],
    findings: Findings,
) -> Upstream:
    key = _key(section, where, root, environ, findings)
    headers = dict(section.headers)
    _check_headers(section, where, key is not None, findings)
    if key is not None:
        headers["authorization"] = f"Bearer {key}"
    return Upstream(
        engine=section.engine,
        names=_names(config, section),
        without=section.without,
        headers=tuple(headers.items()),
        forwards=section.forward_authorization,
        affinity=section.affinity,
        health=section.health_path,
        tls=_tls(section, where, root, findings),
        connect_timeout_s=section.connect_timeout_s,
        first_byte_timeout_s=section.first_byte_timeout_s,
        idle_timeout_s=section.idle_timeout_s,
        unary_timeout_s=section.unary_timeout_s,
    )


def _names(config: Config, section: PoolSection) -> dict[str, str]:
    model = config.models.get(section.model)
    own = section.served_name or section.model
    names = {section.model: own}
    if model is not None:
        names |= dict.fromkeys(model.aliases, own)
        if section.adapters is None:
            names |= {adapter: adapter for adapter in model.adapters}
    return names | {name: engine or name for name, engine in (section.adapters or {}).items()}


def _key(
    section: PoolSection,
    where: str,
    root: Path,
    environ: Mapping[str, str],
    findings: Findings,
) -> str | None:
    """The key for the engines; `None` if there is none, or none that can be used."""
    if section.api_key_file is None and section.api_key_env is None:
        return None
    key, source = f"{where}.api_key_file", section.api_key_file
    if section.api_key_env is not None:
        if source is not None:
            findings.problem(key, "api_key_env is there too: one of the two")
            return None
        key, text = f"{where}.api_key_env", environ.get(section.api_key_env)
        if not text:
            findings.problem(key, no_value(section.api_key_env))
            return None
    else:
        assert source is not None
        found = content_of(root / source, key, findings)
        if found is None:
            return None
        text = found.decode("latin-1")
    text = text.strip()
    if not (text and text.isascii() and text.isprintable()):
        findings.problem(key, "a key must be one line of printable ASCII")
        return None
    return text


def _check_headers(section: PoolSection, where: str, keyed: bool, findings: Findings) -> None:
    seen: set[str] = set()
    for name in section.headers:
        key, lower = under(f"{where}.headers", name), name.lower()
        if lower in RESERVED or lower.startswith("x-cuvee-"):
            findings.problem(key, "the gateway writes this header itself")
        elif lower in seen:
            findings.problem(key, "stands twice: names of headers have no case")
        elif keyed and lower == "authorization":
            findings.problem(key, "the key is sent in it already")
        elif section.forward_authorization and lower in CREDENTIALS:
            findings.problem(key, "forward_authorization sends that of the client")
        seen.add(lower)
    if keyed and section.forward_authorization:
        text = "its engines have a key of their own: they can get one of the two"
        findings.problem(f"{where}.forward_authorization", text)


def _tls(section: PoolSection, where: str, root: Path, findings: Findings) -> TlsPaths | None:
    files = {
        "ca_file": section.ca_file,
        "client_cert_file": section.client_cert_file,
        "client_key_file": section.client_key_file,
    }
    name = _server_name(section)
    if not any(files.values()):
        return None if name is None else TlsPaths(server_name=name)
    for one, other in (
        ("client_cert_file", "client_key_file"),
        ("client_key_file", "client_cert_file"),
    ):
        if files[one] is not None and files[other] is None:
            findings.problem(f"{where}.{one}", f"{other} is missing")
            return None
    read = read_paths(files, where, root, findings)
    if read is None:
        return None
    (ca, certificate, key), print_ = read
    if not any(url.startswith("https://") for url in section.backends) and section.backends:
        given = next(key for key, path in files.items() if path is not None)
        findings.warning(f"{where}.{given}", "no backend has an https URL: it is not used")
    checked = {"ca_file": (ca, None), "client_cert_file": (certificate, key)}
    if not usable(checked, where, findings, authorities="ca_file"):
        return None
    return TlsPaths(ca=ca, certificate=certificate, key=key, print=print_, server_name=name)


def _server_name(section: PoolSection) -> str | None:
    """The name that certificates must be for, where the URLs do not have it."""
    dns = None if section.discover is None else section.discover.dns
    found = dns.name.rstrip(".") if dns is not None and dns.scheme == "https" else None
    return section.tls_server_name or found


def read_paths(
    files: Mapping[str, str | None], where: str, root: Path, findings: Findings
) -> tuple[list[str | None], str] | None:
    """The absolute paths of certificates and keys, in their order, and a digest of all that they
    hold; `None` for what cannot be read, which findings hear of. files: paths by key."""
    contents = [
        content_of(root / path, f"{where}.{name}", findings)
        for name, path in files.items()
        if path is not None
    ]
    if None in contents:
        return None
    paths = [None if path is None else str((root / path).absolute()) for path in files.values()]
    return paths, sha256(b"\0".join(content or b"" for content in contents)).hexdigest()


def usable(
    checked: Mapping[str, tuple[str | None, str | None]],
    where: str,
    findings: Findings,
    *,
    authorities: str,
) -> bool:
    """Whether certificates can be used; findings hear of the first that cannot. checked: paths of
    certificate and key, by key of the configuration. authorities: that which is of authorities."""
    for name, (path, key) in checked.items():
        fault = path and _fault(path, key, of_authorities=name == authorities)
        if fault:
            findings.problem(f"{where}.{name}", fault)
            return False
    return True


def _fault(path: str, key: str | None, *, of_authorities: bool) -> str | None:
    """Why certificates cannot be used; `None` if they can."""
    try:
        if of_authorities:
            ssl.create_default_context(cafile=path)
        else:  # without a password OpenSSL would ask for one at the terminal
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_cert_chain(path, key, password=lambda: "")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = getattr(error, "reason", None) or str(error)
        return f"{shown(path)} cannot be used: {shown(reason)}"
    return None


def content_of(path: Path, key: str, findings: Findings) -> bytes | None:
    """What a file holds; it is watched like the configuration."""
    note(path)
    try:
        return path.read_bytes()
    except OSError as error:
        findings.problem(key, f"{shown(path)} cannot be read: {error.strerror}")
        return None
