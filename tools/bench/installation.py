"""Where a measurement happens: a broker, a folder and topics of its own, and what of the machine a figure rests on."""

import os
import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from processors.kafka.bounded_wait import result_of, wait_until
from processors.kafka.clients import admin_client
from processors.kafka.offsets import high_watermarks_when_reachable
from processors.kafka.partitions import partitions_of
from processors.settings import Settings, settings_from_environment
from tools import topics
from tools.broker import Broker
from tools.jars import KAFKA_VERSION
from tools.processes import Say, end_on_sigterm

WAIT_S = 120.0  # for anything, before a measurement gives up


@dataclass(frozen=True, slots=True)
class Machine:
    """What to say beside a figure; load is the system's over the last minute, before anything was started."""

    system: str
    cores: int | None
    load: float
    python: str
    kafka: str


def this_machine() -> Machine:
    """The machine as it is now."""
    return Machine(
        f"{platform.system()} {platform.machine()}",
        os.cpu_count(),
        round(os.getloadavg()[0], 1),
        platform.python_version(),
        KAFKA_VERSION,
    )


@contextmanager
def installation(tell: Say, **overrides: object) -> Iterator[Settings]:
    """The environment's settings, but on a broker and in a folder of their own; both are gone afterwards."""
    end_on_sigterm()
    given = settings_from_environment()
    with (
        tempfile.TemporaryDirectory(prefix="cjstream-bench-") as folder,
        Broker.temporary(given.data_dir) as broker,
    ):
        own = {
            "bootstrap_servers": broker.bootstrap,
            "data_dir": Path(folder),
            "content_url": (Path(folder) / "content").as_uri(),
            "slot": "",
            "required_roles": ("instructions", "student_prompt"),
            **overrides,
        }
        settings = given.model_copy(update=own)
        tell(f"Kafka answers on {broker.bootstrap}: making the topics")
        topics.apply(settings, wait_s=0)
        high_watermarks_when_reachable(
            settings, partitions_of((one.name for one in settings.topics.all), settings)
        )
        yield settings


def process_of(settings: Settings, name: str, **own: object) -> Settings:
    """The settings of one process of the installation, in a folder of its own."""
    folder = settings.data_dir / name
    folder.mkdir()
    return settings.model_copy(update={"data_dir": folder, **own})


def wait_until_shared(settings: Settings, workers: int) -> None:
    """Wait until just so many workers have all request partitions among them, and each of them some."""
    admin, group = admin_client(settings), settings.prep_group

    def is_shared() -> bool:
        members = result_of(admin.describe_consumer_groups([group])[group]).members
        held = [len(one.assignment.topic_partitions) if one.assignment else 0 for one in members]
        return len(held) == workers and all(held) and sum(held) == settings.partitions

    what = f"{workers} workers to have all partitions"
    wait_until(is_shared, seconds=WAIT_S, what=what, every_s=0.2)
