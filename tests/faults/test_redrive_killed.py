"""A re-drive that is killed repeatedly and run again sends each dead letter back once, in order."""

import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from processors.dead_letters.open_letters import read_dead_letters, read_values
from processors.kafka.bounded_wait import retry_while_unreachable
from processors.kafka.clients import admin_client, plain_producer
from processors.kafka.offsets import high_watermarks, high_watermarks_when_reachable
from processors.kafka.plain_producer import deliver
from processors.kafka.records import LogRecord, Record, coordinates_of
from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.dead_letters import ATTEMPT, Refused, dead_letter
from schemas.errors import Malformed
from tests.faults.load import append
from tests.faults.seeds import SEEDS
from tests.support.run_command import ROOT, environment_of

LETTERS = 2_500
KILLS = 5


def dead_letters(settings: Settings, chance: random.Random) -> list[Record]:
    """Append requests with a few keys; returns their dead letters in another order."""
    topics, letters = settings.topics, []
    originals = [
        Record(topics.requests.name, n % 40 % 4, b"k%d" % (n % 40), f"no request {n}".encode())
        for n in range(LETTERS)
    ]
    for record, message in zip(
        originals, deliver(plain_producer(settings), originals), strict=True
    ):
        refused, appended_at_ms = Refused(record.key, record.value, ()), message.timestamp()[1]
        content = dead_letter(coordinates_of(message), appended_at_ms, Malformed("x"), refused)
        letters.append(Record(topics.requests_dlq.name, record.partition, *content))
    chance.shuffle(letters)
    return letters


def redriven_records(settings: Settings) -> list[LogRecord]:
    """The committed records of the requests topic that a re-drive has appended."""
    partitions = settings.partitions_of(settings.topics.requests)
    ends = high_watermarks_when_reachable(settings, partitions)
    with LogReader(settings, partitions) as log:
        log.seek(dict.fromkeys(partitions, 0))
        records = sorted(log.records_until(ends, 30), key=lambda record: record.at)
    return [record for record in records if ATTEMPT in dict(record.headers)]


@contextmanager
def redrive(settings: Settings) -> Iterator["subprocess.Popen[bytes]"]:
    """A running re-drive, killed at the end of the block."""
    command = [sys.executable, "-m", "tools", "dlq", "redrive", "--yes", "--json"]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment_of(settings),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.thorough
@pytest.mark.parametrize("seed", SEEDS)
def test_a_redrive_that_is_killed_and_run_again_loses_and_doubles_nothing(
    settings: Settings, seed: int
) -> None:
    chance = random.Random(seed)
    append(settings, dead_letters(settings, chance))
    admin = admin_client(settings)
    partitions = settings.partitions_of(settings.topics.requests)

    def produced() -> int:  # records and markers, those of open transactions included
        return sum(retry_while_unreachable(lambda: high_watermarks(admin, partitions)).values())

    killed = 0
    for _ in range(KILLS):
        goal = produced() + chance.randrange(1, LETTERS // KILLS)
        with redrive(settings) as process:
            while process.poll() is None and produced() < goal:
                pass  # each query of the high watermarks takes a while
            killed += process.poll() is None
    with redrive(settings) as last:
        _, stderr = last.communicate()
    assert last.returncode == 0, stderr.decode()
    assert killed, "nothing was killed: this seed tests nothing"
    print(f"seed {seed}: {killed} kills")  # noqa: T201

    redriven = redriven_records(settings)
    assert sorted(record.value or b"" for record in redriven) == sorted(
        f"no request {offset}".encode() for offset in range(LETTERS)
    )
    by_key = defaultdict[bytes | None, list[int]](list)
    for record in redriven:
        by_key[record.key].append(int((record.value or b"").split()[-1]))
        assert dict(record.headers)["cjstream-redrive-attempt"] == b"1"
    assert all(offsets == sorted(offsets) for offsets in by_key.values())
    letters = read_dead_letters(settings, [settings.topics.requests_dlq])
    assert letters.open == []
    coordinates = {record.value: str(record.at) for record in redriven}
    values = read_values(settings, letters.letters)
    for letter in letters.letters:
        assert letters.destination(letter) == coordinates[values[letter.at]]
