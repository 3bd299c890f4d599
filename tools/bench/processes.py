"""The worker and API processes of a measurement."""

from processors.kafka.bounded_wait import result_of, wait_until
from processors.kafka.clients import admin_client
from processors.settings import Settings

WAIT_S = 120.0  # the longest wait for anything before a measurement fails


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
