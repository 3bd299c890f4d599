"""The address of the admin API, for commands of the same data folder: where it listens, or last listened."""

from contextlib import suppress

from processors.addresses import client_url
from processors.settings import Settings, settings_from_environment
from schemas.errors import Misconfigured

DEFAULT_URL = "http://localhost:9095"
FILE = "api.url"


def record_address(settings: Settings) -> None:
    """Leave the API's URL in its data folder. It stays there: else commands might reach another installation's API."""
    file = settings.data_dir / FILE
    with suppress(OSError):  # a folder that cannot be written to is reported where it is needed
        partial = file.with_name(f".{FILE}.{settings.api_port}")
        partial.write_text(client_url(settings.api_host, settings.api_port), "utf-8")
        partial.replace(file)


def api_url() -> str:
    """The URL in the settings of the environment, else that of this data folder, else the default."""
    try:
        settings = settings_from_environment()
    except Misconfigured:  # of a setting that has nothing to do with the call
        return DEFAULT_URL
    if settings.model_fields_set & {"api_host", "api_port"}:
        return client_url(settings.api_host, settings.api_port)
    try:
        return (settings.data_dir / FILE).read_text("utf-8").strip() or DEFAULT_URL
    except (OSError, UnicodeDecodeError):
        return DEFAULT_URL
