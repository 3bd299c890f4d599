"""The security settings: contradictions, secrets in files, and files that clients cannot use."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from processors.kafka.clients import admin_client, aiokafka_config, common_config
from processors.kafka.security import ssl_context
from processors.kafka_security import KafkaSecurity
from processors.settings import Settings, settings_from_environment
from schemas.errors import Misconfigured
from tests.support.certificates import Authority
from tests.support.run_command import run_main

SECRET = "not to be shown"
SCRAM = {
    "SECURITY_PROTOCOL": "SASL_SSL",
    "SASL_MECHANISM": "SCRAM-SHA-512",
    "SASL_USERNAME": "cjstream",
    "SASL_PASSWORD": SECRET,
}


def run(changes: dict[str, str | None], *command: str) -> tuple[int, str]:
    """A command with SCRAM's variables and these changes: its exit code and everything that it printed."""
    variables = {
        f"CJSTREAM_KAFKA_{name}": value
        for name, value in {**SCRAM, **changes}.items()
        if value is not None
    }
    variables["CJSTREAM_BOOTSTRAP_SERVERS"] = "127.0.0.1:1"
    exit_code, out, err = run_main(variables, *(command or ("topics", "list")))
    return exit_code, out + err


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"SECURITY_PROTOCOL": "TLS"}, "SECURITY_PROTOCOL"),
        ({"SECURITY_PROTOCOL": None}, "has no effect unless CJSTREAM_KAFKA_SECURITY_PROTOCOL is"),
        ({"SASL_MECHANISM": None}, "SASL_MECHANISM: needed"),
        ({"SASL_MECHANISM": "GSSAPI"}, "SASL_MECHANISM"),
        ({"SASL_USERNAME": None}, "SASL_USERNAME: needed for SCRAM-SHA-512"),
        ({"SASL_PASSWORD": None}, "SASL_PASSWORD: needed for SCRAM-SHA-512"),
        ({"SASL_PASSWORD": ""}, "SASL_PASSWORD: needed for SCRAM-SHA-512"),
        ({"SASL_MECHANISM": "OAUTHBEARER"}, "OAUTH_TOKEN_URL: needed for OAUTHBEARER"),
        ({"OAUTH_SCOPE": "kafka"}, "OAUTH_SCOPE: has no effect unless"),
        ({"OAUTH_TOKEN_URL": "ftp://x/token"}, "OAUTH_TOKEN_URL"),
        ({"SSL_KEY_FILE": "/x"}, "SSL_CERTIFICATE_FILE: needed"),
        ({"SSL_CERTIFICATE_FILE": "/x"}, "SSL_KEY_FILE: needed"),
        ({"SSL_KEY_PASSWORD": SECRET}, "SSL_KEY_FILE: needed"),
        ({"SSL_CHECK_HOSTNAME": "perhaps"}, "SSL_CHECK_HOSTNAME"),
        (
            {"SECURITY_PROTOCOL": "SASL_PLAINTEXT", "SSL_CA_FILE": "/x"},
            "SSL_CA_FILE: has no effect unless",
        ),
        ({"SASL_PASSWORD_FILE": "/x"}, "SASL_PASSWORD_FILE: CJSTREAM_KAFKA_SASL_PASSWORD is set"),
        ({"SASL_PASSWORD": None, "SASL_PASSWORD_FILE": "/nowhere"}, "the file cannot be read"),
        ({"SSL_CA_FILE": "/nowhere"}, "SSL_CA_FILE: not a file of PEM certificates: No such file"),
    ],
)
def test_settings_that_contradict_each_other_are_named_and_their_values_are_not(
    changes: dict[str, str | None], named: str
) -> None:
    exit_code, printed = run(changes)
    assert exit_code == 2, printed
    assert named in printed
    assert SECRET not in printed
    assert len(printed.splitlines()) == 1


def test_a_password_comes_from_a_file_and_is_shown_by_nothing(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{SECRET}\n")
    exit_code, printed = run({"SASL_PASSWORD": None, "SASL_PASSWORD_FILE": str(file)}, "doctor")
    assert exit_code == 4, printed  # no broker, but the settings are complete
    assert SECRET not in printed
    security = KafkaSecurity(
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="PLAIN",
        sasl_username="u",
        sasl_password=SecretStr(SECRET),
    )
    settings = Settings(kafka=security)
    assert SECRET not in f"{settings!r}{settings}{settings.model_dump_json()}"
    assert common_config(settings)["sasl.password"] == SECRET
    assert aiokafka_config(settings)["sasl_plain_password"] == SECRET


def test_names_of_protocols_and_mechanisms_may_be_written_in_lower_case() -> None:
    security = KafkaSecurity.model_validate(
        {
            "security_protocol": "sasl_plaintext",
            "sasl_mechanism": "plain",
            "sasl_username": "u",
            "sasl_password": "p",
        }
    )
    assert (security.security_protocol, security.sasl_mechanism) == ("SASL_PLAINTEXT", "PLAIN")


def test_files_that_clients_cannot_use_are_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("client", "right")
    other, _ = authority.issue("other")
    text = tmp_path / "text.pem"
    text.write_text("no certificate")
    right = {
        "security_protocol": "SSL",
        "ssl_ca_file": authority.file,
        "ssl_certificate_file": certificate,
        "ssl_key_file": key,
        "ssl_key_password": "right",
    }
    admin_client(Settings(kafka=KafkaSecurity.model_validate(right)))
    for change, named in (
        ({"ssl_ca_file": text}, "SSL_CA_FILE"),
        ({"ssl_ca_file": tmp_path}, "SSL_CA_FILE"),
        ({"ssl_certificate_file": text}, "SSL_CERTIFICATE_FILE"),
        ({"ssl_certificate_file": other}, "SSL_CERTIFICATE_FILE"),
        ({"ssl_key_password": "wrong"}, "SSL_CERTIFICATE_FILE"),
        ({"ssl_key_password": None}, "SSL_CERTIFICATE_FILE"),
    ):
        security = KafkaSecurity.model_validate({**right, **change})
        with pytest.raises(Misconfigured, match=f"CJSTREAM_KAFKA_{named}: not a"):
            ssl_context(security)
        with pytest.raises(Misconfigured):
            admin_client(Settings(kafka=security))


def test_without_variables_nothing_is_encrypted_and_nobody_signs_in() -> None:
    settings = settings_from_environment()
    assert common_config(settings)["security.protocol"] == "plaintext"
    assert not {name for name in common_config(settings) if name.startswith(("ssl.", "sasl."))}


def test_the_embedded_broker_is_refused_with_security_settings() -> None:
    exit_code, printed = run({}, "broker", "start")
    assert exit_code == 2
    assert "CJSTREAM_KAFKA_SECURITY_PROTOCOL: the embedded broker has no TLS" in printed
