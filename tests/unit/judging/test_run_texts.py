"""The texts of open runs while the content store does not answer."""

import pytest

from processors.judging.run_texts import RETRY_S, RunTexts
from processors.kafka.bounded_wait import Clock
from schemas.errors import ContentUnreachable, Unreachable
from tables.content_store import ContentStore


class AbsentStore(ContentStore):
    """A store that never answers, which counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def get(self, storage_id: str) -> bytes:
        self.asked += 1
        raise ContentUnreachable("nobody answers")


def test_a_store_that_does_not_answer_is_asked_once_a_second_however_many_runs_wait() -> None:
    now_s = [0.0]
    store = AbsentStore()
    texts = RunTexts(store, clock=Clock(monotonic=lambda: now_s[0]))
    for run in range(16):
        with pytest.raises(Unreachable):
            texts.get(f"{run:064x}")
    assert store.asked == 1
    now_s[0] += RETRY_S
    with pytest.raises(ContentUnreachable):
        texts.get("0" * 64)
    assert store.asked == 2


def test_texts_that_are_known_need_no_store() -> None:
    texts = RunTexts(AbsentStore())
    with pytest.raises(Unreachable):
        texts.get("1" * 64)
    texts.add({"0" * 64: "An essay."})
    assert texts.get("0" * 64) == "An essay."
