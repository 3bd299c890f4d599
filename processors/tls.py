"""TLS as clients use it: a context made of the files that settings name."""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from pydantic import SecretStr

from schemas.errors import Misconfigured


class TlsFiles(Protocol):
    """The settings of a client that encrypts; without a CA file, the system's certificates sign the server's."""

    @property
    def ssl_ca_file(self) -> Path | None: ...
    @property
    def ssl_certificate_file(self) -> Path | None: ...
    @property
    def ssl_key_file(self) -> Path | None: ...
    @property
    def ssl_key_password(self) -> SecretStr | None: ...


def check_client_certificate(files: TlsFiles, variable: Callable[[str], str]) -> None:
    """Raise ValueError, which names the variable, unless certificate, key and password go together."""
    if (files.ssl_certificate_file is None) != (files.ssl_key_file is None):
        missing = "ssl_key_file" if files.ssl_key_file is None else "ssl_certificate_file"
        raise ValueError(
            f"{variable(missing)}: needed: a client's certificate and its key go together"
        )
    if files.ssl_key_password is not None and files.ssl_key_file is None:
        raise ValueError(f"{variable('ssl_key_file')}: needed: a password for it is set")


def tls_context(files: TlsFiles, variable: Callable[[str], str]) -> ssl.SSLContext:
    """A TLS context of these files. Raises Misconfigured, which names the setting of a file that cannot be used."""
    try:
        context = ssl.create_default_context(cafile=files.ssl_ca_file)
    except (OSError, ssl.SSLError) as fault:
        raise _unusable(variable("ssl_ca_file"), "a file of PEM certificates", fault) from fault
    if files.ssl_certificate_file is not None:
        # without a password OpenSSL would ask for one on the terminal
        password = secret_text(files.ssl_key_password) or ""
        try:
            context.load_cert_chain(
                files.ssl_certificate_file, files.ssl_key_file, lambda: password
            )
        except (OSError, ssl.SSLError) as fault:
            what = "a PEM certificate and its key (is the password right?)"
            raise _unusable(variable("ssl_certificate_file"), what, fault) from fault
    return context


def secret_text(secret: SecretStr | None) -> str | None:
    """The secret itself; None if there is none."""
    return None if secret is None else secret.get_secret_value()


def _unusable(variable: str, what: str, fault: OSError) -> Misconfigured:
    reason = fault.strerror if not isinstance(fault, ssl.SSLError) else fault.reason
    return Misconfigured(f"{variable}: not {what}: {reason or 'unreadable'}")
