"""The records by which a run goes on: a planned wave, intended calls, its end. Pure."""

import hashlib
from collections.abc import Sequence

from processors.judging.calls import CallToSend, TextOf, request_of
from processors.judging.prompt import prompt_sha256
from schemas.codec import FRAME, Codec
from schemas.judging_events import (
    CallsIntended,
    CJBatchJudged,
    IntendedCall,
    JudgingStopped,
    WavePlanned,
)
from tables.judging.next_step import Call, Plan
from tables.judging.run import Run


def planned_wave(run: Run, plan: Plan) -> WavePlanned:
    """The record of a wave."""
    return WavePlanned(run_id=run.opened.run_id, wave=plan.wave, comparisons=plan.comparisons)


def intended_calls(
    run: Run, calls: Sequence[Call], text_of: TextOf, epoch: int, now_ms: int
) -> tuple[CallsIntended, list[CallToSend]]:
    """The record of intended calls, and the calls to send once it is committed. now_ms: the broker's clock."""
    requests = [request_of(run, call, text_of) for call in calls]
    to_send = [
        CallToSend(request, prompt_sha256(request.prompt), epoch, now_ms) for request in requests
    ]
    intended = tuple(
        IntendedCall(
            number=call.number,
            attempt=call.attempt,
            prompt_sha256=one.prompt_sha256,
            bound_pusd=call.bound_pusd,
        )
        for call, one in zip(calls, to_send, strict=True)
    )
    return CallsIntended(run_id=run.opened.run_id, mode="live", calls=intended), to_send


def stopped_run(result: CJBatchJudged, codec: Codec, decided_at_ms: int) -> JudgingStopped:
    """The last record of a run with this result."""
    return JudgingStopped(
        run_id=result.run_id,
        outcome=result.outcome,
        reason=result.reason,
        decided_at_ms=decided_at_ms,
        result_sha256=hashlib.sha256(codec.encode(result)[FRAME.size :]).hexdigest(),
    )
