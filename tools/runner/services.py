"""The services of a run, made from the settings: the admin API, its content routes, the codec, the cache."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from processors.http_clients import http_client
from processors.registry.registry_codec import codec_for
from processors.settings import Settings
from tools.admin.api import AdminApi
from tools.api_address import api_url
from tools.runner.content_client import content_client
from tools.runner.runner_log import RunLog
from tools.runner.steps import Services
from tools.runner.uploads import ChecksumCache

API_TIMEOUT_S = 30.0
CACHE = Path("runner") / "uploads.json"  # in the data folder
Reached = Callable[[str], None]


def ignore(_point: str) -> None:
    """For runs that nobody kills on purpose."""


@contextmanager
def connected(
    settings: Settings, base_url: str | None, log: RunLog, reached: Reached = ignore
) -> Iterator[Services]:
    """The services, with HTTP connections that stay open. Raises Usage for a bad URL."""
    address = base_url or api_url()
    with (
        AdminApi.from_environment(address, API_TIMEOUT_S, as_json=True).connected() as api,
        http_client(api.base_url) as client,
    ):
        yield Services(
            settings=settings,
            codec=codec_for(settings),
            api=api,
            content=content_client(api, client),
            cache=ChecksumCache(settings.data_dir / CACHE),
            log=log,
            reached=reached,
        )
