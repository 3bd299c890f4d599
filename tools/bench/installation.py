"""The broker, folder and topics of a measurement, and the machine on which it runs."""

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

WAIT_S = 120.0  # the longest wait for anything before a measurement fails


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine of a measurement; load is the load average of the last minute before anything was started."""

    system: str
    cores: int | None
    load: float
    python: str
    kafka: str


def this_machine() -> Machine:
    """The machine and its current load."""
    return Machine(
        f"{platform.system()} {platform.machine()}",
        os.cpu_count(),
        round(os.getloadavg()[0], 1),
        platform.python_version(),
        KAFKA_VERSION,
    )


@contextmanager
def installation(say: Say, **overrides: object) -> Iterator[Settings]:
    """The environment's settings with a new broker and folder; both are deleted after the block."""
    end_on_sigterm()
    base = settings_from_environment()
    with (
        tempfile.TemporaryDirectory(prefix="cjstream-bench-") as folder,
        Broker.temporary(base.data_dir) as broker,
    ):
        changes = {
            "bootstrap_servers": broker.bootstrap,
            "data_dir": Path(folder),
            "content_url": (Path(folder) / "content").as_uri(),
            "slot": "",
            "required_roles": ("instructions", "student_prompt"),
            **overrides,
        }
        settings = base.model_copy(update=changes)
        say(f"Kafka runs at {broker.bootstrap}; creating the topics")
        topics.apply(settings, wait_s=0)
        high_watermarks_when_reachable(
            settings, partitions_of((topic.name for topic in settings.topics.all), settings)
        )
        yield settings


def process_settings(settings: Settings, name: str, **changes: object) -> Settings:
    """The settings of one process of the installation, with its own folder."""
    folder = settings.data_dir / name
    folder.mkdir()
    return settings.model_copy(update={"data_dir": folder, **changes})


def wait_until_assigned(settings: Settings, workers: int) -> None:
    """Wait until exactly that many workers are in the group, each has a request partition, and none is unassigned."""
    admin, group = admin_client(settings), settings.prep_group

    def is_assigned() -> bool:
        members = result_of(admin.describe_consumer_groups([group])[group]).members
        counts = [
            len(member.assignment.topic_partitions) if member.assignment else 0
            for member in members
        ]
        return len(counts) == workers and all(counts) and sum(counts) == settings.partitions

    what = f"{workers} workers to have all partitions"
    wait_until(is_assigned, seconds=WAIT_S, what=what, every_s=0.2)
