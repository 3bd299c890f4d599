"""The replicas in this machine's data folder, read without disturbing the processes that write them."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from processors.settings import Settings
from schemas.errors import Misconfigured
from tables.replica import ReplicaMetadata, read_metadata
from tables.store import RocksStore

CACHE_MB = 8


@dataclass(frozen=True, slots=True)
class LocalReplica:
    """A replica's folder and its metadata."""

    folder: Path
    metadata: ReplicaMetadata


@contextmanager
def open_read_only(folder: Path) -> Iterator[RocksStore]:
    """A replica's rows as they were last flushed. Raises Misconfigured."""
    store = RocksStore.open_read_only(folder, what="the replica", cache_mb=CACHE_MB)
    with closing(store):
        yield store


def replica_at(folder: Path) -> LocalReplica:
    """The replica in a process's folder or in its subfolder `replica`. Raises Misconfigured."""
    subfolder = folder / "replica"
    store_folder = subfolder if subfolder.is_dir() else folder
    if not (store_folder / "CURRENT").is_file():  # every RocksDB folder has this file
        raise Misconfigured(f"no replica to read in {folder}")
    with open_read_only(store_folder) as store:
        return LocalReplica(store_folder, read_metadata(store))


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
        for name, known in replica.metadata.topic_ids.items()
        if topic_ids.get(name, known) != known
    }
