"""A call is sent only in the epoch that committed it; a response that cannot be kept stops nothing."""

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from processors.exactly_once.fetch_epoch import FetchEpoch
from processors.judging.asking import Asking
from processors.judging.calls import CallToSend
from processors.judging.judges.judge import CallId, Failed, JudgeRequest, Prompt
from processors.judging.judges.simulated import PROVIDER
from tables.content_location import ContentLocation
from tables.content_store import ContentStore

FAILED = Failed(reason="provider_error", response=b"no")
PROMPT = Prompt(
    v=1,
    adapter="simulated",
    provider=PROVIDER,
    base_url=None,
    model="sim-1",
    parameters={},
    system="",
    blocks=(),
    answer_schema={},
    answer_method="",
)
REQUEST = JudgeRequest(
    call=CallId("run", 1, 1), prompt=PROMPT, max_output_tokens=1, first_text="", second_text=""
)


class NotingJudge:
    """A judge that notes what it is asked."""

    def __init__(self) -> None:
        self.asked = list[CallId]()

    async def ask(self, request: JudgeRequest, timeout_s: float) -> Failed:
        self.asked.append(request.call)
        return FAILED


@pytest.mark.parametrize(("ends", "outcome"), [(0, FAILED), (1, None)])
def test_a_call_is_sent_only_in_the_epoch_that_committed_it(
    ends: int, outcome: Failed | None
) -> None:
    judge, epochs = NotingJudge(), FetchEpoch()
    asking = Asking(epochs, {(PROVIDER, "sim-1"): cast(Any, judge)}, None, 1)
    to_send = CallToSend(REQUEST, "", epochs.number, 0)
    for _ in range(ends):
        epochs.end()
    assert asyncio.run(asking.ask(to_send)).outcome == outcome
    assert judge.asked == [REQUEST.call] * (outcome is not None)


def test_responses_that_cannot_be_kept_are_one_warning_and_a_word_when_they_are_kept_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    folder, epochs = tmp_path / "content", FetchEpoch()
    store = ContentStore.open(ContentLocation(folder.as_uri()), 1_000)
    asking = Asking(epochs, {(PROVIDER, "sim-1"): cast(Any, NotingJudge())}, store, 1)
    to_send = CallToSend(REQUEST, "", epochs.number, 0)

    def kept() -> bool:
        return asyncio.run(asking.ask(to_send)).response_storage_id is not None

    assert kept()
    moved = folder.rename(tmp_path / "moved")
    folder.touch()  # no folder any more
    assert [kept(), kept(), kept()] == [False] * 3
    folder.unlink()
    moved.rename(folder)
    assert [kept(), kept()] == [True] * 2
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
