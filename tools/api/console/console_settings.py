"""The CONSOLE_… settings: how people sign in, and the key that encrypts their cookies."""

from typing import Self

from pydantic import Field, HttpUrl, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from processors.setting_sources import settings_of

MIN_KEY_BYTES = 32


class ConsoleSettings(BaseSettings):
    """How the console signs people in; `CONSOLE_KEY=…` sets `key`. An empty variable counts as unset."""

    model_config = SettingsConfigDict(env_prefix="CONSOLE_", frozen=True, env_ignore_empty=True)

    enabled: bool = Field(True, description="whether the API serves the console")
    key: SecretStr | None = Field(
        None,
        description="secret that encrypts the cookies; at least 32 bytes, the same for every API process."
        " Unset: sessions end with the process",
    )
    oidc_issuer: HttpUrl | None = Field(
        None,
        description="issuer of OpenID Connect; its access tokens must be those that the API accepts",
    )
    oidc_client_id: str | None = Field(None, description="client id at the issuer")
    oidc_client_secret: SecretStr | None = Field(
        None, description="client secret, if the issuer gave one"
    )
    oidc_scopes: str = Field("openid", description="scopes to ask for, separated by spaces")
    identity_url: HttpUrl | None = Field(
        None,
        description="base URL of an identity service with /login, if there is no OpenID Connect",
    )

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        if (self.oidc_issuer is None) != (self.oidc_client_id is None):
            raise ValueError("CONSOLE_OIDC_ISSUER and CONSOLE_OIDC_CLIENT_ID: set both or neither")
        if self.oidc_issuer is not None and self.identity_url is not None:
            raise ValueError("CONSOLE_IDENTITY_URL: CONSOLE_OIDC_ISSUER is set, too; set only one")
        if self.key is not None and len(self.key.get_secret_value().encode()) < MIN_KEY_BYTES:
            raise ValueError(f"CONSOLE_KEY: the minimum is {MIN_KEY_BYTES} bytes")
        return self


def console_settings(**overrides: object) -> ConsoleSettings:
    """The settings of the environment, with `overrides` applied. Raises Misconfigured, which names the variable."""
    return settings_of(ConsoleSettings, lambda name: f"CONSOLE_{name.upper()}", overrides)
