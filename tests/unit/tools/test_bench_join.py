"""The check of outputs that `bench join` measures: right ones pass, each kind of wrong one is found."""

from array import array
from dataclasses import replace

import pytest

from processors.kafka.records import Record
from processors.outcomes.outcome_builder import OutcomeBuilder
from processors.policy import Policy
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition
from schemas.errors import Discrepancy
from schemas.events import AssignmentContext, UploadEvent, scope_key_of
from tables.context import fold
from tools.bench.join.input_log import InputLog
from tools.bench.join.output_check import (
    OutputCheck,
    Span,
    copy_prefix,
    measured_span,
    outcome_prefix,
)
from tools.bench.join.resources import Sample, Samples
from tools.bench.join.shape import Shape
from tools.bench.join.template import Template
from tools.bench.latency import latencies_ms

SETTINGS = Settings(partitions=2)
SHAPE = Shape(requests=30, warm_up=10, cool_down=5, contexts=5, essays=3)


@pytest.fixture
def log() -> InputLog:
    return InputLog(SETTINGS, SHAPE)


def joined(log: InputLog) -> list[Record]:
    """The outcome of each request, built by the code that a worker runs."""
    rows: dict[str, AssignmentContext] = {}
    codec = Codec()
    ends: dict[tuple[str, int], int] = {}

    def at(record: Record) -> Coordinates:
        offset = ends.get((record.topic, record.partition), 0)
        ends[(record.topic, record.partition)] = offset + 1
        return Coordinates(record.topic, record.partition, offset)

    for record in log.upload_records(range(SHAPE.contexts)):
        event = codec.decode(record.value)
        assert isinstance(event, UploadEvent)
        assert scope_key_of(event).encode() == record.key
        fold(rows, event, at(record), 0)
    outcomes = OutcomeBuilder(codec, Policy(), rows.get)
    return [
        replace(record, value=outcomes.build(record.value, at(record)).value)
        for record in log.request_records()
    ]


def check(log: InputLog, outputs: list[Record]) -> "array[int]":
    checked = OutputCheck(log, outcome_prefix(log), dict.fromkeys(log.ends, 0))
    for number, record in enumerate(outputs):
        checked.add(record.partition, record.key, record.value, number)
    checked.end()
    return checked.appended_ms


def test_the_outcomes_that_a_worker_builds_pass(log: InputLog) -> None:
    assert len(check(log, joined(log))) == SHAPE.total


def test_a_copy_is_compared_with_the_request(log: InputLog) -> None:
    [*log.upload_records(range(SHAPE.contexts))]
    requests = [*log.request_records()]
    checked = OutputCheck(log, copy_prefix(log), dict.fromkeys(log.ends, 0))
    for record in requests:
        checked.add(record.partition, record.key, record.value, 0)
    checked.end()


def test_a_missing_outcome_is_found(log: InputLog) -> None:
    outcomes = joined(log)
    last = max(n for n, record in enumerate(outcomes) if record.partition == 1)
    with pytest.raises(Discrepancy, match=r"1@\d+ has no output"):
        check(log, outcomes[:last] + outcomes[last + 1 :])


def test_a_repeated_outcome_is_found(log: InputLog) -> None:
    outcomes = joined(log)
    with pytest.raises(Discrepancy, match=f"partition {outcomes[-1].partition} has more outputs"):
        check(log, [*outcomes, outcomes[-1]])


def test_outcomes_in_another_order_are_found(log: InputLog) -> None:
    outcomes = joined(log)
    first = [n for n, record in enumerate(outcomes) if record.partition == 0]
    outcomes[first[0]], outcomes[first[1]] = outcomes[first[1]], outcomes[first[0]]
    with pytest.raises(Discrepancy, match="0@0: the next output is of another request or context"):
        check(log, outcomes)


def test_the_context_of_another_assignment_is_found(log: InputLog) -> None:
    outcomes = joined(log)
    right = log.requests[outcomes[0].partition].assignments[0]
    wrong = (right + 1) % SHAPE.contexts
    value = outcomes[0].value or b""
    outcomes[0] = replace(
        outcomes[0], value=value.replace(log.context_part(right), log.context_part(wrong))
    )
    with pytest.raises(Discrepancy, match="another request or context"):
        check(log, outcomes)


def test_a_changed_byte_of_a_request_is_found(log: InputLog) -> None:
    outcomes = joined(log)
    value = outcomes[3].value or b""
    outcomes[3] = replace(outcomes[3], value=value[:-2] + bytes((value[-2] ^ 1,)) + value[-1:])
    with pytest.raises(Discrepancy, match="another key or request"):
        check(log, outcomes)


def test_another_key_is_found(log: InputLog) -> None:
    outcomes = joined(log)
    outcomes[2] = replace(outcomes[2], key=b"another")
    with pytest.raises(Discrepancy, match="another key or request"):
        check(log, outcomes)


def test_frequencies_of_contexts_can_be_unequal(log: InputLog) -> None:
    shape = replace(SHAPE, requests=2000, contexts=100, zipf=1.0)
    skewed = InputLog(SETTINGS, shape)
    assert len([*skewed.request_records()]) == shape.total
    numbers = [number for part in skewed.requests.values() for number in part.assignments]
    assert numbers.count(0) > 10 * numbers.count(99) > 0


def test_a_template_refuses_a_string_of_another_length() -> None:
    template = Template(b"<one|two>", ("one", "two"))
    assert template.filled((b"abc", b"def")) == b"<abc|def>"
    with pytest.raises(ValueError, match="another length"):
        template.filled((b"abc", b"long"))
    with pytest.raises(ValueError, match="not in this order"):
        Template(b"<one|two>", ("two", "one"))


def test_the_measured_span_begins_with_the_last_append_of_the_warm_up() -> None:
    appended = array("q", [1000] * 5 + [1100] * 5 + [1300] * 10 + [2000] * 5)
    shape = Shape(warm_up=5, requests=15, cool_down=5)
    assert measured_span(appended, shape) == Span(15, 1000, 1300)
    assert measured_span(appended, shape).per_second == 50


def test_a_record_batch_is_measured_as_a_whole_or_not_at_all() -> None:
    appended = array("q", [1000] * 5 + [1100] * 5 + [1300] * 10)
    assert measured_span(appended, Shape(warm_up=7, requests=6)) == Span(10, 1100, 1300)
    assert measured_span(appended, Shape(warm_up=1, requests=4)) == Span(0, 1000, 1000)


def test_cpu_time_is_interpolated_between_samples() -> None:
    samples = Samples([Sample(0, 1.0, 10.0, 5.0), Sample(100, 2.0, 30.0, 7.0)])
    assert samples.cpu_s(50, 100) == (0.5, 10.0)
    assert samples.cpu_s(-10, 1000) == (1.0, 20.0)
    assert samples.peak_rss_mb == 7.0


def test_a_latency_is_from_the_append_of_a_request_until_its_output_was_read() -> None:
    appended_ms = {
        Coordinates("requests", 0, 7): 100,
        Coordinates("requests", 1, 3): 110,
        Coordinates("requests", 0, 8): 120,
    }
    starts = {Partition("requests", 0): 6, Partition("requests", 1): 3}
    seen_ms = {0: [50, 105, 129], 1: [112]}  # the first output belongs to an earlier request
    assert sorted(latencies_ms(appended_ms, seen_ms, starts)) == [2, 5, 9]
