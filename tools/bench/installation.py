"""The machine on which a measurement runs, and the processes of its installation."""

import os
import platform
from dataclasses import dataclass

from processors.kafka.bounded_wait import result_of, wait_until
from processors.kafka.clients import admin_client
from processors.settings import Settings
from tools.jars import KAFKA_VERSION

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
