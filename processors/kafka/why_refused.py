"""Why a broker that can be reached refuses a client: TLS, sign-in, or another protocol than the settings say."""

import re
import socket
from contextlib import suppress

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ClusterMetadata

from processors.kafka.clients import common_config
from processors.kafka_security import security_variable
from processors.settings import Settings

SECONDS = 1.5
AUTHENTICATION = {KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED}
TLS = re.compile(r"SSL|certificate", re.IGNORECASE)
ADDRESS = re.compile(r"\[?(?P<host>[^,\]]+)\]?:(?P<port>\d+)")
REASON_CHARS = 160


def why_refused(settings: Settings) -> str | None:
    """One sentence with the settings to check; None if nothing listens at the address."""
    errors = list[KafkaError]()
    config = common_config(settings) | {"error_cb": errors.append}
    client = AdminClient(config)
    with suppress(KafkaException):
        client.list_topics(timeout=SECONDS)
    client.poll(0)
    at = f"the broker at {settings.bootstrap_servers}"
    for error in errors:
        if error.code() in AUTHENTICATION:
            return f"{at} refuses the sign-in ({_reason(error)}): check {_sign_in(settings)}"
        if "PLAINTEXT broker listener" in error.str():
            return f"{at} uses no TLS: check {security_variable('security_protocol')}"
        if TLS.search(error.str()):
            names = ("ssl_ca_file", "ssl_check_hostname", "ssl_certificate_file")
            check = ", ".join(map(security_variable, names))
            return f"no TLS connection with {at} ({_reason(error)}): check {check}"
    if _is_open(settings.bootstrap_servers):
        protocol = security_variable("security_protocol")
        return (
            f"{at} accepts connections but does not answer: it starts or hangs, or its listener has "
            f"another protocol than {protocol}={settings.kafka.security_protocol}"
        )
    return None


def wrong_listeners(settings: Settings) -> str | None:
    """One sentence if the broker answers, but gives its clients addresses where nothing answers; else None."""
    try:
        metadata = AdminClient(common_config(settings)).list_topics(timeout=SECONDS)
    except KafkaException:
        return None
    return unreachable_brokers(metadata, settings)


def unreachable_brokers(metadata: ClusterMetadata, settings: Settings) -> str | None:
    """One sentence if nothing answers at the address of any broker; else None."""
    addresses = [(str(broker.host), broker.port) for broker in metadata.brokers.values()]
    if not addresses or any(_accepts(*address) for address in addresses):
        return None
    named = ", ".join(f"{host}:{port}" for host, port in addresses)
    return (
        f"the broker at {settings.bootstrap_servers} answers, but tells its clients to use {named}, where nothing "
        "answers from here: correct advertised.listeners in the broker's configuration"
    )


def _sign_in(settings: Settings) -> str:
    names = ("sasl_mechanism", "sasl_username", "sasl_password")
    if settings.kafka.sasl_mechanism == "OAUTHBEARER":
        names = ("oauth_token_url", "oauth_client_id", "oauth_client_secret")
    return ", ".join(map(security_variable, names))


def _reason(error: KafkaError) -> str:
    """librdkafka's text without the broker's address, with which it begins, and the state at its end."""
    return re.sub(r"^\w+://\S+: | \(after .*\)$", "", error.str())[:REASON_CHARS]


def _is_open(bootstrap_servers: str) -> bool:
    found = ADDRESS.finditer(bootstrap_servers)
    return any(_accepts(one["host"], int(one["port"])) for one in found)


def _accepts(host: str, port: int) -> bool:
    with suppress(OSError), socket.create_connection((host, port), SECONDS):
        return True
    return False
