"""Batch preparation does not know anchors: neither its topics, its policy, its tags nor its bytes change."""

from dataclasses import replace

import pytest

from processors.kafka.rights import rights_of
from processors.outcomes.outcome_builder import OutcomeBuilder
from processors.outcomes.positions_header import encode_positions
from processors.policy import Policy
from processors.settings import Settings, administered_topics, upload_topics
from schemas.codec import Codec
from schemas.events import ROLES, AssignmentContext
from schemas.topics import Topics
from tables.context import FOLD_VERSION
from tables.etags import assignment_etag_of
from tables.replica import ContextReplica, suffixes_of
from tables.store import MemoryStore
from tests.support.builders import (
    READY,
    REQUEST_AT,
    anchors_deleted,
    anchors_uploaded,
    context_after,
    requested,
)

SETTINGS = Settings()
ANCHORS = Topics().anchors
WITHOUT = context_after(*READY)
WITH = replace(WITHOUT, anchors=context_after(anchors_uploaded()).anchors)
DELETED = replace(WITHOUT, anchors=context_after(anchors_uploaded(), anchors_deleted()).anchors)


def test_its_topics_partitions_and_watermarks_are_those_of_three_roles() -> None:
    assert len(Topics().uploads) == len(ROLES) == 3
    assert ANCHORS not in Topics().uploads
    assert list(upload_topics(SETTINGS).by_name) == [one.name for one in Topics().uploads]
    assert {partition.topic for partition in SETTINGS.upload_partitions} == {
        one.name for one in Topics().uploads
    }
    assert [*administered_topics(SETTINGS).by_name] == [
        *upload_topics(SETTINGS).by_name,
        ANCHORS.name,
    ]


def test_its_replica_reads_and_stores_three_rows_a_scope() -> None:
    replica = ContextReplica(MemoryStore(), Codec(), upload_topics(SETTINGS))
    assert ANCHORS.name not in {one.topic for one in replica.topics.every_partition}
    assert [*suffixes_of(upload_topics(SETTINGS)).values()] == [b"\0\0", b"\0\1", b"\0\2"]


def test_the_positions_header_has_no_position_of_anchors() -> None:
    positions = dict.fromkeys(SETTINGS.upload_partitions, 7)
    with_anchors = {**positions, **dict.fromkeys(SETTINGS.administered_partitions, 7)}
    header = encode_positions(with_anchors, Topics(), SETTINGS.partitions)
    assert header == encode_positions(positions, Topics(), SETTINGS.partitions)
    assert header.startswith(b"7 7 7 7|7 7 7 7|7 7 7 7|crc32:")


@pytest.mark.parametrize("context", [WITH, DELETED], ids=["live", "deleted"])
def test_outcomes_rows_tags_and_policy_are_the_same_with_anchors(
    context: AssignmentContext,
) -> None:
    codec, payload = Codec(), Codec().encode(requested())

    def outcome(of: AssignmentContext) -> bytes | None:
        return (
            OutcomeBuilder(codec, Policy(), {of.scope_key: of}.get).build(payload, REQUEST_AT).value
        )

    assert outcome(context) == outcome(WITHOUT) is not None
    assert codec.encode(context) == codec.encode(WITHOUT)  # a row of the published view
    assert assignment_etag_of(context) == assignment_etag_of(WITHOUT)
    every_role = Policy(required=ROLES)
    assert every_role.missing_from(context, brings_prompt=False) == ()
    only_anchors = context_after(anchors_uploaded())
    assert every_role.missing_from(only_anchors, brings_prompt=False) == ROLES


def test_anchors_can_not_be_a_required_role() -> None:
    with pytest.raises(
        ValueError, match="the roles are instructions, student_prompt, judge_rubric"
    ):
        Settings(required_roles=("anchors",))


def test_rows_of_earlier_releases_stay_valid() -> None:
    assert FOLD_VERSION == 1


def test_the_api_writes_the_topic_and_a_worker_does_not() -> None:
    def writes(process: str) -> set[str]:
        rights = rights_of(process, SETTINGS)  # type: ignore[arg-type]
        return {one.name for one in rights if one.kind == "topic" and "WRITE" in one.operations}

    assert ANCHORS.name in writes("api")
    assert ANCHORS.name not in writes("worker") | writes("judge") | writes("producer")
