"""Anchors are a role of their own: newest upload, all of them, each once in its scale."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import Codec
from schemas.coordinates import Coordinates
from schemas.errors import Malformed
from schemas.events import ROLE_OF, Anchor, UploadEvent
from schemas.field_limits import MAX_ANCHORS, check_limits
from schemas.topics import Topics
from tables.anchors import AnchorsFound, anchors_found
from tables.context import is_live, live_anchors
from tests.support.builders import (
    READY,
    anchor,
    anchors_deleted,
    anchors_uploaded,
    at,
    context_after,
)

NATIONAL = "eng5_np_national_9_step"
UPLOADED = anchors_uploaded(anchor("b", "C"), anchor("a", "A"), anchor("a", "0", NATIONAL))


def test_every_upload_event_has_a_role() -> None:
    assert set(ROLE_OF) == {*UploadEvent.__args__}
    carried = {event_class for topic in Topics().administered for event_class in topic.carries}
    assert set(ROLE_OF) == carried


def test_anchors_are_folded_beside_the_roles_of_a_batch() -> None:
    context = context_after(*READY, UPLOADED)
    assert context.anchors is not None
    assert context.anchors.anchors == UPLOADED.anchors == live_anchors(context)
    assert context.anchors.storage_id is None
    assert context.instructions == context_after(*READY).instructions


def test_deleted_anchors_are_not_live() -> None:
    context = context_after(UPLOADED, anchors_deleted())
    assert not is_live(context, "anchors")
    assert live_anchors(context) == live_anchors(None) == ()
    assert anchors_found(context, 9) == AnchorsFound((), None, 9)


def test_the_anchors_of_another_scale_are_not_used() -> None:
    found = anchors_found(context_after(UPLOADED), 5)
    assert [one.anchor_id for one in found.of_scale("swedish_8_anchor")] == ["a", "b"]
    assert [one.grade for one in found.of_scale(NATIONAL)] == ["0"]
    assert found.of_scale("eng5_np_legacy_9_step") == found.of_scale(None) == ()
    assert (found.source, found.position) == (at(UPLOADED, 0), 5)
    assert isinstance(found.source, Coordinates)


ANCHORS = st.builds(
    anchor,
    st.sampled_from(["a", "b", "åk9", "x" * 64]),
    st.sampled_from(["A", "F+", "0"]),
    st.sampled_from(["swedish_8_anchor", NATIONAL]),
    st.text(min_size=1, max_size=5),
)


@given(st.lists(ANCHORS, min_size=1, max_size=6))
def test_an_upload_is_read_as_it_was_written_unless_an_id_is_in_a_scale_twice(
    anchors: list[Anchor],
) -> None:
    payload = Codec().encode(anchors_uploaded(*anchors))
    if len({(one.grade_scale, one.anchor_id) for one in anchors}) == len(anchors):
        assert Codec().decode(payload) == anchors_uploaded(*anchors)
    else:
        with pytest.raises(Malformed, match="is there twice"):
            Codec().decode(payload)


BROKEN = {
    "an empty id": [anchor("")],
    "a long id": [anchor("x" * 65)],
    "an id with a slash": [anchor("a/b")],
    "an id that is not in NFC": [anchor("a\u030ak")],
    "an empty grade": [anchor("a", "")],
    "a bad scale": [anchor("a", "A", "Swedish")],
    "too many": [anchor(f"a{n}") for n in range(MAX_ANCHORS + 1)],
}


@pytest.mark.parametrize("anchors", BROKEN.values(), ids=BROKEN.keys())
def test_an_upload_that_breaks_a_limit_is_refused(anchors: list[Anchor]) -> None:
    with pytest.raises(Malformed):
        check_limits(anchors_uploaded(*anchors))
    with pytest.raises(Malformed, match="0 items"):
        check_limits(anchors_uploaded(anchors=()))
