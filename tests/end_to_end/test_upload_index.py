"""The index of upload records, filled and updated from the log of a real broker."""

from processors.kafka.records import Record
from processors.log.reader import LogReader
from processors.log.upload_topics import update_index
from processors.settings import Settings, upload_topics
from schemas.coordinates import Positions
from tables.history.upload_index import temporary_index
from tests.faults.load import CODEC, append, assignment, record_of, send, send_in_transaction
from tests.support.builders import prompt_uploaded


def ends(settings: Settings) -> Positions:
    with LogReader(settings, settings.upload_partitions) as log:
        return {partition: end for partition, (_, end) in log.offset_ranges().items()}


def test_it_is_updated_from_its_positions(settings: Settings) -> None:
    topic, key = settings.topics.student_prompts.name, "assignment:a1"
    first = prompt_uploaded("First.", assignment_id="a1", version=1)
    second = prompt_uploaded("Second.", assignment_id="a1", version=2)
    send(settings, *assignment("a1")[:1])
    send_in_transaction(settings, first)
    with temporary_index(upload_topics(settings)) as index:
        partitions, first_ends = settings.upload_partitions, ends(settings)
        assert update_index(index, settings, partitions, first_ends) == 2
        assert index.positions() == first_ends  # also past the transaction marker
        send(settings, second)
        append(settings, [Record(topic, record_of(settings, first).partition, key.encode(), b"?")])
        assert (
            update_index(index, settings, partitions, first_ends) == 0
        )  # nothing new before these ends
        assert update_index(index, settings, partitions, ends(settings)) == 2
        values = [record.value for record in index.records_of(topic, key)]
        assert values == [CODEC.encode(first), CODEC.encode(second), b"?"]
