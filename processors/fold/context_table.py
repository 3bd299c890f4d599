"""The Faust table of contexts, whose changelog is the published view.

Faust assigns its partitions and recovers them from the changelog. Rows are written here: into the store in one batch,
then into the changelog by librdkafka, in this order and by one thread, so that the newest row of a key in the
changelog is always the last one that was written. Faust's own writes take several hundred microseconds a row.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar, cast

import faust
from rocksdict import Rdict, WriteBatch

from processors.fold.changelog_producer import ChangelogProducer, Rows
from schemas.errors import StoreFailed

T = TypeVar("T")
MIB = 1024 * 1024
REVOCATION_S = 2.0  # how long a revocation waits for rows that are being published


class PartitionLost(Exception):
    """The partition is no longer assigned to this worker."""


class ContextTable(faust.Table[bytes, bytes]):
    """The rows by scope key. Reading it as a mapping is not supported: the context replica has every row."""

    def __init__(self, app: faust.App, changelog: ChangelogProducer, **options: Any) -> None:
        super().__init__(app, **options, options=_store_options())
        self.changelog = changelog
        self._thread = ThreadPoolExecutor(1, "fold")
        app.on_partitions_revoked.connect(self._on_partitions_revoked, weak=False)

    async def in_thread(self, step: Callable[..., T], *arguments: Any) -> T:
        """Run a step on the only thread that may call `write`, after those that were passed before."""
        if self.changelog.is_stopped:
            raise asyncio.CancelledError
        return await asyncio.get_running_loop().run_in_executor(self._thread, step, *arguments)

    def write(self, partition: int, rows: Rows, generation: int) -> None:
        """Store and publish rows; returns once the broker has acknowledged them.

        Raises PartitionLost, StoreFailed, Unreachable.
        """
        if not rows:
            return
        batch = WriteBatch(raw_mode=True)
        for key, row in rows.items():
            if row is None:
                batch.delete(key)
            else:
                batch.put(key, row)
        _in_store(self._open_store(partition).write, batch)
        self.publish(partition, rows, generation)

    def publish(self, partition: int, rows: Rows, generation: int) -> None:
        """Publish rows, whatever the table has; returns once the broker has acknowledged them."""
        end = self.changelog.publish(partition, rows, generation)
        # the recovery of this partition continues behind these rows
        offset_key = cast(Any, self.data).offset_key
        _in_store(self._open_store(partition).put, offset_key, str(end - 1).encode())

    def _open_store(self, partition: int) -> Rdict:
        """The store of an assigned partition. Keep no reference: Faust closes a store by dropping its own."""
        store = cast(Any, self.data)._dbs.get(partition)  # noqa: SLF001
        if store is None:
            raise PartitionLost
        return cast(Rdict, store)

    async def _on_partitions_revoked(self, *_: Any, **__: Any) -> None:
        with suppress(RuntimeError):  # the table was stopped
            await asyncio.to_thread(self.changelog.wait_until_idle, REVOCATION_S)

    async def on_stop(self) -> None:
        """Stop the thread, also while it waits for acknowledgements."""
        self.changelog.stop()
        self._thread.shutdown(wait=False, cancel_futures=True)
        await super().on_stop()


def _in_store(step: Callable[..., None], *arguments: Any) -> None:
    try:
        step(*arguments)
    except Exception as fault:  # rocksdict raises plain Exceptions
        raise StoreFailed("the table", fault) from fault


def _store_options() -> dict[str, Any]:
    return {  # Faust removes keys from it; by default it uses a 2 GiB cache per partition
        "driver": "rocksdict",
        "block_cache_size": 8 * MIB,
        "write_buffer_size": 4 * MIB,
        "max_open_files": 200,
        "bloom_filter_size": 10,
    }
