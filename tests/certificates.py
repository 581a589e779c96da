"""An authority for tests, and the certificates that it signs, made by openssl."""

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

EXTENSIONS = "subjectAltName=IP:127.0.0.1,DNS:localhost"


class Authority:
    """Signs certificates, into a folder. path: its own certificate."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        if shutil.which("openssl") is None:
            pytest.skip("no openssl to make a certificate")
        self._folder, self._name = folder, name
        self.path = folder / f"{name}.pem"
        made = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
        _openssl(made, "-subj", f"/CN={name}", "-keyout", folder / f"{name}.key", "-out", self.path)

    def sign(self, name: str, certificate: Path, key: Path) -> None:
        """Make a key and a certificate for 127.0.0.1 with this common name."""
        request, extensions = self._folder / "request", self._folder / "extensions"
        extensions.write_text(EXTENSIONS)
        made = "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
        _openssl(made, "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        _openssl(
            "x509 -req -days 2 -CAcreateserial", "-in", request, "-CA", self.path,
            "-CAkey", self._folder / f"{self._name}.key", "-out", certificate,
            "-extfile", extensions,
        )  # fmt: skip

    def client(self, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
        """A context of a client that trusts this authority and shows this certificate."""
        context = ssl.create_default_context(cafile=str(self.path))
        if certificate is not None:
            context.load_cert_chain(certificate, key)
        return context


def _openssl(command: str, *more: str | Path) -> None:
    arguments = ["openssl", *command.split(), *map(str, more)]
    subprocess.run(arguments, check=True, capture_output=True)
