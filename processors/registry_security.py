"""How the client of a schema registry encrypts and signs in: environment variables `SCHEMA_REGISTRY_<NAME>`."""

from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from processors.tls import check_client_certificate

PREFIX = "SCHEMA_REGISTRY_"
REGISTRY_VARIABLE = f"{PREFIX}URL"  # without our prefix: other programs read it, too


class RegistrySecurity(BaseSettings):
    """The frozen settings; secrets can also be files, `SCHEMA_REGISTRY_PASSWORD_FILE=…`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True
    )

    username: str | None = Field(None, description="user for basic auth, or the name of an API key")
    password: SecretStr | None = Field(None, description="its password, or the secret of the key")
    ssl_ca_file: Path | None = Field(
        None, description="PEM certificates that sign the registry's; unset: those of the system"
    )
    ssl_certificate_file: Path | None = Field(
        None, description="PEM certificate of this client, with its chain"
    )
    ssl_key_file: Path | None = Field(None, description="PEM key of that certificate")
    ssl_key_password: SecretStr | None = Field(None, description="password of an encrypted key")

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if (self.username is None) != (self.password is None):
            missing = "password" if self.password is None else "username"
            raise ValueError(f"{registry_variable(missing)}: needed: user and password go together")
        check_client_certificate(self, registry_variable)
        return self

    def check_fits(self, url: str) -> None:
        """Raise ValueError, which names the variable, if a setting contradicts the registry's URL."""
        for name in sorted(self.model_fields_set):
            if not url:
                raise _fault(name, f"has no effect unless {REGISTRY_VARIABLE} is set")
            if name.startswith("ssl_") and not url.startswith("https:"):
                raise _fault(name, f"has no effect unless {REGISTRY_VARIABLE} starts with https://")
            if name == "username" and "@" in urlsplit(url).netloc:
                raise _fault(name, f"{REGISTRY_VARIABLE} has a user, too; set only one")


def registry_variable(name: str) -> str:
    """The environment variable of a setting of this group."""
    return PREFIX + name.upper()


def _fault(name: str, what: str) -> ValueError:
    return ValueError(f"{registry_variable(name)}: {what}")
