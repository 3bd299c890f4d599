"""The replicas in this machine's data folder, read without disturbing the processes that write them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from processors.settings import Settings
from schemas.coordinates import Partition, Positions
from schemas.errors import Misconfigured
from tables.context import FOLD_VERSION
from tables.store import RocksStore

CACHE_MB = 8


@dataclass(frozen=True, slots=True)
class LocalReplica:
    """A replica's folder and what its metadata says: the positions of its rows, the topic ids and the fold version."""

    folder: Path
    positions: Positions
    topic_ids: dict[str, str]
    fold_version: str


@contextmanager
def open_read_only(folder: Path) -> Iterator[RocksStore]:
    """A replica's rows as they were last flushed. Raises Misconfigured."""
    store = RocksStore.open_read_only(folder, cache_mb=CACHE_MB)
    try:
        yield store
    finally:
        store.close()


def replica_at(folder: Path) -> LocalReplica:
    """The replica in a process's folder or in its subfolder `replica`. Raises Misconfigured."""
    subfolder = folder / "replica"
    store_folder = subfolder if subfolder.is_dir() else folder
    if not (store_folder / "CURRENT").is_file():  # every RocksDB folder has this file
        raise Misconfigured(f"no replica to read in {folder}")
    with open_read_only(store_folder) as store:
        metadata = {name: value.decode() for name, value in store.metadata().items()}
    return LocalReplica(
        store_folder,
        {
            _partition(name.removeprefix("position:")): int(value)
            for name, value in metadata.items()
            if name.startswith("position:")
        },
        {
            name.removeprefix("topic_id:"): value
            for name, value in metadata.items()
            if name.startswith("topic_id:")
        },
        metadata.get("fold_version", str(FOLD_VERSION)),
    )


def readable_replicas(settings: Settings) -> list[LocalReplica]:
    """The readable replicas of this installation's workers and API processes."""
    found = list[LocalReplica]()
    for kind in ("worker", "api"):
        for folder in sorted(settings.data_dir.glob(f"{settings.topic_prefix}{kind}-*")):
            try:
                found.append(replica_at(folder))
            except Misconfigured:
                continue  # never written, or being deleted
    return found


def recreated_topics(settings: Settings, topic_ids: dict[str, str]) -> set[str]:
    """The topics whose id is not the one that a replica here was folded from."""
    return {
        name
        for replica in readable_replicas(settings)
        for name, known in replica.topic_ids.items()
        if topic_ids.get(name, known) != known
    }


def _partition(name: str) -> Partition:
    topic, _, partition = name.rpartition("/")
    return Partition(topic, int(partition))
