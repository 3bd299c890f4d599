"""The security settings as the clients take them: librdkafka's properties, aiokafka's arguments."""

import ssl
from pathlib import Path
from typing import Any

from processors.kafka.oauth_tokens import OAuthTokens
from processors.kafka_security import KafkaSecurity, security_variable
from processors.tls import secret_text, tls_context


def librdkafka_security(security: KafkaSecurity) -> dict[str, Any]:
    """librdkafka's properties. Raises Misconfigured if a file of the settings cannot be used."""
    if security.encrypts:
        ssl_context(security)  # its errors name the file, librdkafka's do not
    properties = {
        "security.protocol": security.security_protocol.lower(),
        "ssl.ca.location": _text(security.ssl_ca_file),
        "ssl.certificate.location": _text(security.ssl_certificate_file),
        "ssl.key.location": _text(security.ssl_key_file),
        "ssl.key.password": secret_text(security.ssl_key_password),
        "ssl.endpoint.identification.algorithm": None if security.ssl_check_hostname else "none",
        "sasl.mechanism": security.sasl_mechanism,
        "sasl.username": security.sasl_username,
        "sasl.password": secret_text(security.sasl_password),
    }
    if security.sasl_mechanism == "OAUTHBEARER":
        properties |= {
            "sasl.oauthbearer.method": "oidc",
            "sasl.oauthbearer.token.endpoint.url": security.oauth_token_url,
            "sasl.oauthbearer.client.id": security.oauth_client_id,
            "sasl.oauthbearer.client.secret": secret_text(security.oauth_client_secret),
            "sasl.oauthbearer.scope": security.oauth_scope,
        }
    return {name: value for name, value in properties.items() if value is not None}


def aiokafka_security(security: KafkaSecurity) -> dict[str, Any]:
    """aiokafka's arguments. Raises Misconfigured if a file of the settings cannot be used."""
    arguments: dict[str, Any] = {"security_protocol": security.security_protocol}
    if security.encrypts:
        arguments["ssl_context"] = ssl_context(security)
    if security.sasl_mechanism == "OAUTHBEARER":
        arguments["sasl_mechanism"] = security.sasl_mechanism
        arguments["sasl_oauth_token_provider"] = OAuthTokens(security)
    elif security.sasl_mechanism is not None:
        arguments["sasl_mechanism"] = security.sasl_mechanism
        arguments["sasl_plain_username"] = security.sasl_username
        arguments["sasl_plain_password"] = secret_text(security.sasl_password)
    return arguments


def ssl_context(security: KafkaSecurity) -> ssl.SSLContext:
    """A TLS context of these settings. Raises Misconfigured, which names the setting of a file that cannot be used."""
    context = tls_context(security, security_variable)
    context.check_hostname = security.ssl_check_hostname
    return context


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
