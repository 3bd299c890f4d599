"""A temporary installation of cjstream: an embedded broker with the topics, and a folder."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from processors.addresses import loopback_host
from processors.kafka.offsets import high_watermarks_when_reachable
from processors.settings import Settings, settings_from_environment
from tools import topics
from tools.broker import Broker
from tools.end_signals import exit_on_end_signals
from tools.processes import Say


@contextmanager
def installation(say: Say, **changes: object) -> Iterator[Settings]:
    """The environment's settings with these changes and a new broker and folder; both are deleted after the block."""
    with installation_and_broker(say, **changes) as (settings, _):
        yield settings


@contextmanager
def installation_and_broker(say: Say, **changes: object) -> Iterator[tuple[Settings, Broker]]:
    """The same with its broker, for a measurement of the broker's process."""
    exit_on_end_signals()
    base = settings_from_environment()
    with (
        tempfile.TemporaryDirectory(prefix="cjstream-") as folder,
        Broker.temporary(base.data_dir) as broker,
    ):
        own = {
            "bootstrap_servers": broker.bootstrap,
            "data_dir": Path(folder),
            "content_url": (Path(folder) / "content").as_uri(),
            "slot": "",
            "api_host": loopback_host(),
            "required_roles": ("instructions", "student_prompt"),
        }
        settings = base.model_copy(update={**own, **changes})
        say(f"Kafka answers on {broker.bootstrap}: creating the topics")
        topics.apply(settings, wait_s=0)
        high_watermarks_when_reachable(settings, settings.partitions_of(*settings.topics.all))
        yield settings, broker
