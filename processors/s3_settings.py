"""The S3 service of the content store, and how clients sign in: environment variables `CJSTREAM_S3_<NAME>`."""

import os
from collections.abc import Mapping
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from processors.tls import secret_text

PREFIX = "CJSTREAM_S3_"
SCHEMES = ("s3://", "s3a://")
AWS_CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
AWS_ENDPOINTS = ("AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")


class S3Settings(BaseSettings):
    """The frozen settings; secrets can also be files, `CJSTREAM_S3_SECRET_ACCESS_KEY_FILE=…`.

    What is unset comes from the variables and roles of AWS, as in other programs.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True
    )

    endpoint: str | None = Field(
        None, description="URL of a service that is not Amazon's, such as https://s3.example:9000"
    )
    region: str | None = Field(None, description="region of the bucket")
    path_style: bool = Field(
        True,
        description="if true, the bucket is in the path; if false, it is a name before the host's",
    )
    access_key_id: str | None = Field(None, description="access key that signs requests")
    secret_access_key: SecretStr | None = Field(None, description="its secret")
    session_token: SecretStr | None = Field(None, description="token of temporary credentials")

    @field_validator("endpoint")
    @classmethod
    def _is_origin(cls, endpoint: str | None) -> str | None:
        if endpoint is None:
            return None
        try:
            parts = urlsplit(endpoint)
            is_origin = parts.hostname and "@" not in parts.netloc and (parts.port is None or True)
        except ValueError:
            is_origin = None
        if (
            not is_origin
            or parts.scheme not in ("http", "https")
            or parts.path.strip("/")
            or parts.query
            or parts.fragment
        ):
            raise ValueError("must be http:// or https://, a host and perhaps a port")
        return endpoint.rstrip("/")

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            missing = "access_key_id" if self.access_key_id is None else "secret_access_key"
            raise _fault(missing, "needed: an access key and its secret go together")
        if self.session_token is not None and self.access_key_id is None:
            raise _fault("access_key_id", "needed: a session token is set")
        if self.access_key_id is not None:
            _refuse("access_key_id", AWS_CREDENTIALS)
        if self.endpoint is not None:
            _refuse("endpoint", AWS_ENDPOINTS)
        return self

    def check_fits(self, url: str) -> None:
        """Raise ValueError, which names the variable, if a setting contradicts the content store's URL."""
        if not url.startswith(SCHEMES):
            for name in sorted(self.model_fields_set):
                raise _fault(name, "has no effect unless CJSTREAM_CONTENT_URL starts with s3://")

    def options(self, url: str) -> Mapping[str, str]:
        """These settings by the names that obstore gives them; the URL names the bucket."""
        bucket, endpoint = urlsplit(url).netloc, self.endpoint
        if endpoint is not None and not self.path_style:
            endpoint = endpoint.replace("://", f"://{bucket}.", 1)
        options = {
            "endpoint": endpoint,
            "region": self.region,
            "access_key_id": self.access_key_id,
            "secret_access_key": secret_text(self.secret_access_key),
            "session_token": secret_text(self.session_token),
            "virtual_hosted_style_request": None if self.path_style else "true",
        }
        return {name: value for name, value in options.items() if value is not None}


def s3_variable(name: str) -> str:
    """The environment variable of a setting of this group."""
    return PREFIX + name.upper()


def _refuse(name: str, foreign: tuple[str, ...]) -> None:
    """Two sources of one thing would be mixed, such as a key of one with the token of another."""
    for variable in foreign:
        if os.environ.get(variable):
            raise _fault(name, f"{variable} is set, too; set only one")


def _fault(name: str, what: str) -> ValueError:
    return ValueError(f"{s3_variable(name)}: {what}")
