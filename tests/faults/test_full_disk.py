"""If a disk is full, everything says what is full and where; a worker ends with an exit code, and nothing is lost."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from processors.kafka.clients import plain_producer
from processors.kafka.plain_producer import deliver
from processors.settings import Settings
from schemas.coordinates import Coordinates
from schemas.errors import ContentFailed
from tables.content_location import ContentLocation
from tables.content_store import ContentStore
from tests.end_to_end.serving import Serving
from tests.faults.load import assignment, record_of, send
from tests.faults.running import Process, StartWorker
from tests.faults.small_files import COMMAND
from tests.support.builders import instructions_uploaded, requested
from tests.support.judged_batches import JUDGE, append_batches, results_of
from tests.support.run_command import ROOT, run_json
from tests.support.tokens import SECRET
from tests.support.until import until
from tools.broker import free_port
from tools.unanswered import unanswered

INSTRUCTIONS = "/admin/v1/assessment-instructions/assignment"
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


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 48 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Fill a disk; returns the file that does."""
    path = disk / "fill"
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return path
    raise AssertionError("the disk has no end")


def test_a_text_for_a_full_disk_is_refused_and_no_other_is_lost(small_disk: Path) -> None:
    folder = small_disk / "content"
    store = ContentStore.open(ContentLocation(folder.as_uri()))
    stored = store.put(b"stored before")
    filler = fill(small_disk)
    with pytest.raises(ContentFailed) as refused:
        store.put(bytes(5000))
    assert str(refused.value).endswith(f"No space left on device (os error 28), in {folder}")
    assert str(folder) not in refused.value.message  # which clients of the API get
    assert store.get(stored.storage_id) == b"stored before"
    assert [one.storage_id for one in store.list_texts()] == [stored.storage_id]
    filler.unlink()
    assert not store.put(bytes(5000)).existed


def test_doctor_names_a_full_disk_also_if_that_ended_the_broker(small_disk: Path) -> None:
    fill(small_disk)
    settings = Settings(data_dir=small_disk, bootstrap_servers=f"127.0.0.1:{free_port()}")
    code, problem, _ = run_json(settings, "doctor")
    assert code == 4
    assert f"not usable, either: {small_disk}: No space left on device" in problem["detail"]


def test_doctor_names_a_store_that_can_only_be_read(small_disk: Path, settings: Settings) -> None:
    own = settings.model_copy(update={"content_url": small_disk.as_uri()})
    ContentStore.open(own.content).put(b"stored before")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    code, report, _ = run_json(own, "doctor")
    (check,) = [one for one in report["checks"] if one["name"] == "content store"]
    assert (code, check["ok"]) == (3, False)
    assert check["detail"].startswith(
        f"{small_disk.as_uri()}: content store: cannot write: Read-only"
    )


def has_outcomes(settings: Settings, requests: Sequence[Coordinates]) -> bool:
    reasons = unanswered(settings, requests).others
    return all(reasons.get(at, "").startswith("its outcome is ") for at in requests)


@pytest.mark.thorough
def test_a_worker_on_a_full_disk_ends_and_goes_on_when_there_is_room(
    small_disk: Path, settings: Settings, tmp_path: Path
) -> None:
    own = settings.model_copy(update={"data_dir": small_disk})
    worker = Process(own, tmp_path / "worker.log")
    worker.start()
    try:
        worker.wait_until_it_runs(120)
        filler = fill(small_disk)
        send(own, *(upload for n in range(50) for upload in assignment(f"a{n}")))
        requests = (requested(batch_id=f"b{n}", assignment_id=f"a{n}") for n in range(50))
        sent = send(own, *requests)
        worker.stop(60)  # at the latest, its stores are written then
        assert worker.exit_code == 1, worker.log_tail()
        assert f"in {small_disk}" in worker.log_tail(1)
        assert "is its disk full? Free some space" in worker.log_tail(1)
        assert not worker.log_count("Traceback")
        worker.start()
        assert worker.wait_for_exit(120) in (1, 2)
        assert "disk" in worker.log_tail(1)
        filler.unlink()
        worker.start()
        until(lambda: has_outcomes(own, sent), 120)
    finally:
        worker.end()


@pytest.mark.thorough
def test_an_api_on_a_full_disk_ends_and_serves_everything_when_there_is_room(
    small_disk: Path, settings: Settings, tmp_path: Path
) -> None:
    own = settings.model_copy(update={"data_dir": small_disk, "api_port": free_port()})
    body = {"instructions_text": "Judge the argument.", "grade_scale": "swedish_8_anchor"}
    log = tmp_path / "api.log"
    api = Serving(own, log, ("-m", "tools", "api"), {"JWT_SECRET_KEY": SECRET})
    api.start()
    try:
        until(api.is_ready, 60)
        filler = fill(small_disk)
        refused = api("PUT", f"{INSTRUCTIONS}/refused", body)
        assert (refused.status_code, small_disk.name in refused.text) == (502, False), refused.text
        send(own, *(upload for n in range(2_000) for upload in assignment(f"a{n}")))
        until(lambda: count_of(api) == 2_000, 60)  # what is in memory is served on
        assert api.stop(30) == 1, api.log_tail()
        assert "is its disk full? Free some space" in api.log_tail(1)
        assert not api.log_count("Traceback")
        filler.unlink()
        api.start()
        until(api.is_ready, 60)
        assert count_of(api) == 2_000
        assert api("PUT", f"{INSTRUCTIONS}/refused", body).status_code == 201
    finally:
        api.end()


def count_of(api: Serving) -> int:
    """How many instructions the API lists."""
    return int(api("GET", INSTRUCTIONS.rpartition("/")[0]).json()["total"])


@pytest.mark.thorough
def test_a_judge_whose_disk_is_full_judges_and_says_that_it_keeps_no_responses(
    small_disk: Path, settings: Settings, tmp_path: Path
) -> None:
    own = settings.model_copy(
        update={
            "data_dir": small_disk,
            "judge": "simulated/sim-1",
            "judge_first_start": "beginning",
        }
    )
    append_batches(own, 1)
    fill(small_disk)
    judge = Process(own, tmp_path / "judge.log", JUDGE)
    judge.start()
    try:
        until(lambda: len(results_of(own)) == 1, 60)
        (result,) = results_of(own)
        assert result.counts.answered == result.counts.calls > 0
        assert f"No space left on device (os error 28), in {small_disk}" in judge.log.read_text()
        assert not judge.log_count("Traceback")
    finally:
        judge.end()
