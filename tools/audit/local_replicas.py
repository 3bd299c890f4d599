"""The replicas that lie in this machine's data folder, read without disturbing the processes that feed them."""

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
    """What a replica's folder says of itself; its rows stand at these positions."""

    folder: Path
    positions: Positions
    topic_ids: dict[str, str]
    fold_version: str


@contextmanager
def opened(folder: Path) -> Iterator[RocksStore]:
    """A replica's rows as they were last flushed. Raises Misconfigured."""
    store = RocksStore.as_it_stands(folder, cache_mb=CACHE_MB)
    try:
        yield store
    finally:
        store.close()


def replica_at(folder: Path) -> LocalReplica:
    """The replica in a folder: a process's own folder, or the one called replica in it. Raises Misconfigured."""
    inner = folder / "replica"
    place = inner if inner.is_dir() else folder
    if not (place / "CURRENT").is_file():  # the file that makes a folder a store
        raise Misconfigured(f"no replica to read in {folder}")
    with opened(place) as store:
        notes = {name: value.decode() for name, value in store.notes().items()}
    return LocalReplica(
        place,
        {
            _partition(name.removeprefix("position:")): int(value)
            for name, value in notes.items()
            if name.startswith("position:")
        },
        {
            name.removeprefix("topic_id:"): value
            for name, value in notes.items()
            if name.startswith("topic_id:")
        },
        notes.get("fold_version", str(FOLD_VERSION)),
    )


def replicas_here(settings: Settings) -> list[LocalReplica]:
    """Those of this installation's workers and API processes that can be read."""
    found = list[LocalReplica]()
    for kind in ("worker", "api"):
        for folder in sorted(settings.data_dir.glob(f"{settings.topic_prefix}{kind}-*")):
            try:
                found.append(replica_at(folder))
            except Misconfigured:
                continue  # one that was never written, or is being deleted
    return found


def made_anew(settings: Settings, topic_ids: dict[str, str]) -> set[str]:
    """The topics that some replica here was folded from, but that now have another id."""
    return {
        name
        for replica in replicas_here(settings)
        for name, known in replica.topic_ids.items()
        if topic_ids.get(name, known) != known
    }


def _partition(name: str) -> Partition:
    topic, _, partition = name.rpartition("/")
    return Partition(topic, int(partition))
