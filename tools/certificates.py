"""When the certificates end that a connection with Kafka rests on: the client's, the authorities', the brokers'."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from cryptography import x509

from processors.kafka.security import ssl_context
from processors.kafka.why_refused import ADDRESS
from processors.kafka_security import security_variable
from processors.settings import Settings
from schemas.errors import Discrepancy

SOON = timedelta(days=14)
CONNECT_S = 5.0
REPLACE = "replace the file, then restart the processes one by one"


class _Certificate(NamedTuple):
    """A certificate, where it is, and what to do before it ends."""

    where: str
    ends: datetime
    remedy: str


def ends_of_certificates(settings: Settings) -> str:
    """Which certificate ends first. Raises Discrepancy, which names each that ends soon and its remedy."""
    found = sorted([*_files(settings), *_brokers(settings)], key=lambda one: one.ends)
    now = datetime.now(UTC)
    ending = [one for one in found if one.ends - now < SOON]
    if ending:
        raise Discrepancy("; ".join(f"{_end(one, now)}: {one.remedy}" for one in ending))
    return f"the first: {_end(found[0], now)}" if found else "those of the system alone"


def _end(one: _Certificate, now: datetime) -> str:
    days = (one.ends - now).days
    when = f"in {days} days" if one.ends > now else "it has ended"
    return f"{one.where} ends on {one.ends.date()} ({when})"


def _files(settings: Settings) -> Iterator[_Certificate]:
    security = settings.kafka
    for name, path in (
        ("ssl_certificate_file", security.ssl_certificate_file),
        ("ssl_ca_file", security.ssl_ca_file),
    ):
        if path is not None:
            for certificate in x509.load_pem_x509_certificates(path.read_bytes()):
                yield _Certificate(
                    security_variable(name), certificate.not_valid_after_utc, REPLACE
                )


def _brokers(settings: Settings) -> Iterator[_Certificate]:
    """The certificates of the brokers that the settings name; one that does not answer is left out."""
    context = ssl_context(settings.kafka)
    for address in ADDRESS.finditer(settings.bootstrap_servers):
        host, port = address["host"].strip(), int(address["port"])
        with (
            suppress(OSError),
            socket.create_connection((host, port), CONNECT_S) as connection,
            context.wrap_socket(connection, server_hostname=host) as secured,
        ):
            body = secured.getpeercert(binary_form=True)
            if body is not None:
                ends = x509.load_der_x509_certificate(body).not_valid_after_utc
                remedy = "renew it at the broker"
                yield _Certificate(f"the certificate of the broker at {host}:{port}", ends, remedy)
