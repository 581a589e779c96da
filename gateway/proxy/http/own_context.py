"""The TLS context of a port that the gateway listens on."""

import ssl

from gateway.proxy.http.tls import TlsFiles

PROTOCOL = "http/1.1"


def own_context(files: TlsFiles, *, every_client: bool) -> ssl.SSLContext:
    """A context with these files; `ca` is that of clients. every_client: whether each must show a
    certificate; else one that is shown is checked. Raises OSError for files that cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([PROTOCOL])
    assert files.certificate is not None
    # Without a password OpenSSL would ask for one at the terminal.
    context.load_cert_chain(files.certificate, files.key, password=lambda: "")
    if files.ca is not None:
        context.load_verify_locations(cafile=files.ca)
        context.verify_mode = ssl.CERT_REQUIRED if every_client else ssl.CERT_OPTIONAL
    return context


def certificate_names(certificate: object) -> frozenset[str]:
    """The names of a client's certificate, as `ssl.SSLSocket.getpeercert` tells it: common names,
    DNS names and URIs. None without one."""
    if not isinstance(certificate, dict) or not certificate:
        return frozenset()
    common = [value for rdn in certificate.get("subject", ()) for name, value in rdn
              if name == "commonName"]  # fmt: skip
    others = [v for kind, v in certificate.get("subjectAltName", ()) if kind in ("DNS", "URI")]
    return frozenset((*common, *others))
