"""A broker with TLS, sign-in and an authorizer; its open listener is for the tests alone, with every right."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography.x509 import GeneralName

from processors.kafka.clients import admin_client
from processors.kafka.rights import Right
from processors.settings import Settings
from tests.support.certificates import LOOPBACK, Authority
from tests.support.until import until
from tools.broker import Broker, free_port

LIBS = Path(__file__).parents[2] / ".cjstream" / "kafka-libs"
SCRAM = {
    "SCRAM-SHA-256": ScramMechanism.SCRAM_SHA_256,
    "SCRAM-SHA-512": ScramMechanism.SCRAM_SHA_512,
}
LOGIN = "org.apache.kafka.common.security"
ALLOWED_URLS = "-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls"


@dataclass(frozen=True)
class SecuredBroker:
    """The addresses of its listeners, its certificate authority, and a client's certificate."""

    broker: Broker
    authority: Authority
    ssl: str  # wants a client's certificate
    sasl_ssl: str
    sasl_plaintext: str

    def set_password(self, user: str, password: str) -> None:
        """Make or change the user of the SCRAM mechanisms, and wait until the broker knows."""
        admin = admin_client(Settings(bootstrap_servers=self.broker.bootstrap))
        for mechanism in SCRAM.values():  # the broker takes one of a user at a time
            info = ScramCredentialInfo(mechanism, 4096)
            change = UserScramCredentialUpsertion(user, info, password.encode())
            admin.alter_user_scram_credentials([change])[user].result(30)

        def is_known() -> bool:
            with suppress(Exception):
                futures = admin.describe_user_scram_credentials([user])
                assert isinstance(futures, dict)
                return len(futures[user].result(10).scram_credential_infos) == len(SCRAM)
            return False

        until(is_known)

    def grant(self, user: str, rights: Iterable[Right]) -> None:
        """Give a SCRAM user these rights."""
        admin = admin_client(Settings(bootstrap_servers=self.broker.bootstrap))
        for future in admin.create_acls(list(_acls(user, rights))).values():
            future.result(30)

    def revoke(self, user: str, rights: Iterable[Right]) -> None:
        """Take these rights from a SCRAM user."""
        admin = admin_client(Settings(bootstrap_servers=self.broker.bootstrap))
        filters = [
            AclBindingFilter(
                acl.restype,
                acl.name,
                acl.resource_pattern_type,
                acl.principal,
                acl.host,
                acl.operation,
                acl.permission_type,
            )
            for acl in _acls(user, rights)
        ]
        for future in admin.delete_acls(filters).values():
            assert future.result(30)


def _acls(user: str, rights: Iterable[Right]) -> Iterator[AclBinding]:
    types = {
        "topic": ResourceType.TOPIC,
        "group": ResourceType.GROUP,
        "transactional-id": ResourceType.TRANSACTIONAL_ID,
        "cluster": ResourceType.BROKER,
    }
    for right in rights:
        pattern = ResourcePatternType.PREFIXED if right.is_prefix else ResourcePatternType.LITERAL
        for operation in right.operations:
            yield AclBinding(
                types[right.kind],
                right.name,
                pattern,
                f"User:{user}",
                "*",
                AclOperation[operation],
                AclPermissionType.ALLOW,
            )


@contextmanager
def secured_broker(
    folder: Path,
    jwks_url: str = "",
    *,
    hosts: tuple[GeneralName, ...] = LOOPBACK,
    days: int = 30,
    properties: dict[str, str] | None = None,
) -> Iterator[SecuredBroker]:
    """A running broker; PLAIN has the user `plain` with the password `plain-secret`."""
    authority = Authority(folder)
    certificate, key = authority.issue("broker", hosts=hosts, days=days)
    keys = folder / "broker.pem"
    keys.write_bytes(key.read_bytes() + certificate.read_bytes() + authority.file.read_bytes())
    ports = {
        name: free_port()
        for name in ("PLAINTEXT", "SSL", "SASL_SSL", "SASL_PLAINTEXT", "CONTROLLER")
    }
    own = {
        **_listeners(ports),
        **_tls(keys, authority.file),
        **_logins(jwks_url),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "allow.everyone.if.no.acl.found": "true",
        **(properties or {}),
    }
    broker = Broker(folder / "broker", LIBS, ports["PLAINTEXT"], own)
    before = os.environ.get("JDK_JAVA_OPTIONS", "")
    os.environ["JDK_JAVA_OPTIONS"] = f"{before} {ALLOWED_URLS}={jwks_url}"
    try:
        broker.start()
        yield SecuredBroker(
            broker,
            authority,
            *(f"127.0.0.1:{ports[name]}" for name in ("SSL", "SASL_SSL", "SASL_PLAINTEXT")),
        )
    finally:
        os.environ["JDK_JAVA_OPTIONS"] = before
        broker.kill()


def _listeners(ports: dict[str, int]) -> dict[str, str]:
    urls = {name: f"{name}://127.0.0.1:{port}" for name, port in ports.items()}
    protocols = {name: "PLAINTEXT" if name == "CONTROLLER" else name for name in ports}
    return {
        "listeners": ",".join(urls.values()),
        "advertised.listeners": ",".join(url for name, url in urls.items() if name != "CONTROLLER"),
        "listener.security.protocol.map": ",".join(
            f"{name}:{protocol}" for name, protocol in protocols.items()
        ),
        "controller.quorum.voters": f"1@127.0.0.1:{ports['CONTROLLER']}",
    }


def _tls(keys: Path, authority: Path) -> dict[str, str]:
    return {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(keys),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(authority),
        "listener.name.ssl.ssl.client.auth": "required",
    }


def _logins(jwks_url: str) -> dict[str, str]:
    modules = {
        "plain": f'{LOGIN}.plain.PlainLoginModule required user_plain="plain-secret";',
        "scram-sha-256": f"{LOGIN}.scram.ScramLoginModule required;",
        "scram-sha-512": f"{LOGIN}.scram.ScramLoginModule required;",
        "oauthbearer": f"{LOGIN}.oauthbearer.OAuthBearerLoginModule required;",
    }
    if not jwks_url:
        del modules["oauthbearer"]
    found = {"sasl.enabled.mechanisms": ",".join(name.upper() for name in modules)}
    for listener in ("sasl_ssl", "sasl_plaintext"):
        for name, module in modules.items():
            found[f"listener.name.{listener}.{name}.sasl.jaas.config"] = module
        if jwks_url:
            found[f"listener.name.{listener}.oauthbearer.sasl.server.callback.handler.class"] = (
                f"{LOGIN}.oauthbearer.OAuthBearerValidatorCallbackHandler"
            )
    if jwks_url:
        found["sasl.oauthbearer.jwks.endpoint.url"] = jwks_url
        found["sasl.oauthbearer.expected.audience"] = "kafka"
        found["sasl.oauthbearer.expected.issuer"] = "tests"
    return found
