"""Certificates for connections to backends: whom the gateway trusts, and who it says it is."""

import ssl
from typing import Final

SYSTEM: Final = ("", "", "", "")


class TlsFiles:
    """PEM files by path; never changed.

    ca: of the authorities that are trusted, `None`: those that the system trusts. certificate, key:
    that the gateway shows, `None`: none. print: digest of what is in them, so that files with other
    content are others. server_name: that the backends' certificates must be for, `None`: the host
    of the URL.
    """

    __slots__ = ("ca", "certificate", "key", "print", "server_name")

    def __init__(
        self,
        *,
        ca: str | None = None,
        certificate: str | None = None,
        key: str | None = None,
        print: str = "",
        server_name: str | None = None,
    ) -> None:
        self.ca = ca
        self.certificate = certificate
        self.key = key
        self.print = print
        self.server_name = server_name

    def __repr__(self) -> str:
        return f"<TlsFiles {self.ca}, {self.certificate}>"

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """What two that are the same have in common."""
        return self.ca or "", self.certificate or "", self.key or "", self.print


class TlsContexts:
    """The contexts of all connections, each made once: to read the certificates that the system
    trusts blocks for 24 ms."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, str, str, str], ssl.SSLContext] = {}

    def __repr__(self) -> str:
        return f"<TlsContexts {len(self._made)} made>"

    def context(self, files: TlsFiles | None) -> ssl.SSLContext:
        """The context of these files; `None`: as the system has it. Raises OSError for files that
        cannot be read, or are not what they should be."""
        identity = SYSTEM if files is None else files.identity
        made = self._made.get(identity)
        if made is None:
            made = ssl.create_default_context(cafile=None if files is None else files.ca)
            if files is not None and files.certificate is not None:
                # Without a password OpenSSL would ask for one at the terminal.
                made.load_cert_chain(files.certificate, files.key, password=_nothing)
            self._made[identity] = made
        return made


def _nothing() -> str:
    return ""
