"""How every client of Kafka encrypts and signs in, read from environment variables `CJSTREAM_KAFKA_<NAME>`."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from processors.tls import check_client_certificate

PREFIX = "CJSTREAM_KAFKA_"


class KafkaSecurity(BaseSettings):
    """The frozen security settings; secrets can also be files, `CJSTREAM_KAFKA_SASL_PASSWORD_FILE=…`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True
    )

    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="the protocol of the listener at CJSTREAM_BOOTSTRAP_SERVERS"
    )
    ssl_ca_file: Path | None = Field(
        None, description="PEM certificates that sign the brokers'; unset: those of the system"
    )
    ssl_certificate_file: Path | None = Field(
        None, description="PEM certificate of this client, with its chain"
    )
    ssl_key_file: Path | None = Field(None, description="PEM key of that certificate")
    ssl_key_password: SecretStr | None = Field(None, description="password of an encrypted key")
    ssl_check_hostname: bool = Field(
        True, description="whether a broker's certificate must name its host"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None = (
        Field(None, description="how clients sign in")
    )
    sasl_username: str | None = Field(None, description="user for PLAIN and SCRAM")
    sasl_password: SecretStr | None = Field(None, description="its password")
    oauth_token_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s@]+$",
        description="token endpoint for OAUTHBEARER (client credentials)",
    )
    oauth_client_id: str | None = Field(None, description="client id at that endpoint")
    oauth_client_secret: SecretStr | None = Field(None, description="its secret")
    oauth_scope: str | None = Field(None, description="scope to request there")

    @field_validator("security_protocol", "sasl_mechanism", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        signs_in = self.security_protocol.startswith("SASL_")
        if signs_in and self.sasl_mechanism is None:
            raise _fault("sasl_mechanism", f"needed, as the protocol is {self.security_protocol}")
        for name in self.model_fields_set - {"security_protocol"}:
            if name.startswith("ssl_") and not self.encrypts:
                raise _fault(name, _needs("security_protocol", "SSL or SASL_SSL"))
            if name.startswith(("sasl_", "oauth_")) and not signs_in:
                raise _fault(name, _needs("security_protocol", "SASL_SSL or SASL_PLAINTEXT"))
            if name.startswith("oauth_") and self.sasl_mechanism != "OAUTHBEARER":
                raise _fault(name, _needs("sasl_mechanism", "OAUTHBEARER"))
        needed: tuple[str, ...] = ("sasl_username", "sasl_password")
        if self.sasl_mechanism == "OAUTHBEARER":
            needed = ("oauth_token_url", "oauth_client_id", "oauth_client_secret")
        for name in needed if signs_in else ():
            if getattr(self, name) is None:
                raise _fault(name, f"needed for {self.sasl_mechanism}")
        check_client_certificate(self, security_variable)
        return self

    @property
    def encrypts(self) -> bool:
        """Whether connections use TLS."""
        return self.security_protocol.endswith("SSL")


def security_variable(name: str) -> str:
    """The environment variable of a security setting."""
    return PREFIX + name.upper()


def _needs(name: str, value: str) -> str:
    return f"has no effect unless {security_variable(name)} is {value}"


def _fault(name: str, what: str) -> ValueError:
    return ValueError(f"{security_variable(name)}: {what}")
