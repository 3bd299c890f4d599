"""If the disk of a worker's stores is full, the worker logs one line that says so and ends with an exit code."""

import subprocess
import sys
from pathlib import Path

from processors.kafka.clients import plain_producer
from processors.kafka.plain_producer import deliver
from processors.settings import Settings
from tests.faults.load import record_of
from tests.faults.running import StartWorker
from tests.faults.small_files import COMMAND
from tests.support.builders import instructions_uploaded
from tests.support.run_command import ROOT

STORE_FAILED = "cannot be read or written"
WRITE = """
import sys
from pathlib import Path
from schemas.errors import StoreFailed
from tables.store import RocksStore
from tests.faults.small_files import limit_files

store = RocksStore(Path(sys.argv[1]), what="the replica", cache_mb=8)
limit_files()
try:
    for number in range(100):
        store.write({f"{number}-{n}".encode(): bytes(1000) for n in range(1000)})
    store.close()
except StoreFailed as fault:
    print(fault)
"""


def test_a_write_to_a_replica_on_a_full_disk_raises_store_failed(tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-c", WRITE, str(tmp_path / "replica")],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        check=False,
    )
    assert finished.stdout.startswith(f"the replica in {tmp_path / 'replica'} {STORE_FAILED}"), (
        finished.stderr
    )


def test_a_worker_whose_disk_is_full_ends_with_a_one_line_error(
    settings: Settings, start_worker: StartWorker
) -> None:
    uploads = [
        record_of(settings, instructions_uploaded(assignment_id=f"a{number}"))
        for number in range(1000)
    ]
    worker = start_worker(command=COMMAND)
    worker.wait_until_it_runs()
    deliver(plain_producer(settings), uploads)
    assert worker.wait_for_exit(60) == 1
    assert worker.log_tail(1).startswith(f"cjstream: the table {STORE_FAILED}: ")
    assert not worker.log_count("Traceback")
