"""What a run compares, essays and then anchors, and every text that its judging needs. Pure, apart from `gather`."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from schemas.errors import ContentCorrupt, ContentMissing, Malformed
from schemas.events import Anchor, CJBatchPrepared, Essay
from schemas.judging_events import RunItem
from schemas.scales import SCALES, is_grade
from tables.anchors import AnchorsFound
from tables.content_store import ContentStore

NO_ANCHORS = AnchorsFound((), None, 0)
FindAnchors = Callable[[str], AnchorsFound]  # by assignment id


@dataclass(frozen=True)
class Gathered:
    """The texts that could be read, and codes for the others (texts_missing, texts_unreadable), by storage id.

    anchors: those of the batch's assignment, of every grade scale.
    """

    texts: Mapping[str, str]
    faults: Mapping[str, str]
    anchors: AnchorsFound = NO_ANCHORS

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """Bytes of each text in UTF-8."""
        return {storage_id: len(text.encode()) for storage_id, text in self.texts.items()}


def gather(batch: CJBatchPrepared, store: ContentStore, find_anchors: FindAnchors) -> Gathered:
    """Find the anchors of a batch, and read all texts. Blocks. Raises Unreachable, and what find_anchors raises."""
    assignment_id, anchors = batch.request.assignment_id, NO_ANCHORS
    if assignment_id is not None and batch.processing_metadata.grade_scale is not None:
        anchors = find_anchors(assignment_id)
    return replace(read_texts(store, texts_of(batch, anchors)), anchors=anchors)


def read_texts(store: ContentStore, storage_ids: Iterable[str]) -> Gathered:
    """Read texts from the store. Blocks. Raises Unreachable."""
    texts, faults = dict[str, str](), dict[str, str]()
    for storage_id in storage_ids:
        try:
            texts[storage_id] = store.get(storage_id).decode()
        except (ContentMissing, Malformed):
            faults[storage_id] = "texts_missing"
        except (ContentCorrupt, UnicodeDecodeError):
            faults[storage_id] = "texts_unreadable"
    return Gathered(texts, faults)


def texts_of(batch: CJBatchPrepared, anchors: AnchorsFound = NO_ANCHORS) -> tuple[str, ...]:
    """The storage ids of every text that the judging of a batch needs."""
    named = (*context_texts(batch), *item_texts(batch, anchors))
    return tuple(dict.fromkeys(text for _, text in named))


def usable_anchors(found: AnchorsFound, grade_scale: str | None) -> tuple[Anchor, ...]:
    """The anchors of a run by id: of its batch's grade scale alone, each with a grade that the scale has."""
    if grade_scale is None or grade_scale not in SCALES:
        return ()
    of_scale = found.of_scale(grade_scale)
    return tuple(anchor for anchor in of_scale if is_grade(grade_scale, anchor.grade))


def context_texts(batch: CJBatchPrepared) -> tuple[tuple[str, str], ...]:
    """Path and storage id of each text of the context."""
    metadata = batch.processing_metadata
    named = (
        ("context.student_prompt", metadata.student_prompt_storage_id),
        ("context.instructions", metadata.instructions_storage_id),
        ("context.judge_rubric", metadata.judge_rubric_storage_id),
    )
    return tuple((path, text) for path, text in named if text is not None)


def item_texts(batch: CJBatchPrepared, found: AnchorsFound) -> tuple[tuple[str, str], ...]:
    """Path and storage id of each item's text, by item number."""
    usable = usable_anchors(found, batch.processing_metadata.grade_scale)
    return (
        *((path_of(essay), essay.text_storage_id) for essay in batch.request.essays),
        *((path_of_anchor(anchor), anchor.storage_id) for anchor in usable),
    )


def path_of(essay: Essay) -> str:
    """Where an essay is, in the details of a refusal."""
    return f"essays.{essay.essay_id}"


def path_of_anchor(anchor: Anchor) -> str:
    """Where an anchor is, in the details of a refusal."""
    return f"anchors.{anchor.anchor_id}"


def essay_items(batch: CJBatchPrepared, sizes: Mapping[str, int]) -> tuple[RunItem, ...]:
    """The essays of a run; sizes: of the texts by storage id."""
    return tuple(
        RunItem(id=essay.essay_id, storage_id=text, size_bytes=sizes[text])
        for essay in batch.request.essays
        for text in [essay.text_storage_id]
    )


def anchor_items(
    found: AnchorsFound, grade_scale: str | None, sizes: Mapping[str, int]
) -> tuple[RunItem, ...]:
    """The anchors of a run; sizes: of the texts by storage id."""
    return tuple(
        RunItem(
            id=anchor.anchor_id,
            grade=anchor.grade,
            storage_id=anchor.storage_id,
            size_bytes=sizes[anchor.storage_id],
        )
        for anchor in usable_anchors(found, grade_scale)
    )
