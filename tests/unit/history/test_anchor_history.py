"""History, as-of, replay and erasure know the anchors as a role."""

from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition
from schemas.events import UploadEvent, role_of, scope_key_of
from schemas.partitioner import partition_for
from schemas.topics import Topics
from tables.context import live_anchors
from tables.history.bulk_fold import BulkFold
from tables.history.scope_history import history_of, scope_as_of
from tables.history.text_references import erased_texts, gaps_in
from tables.upload_batch import UploadBatch
from tables.upload_record import UploadRecord, UploadTopics
from tests.support.builders import (
    TOPIC_OF,
    anchor,
    anchors_deleted,
    anchors_uploaded,
    context_after,
    instructions_uploaded,
    sha256_of,
)
from tools.audit_json import component_document, event_document

CODEC = Codec()
A1 = "assignment:a1"
HERE = partition_for(A1.encode(), 4)
TOPICS = UploadTopics({topic.name: topic for topic in Topics().administered}, 4)
FIRST = anchors_uploaded(anchor("a", text="one"), event_id="k-1")
SECOND = anchors_uploaded(
    anchor("b", text="two"), event_id="k-2", version=2, previous_event_id="k-1"
)
GONE = anchors_deleted(event_id="k-3", version=3, previous_event_id="k-2", erased=True)
STORY: tuple[UploadEvent, ...] = (instructions_uploaded(), FIRST, SECOND, GONE)


def record(event: UploadEvent, offset: int) -> UploadRecord:
    key = scope_key_of(event).encode()
    at = Coordinates(TOPIC_OF[role_of(event)], HERE, offset)
    return UploadRecord(at, key, CODEC.encode(event), 1_000 + offset)


RECORDS = [record(event, offset) for offset, event in enumerate(STORY)]
ANCHORS = Partition(Topics().anchors.name, HERE)


def test_the_history_has_every_version_of_the_anchors_and_what_changed() -> None:
    found = history_of(A1, RECORDS, {}, CODEC, TOPICS)
    assert found.is_complete
    of_anchors = [(one.event, one.changed) for one in found.versions if one.role == "anchors"]
    assert of_anchors == [(FIRST, ("uploaded",)), (SECOND, ("anchors",)), (GONE, ("deleted",))]


def test_a_missing_version_of_the_anchors_is_a_gap() -> None:
    found = history_of(A1, [RECORDS[0], RECORDS[2]], {}, CODEC, TOPICS)
    assert [(gap.role, gap.before_version) for gap in found.gaps] == [("anchors", 2)]


def test_the_anchors_as_of_a_position_are_those_of_the_upload_before_it() -> None:
    found = history_of(A1, RECORDS, {}, CODEC, TOPICS)
    ends = dict.fromkeys(TOPICS.every_partition, 9)
    for position, event in ((1, None), (2, FIRST), (3, SECOND), (4, None)):
        state = scope_as_of(found, {**ends, ANCHORS: position})
        assert live_anchors(state.context) == (event.anchors if event else ()), position


def test_a_replay_folds_the_anchors() -> None:
    fold = BulkFold(CODEC, TOPICS, read_from_start=TOPICS.every_partition)
    fold.add(UploadBatch.of(RECORDS[:3]))
    (folded,) = fold.contexts()
    assert live_anchors(folded.context) == SECOND.anchors
    assert folded.broken == ()
    assert fold.counts().records == 3


def test_every_text_that_anchors_ever_named_is_erased_and_nothing_else() -> None:
    assert erased_texts(STORY) == {sha256_of("one"), sha256_of("two")}
    assert erased_texts(STORY[:3]) == set()
    assert gaps_in([SECOND])[0].role == "anchors"


def test_documents_have_the_anchors_and_those_of_other_roles_have_none() -> None:
    context = context_after(*STORY[:3])
    assert context.anchors is not None
    assert context.instructions is not None
    (one,) = component_document(context.anchors)["anchors"]
    assert (one["anchor_id"], one["storage_id"]) == ("b", sha256_of("two"))
    assert "anchors" not in component_document(context.instructions)
    assert event_document(FIRST)["anchors"][0]["grade"] == "C"
