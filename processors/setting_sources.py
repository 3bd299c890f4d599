"""Settings from the environment and, for secrets, from files that environment variables name."""

import os
from collections.abc import Callable, Mapping
from typing import TypeVar, get_args

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from schemas.errors import Misconfigured

T = TypeVar("T", bound=BaseSettings)
MAX_SECRET_BYTES = 65_536


def settings_of(
    settings_cls: type[T], variable: Callable[[str], str], overrides: Mapping[str, object]
) -> T:
    """The settings of the environment, replaced by the overrides.

    Raises Misconfigured, which names the variable and never contains its value; also for a file that cannot be read.
    """
    try:
        return settings_cls(**{**_secrets_in_files(settings_cls), **overrides})  # type: ignore[arg-type]
    except ValidationError as fault:
        first = fault.errors(include_input=False, include_url=False)[0]
        text = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:  # of several settings together: the text names the variable
            raise Misconfigured(text) from fault
        raise Misconfigured(f"{variable(str(first['loc'][0]))}: {text}") from fault


def _secrets_in_files(settings_cls: type[BaseSettings]) -> dict[str, str]:
    """The secrets in files, as container platforms mount them: `<VARIABLE>_FILE` names the file of `<VARIABLE>`."""
    found = {}
    for name, field in settings_cls.model_fields.items():
        variable = f"{settings_cls.model_config.get('env_prefix', '')}{name}".upper()
        if _is_secret(field) and (path := os.environ.get(f"{variable}_FILE")):
            if os.environ.get(variable):
                raise Misconfigured(f"{variable}_FILE: {variable} is set, too; set only one")
            found[name] = _secret_in(path, f"{variable}_FILE")
    return found


def secret_in_environment(variable: str) -> str | None:
    """A secret of which only the catalogue of models knows the variable; `<VARIABLE>_FILE` can name its file.

    None: it is not set. Raises Misconfigured, which names the variable and never contains its value.
    """
    secret, path = os.environ.get(variable), os.environ.get(f"{variable}_FILE")
    if secret and path:
        raise Misconfigured(f"{variable}_FILE: {variable} is set, too; set only one")
    name = f"{variable}_FILE" if path else variable
    secret = _secret_in(path, name) if path else secret
    if secret and not (secret.isascii() and secret.isprintable() and " " not in secret):
        raise Misconfigured(f"{name}: it has characters that no key has")
    return secret or None


def _is_secret(field: FieldInfo) -> bool:
    return SecretStr in (field.annotation, *get_args(field.annotation))


def _secret_in(path: str, variable: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(MAX_SECRET_BYTES).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as fault:
        reason = getattr(fault, "strerror", None) or "it is no text"
        raise Misconfigured(f"{variable}: the file cannot be read: {reason}") from fault
