"""`cjstream bench release`: how long a parked request waits after its context is complete."""

from collections.abc import Iterable
from contextlib import ExitStack

from processors.settings import Settings
from tools.bench.outcomes import (
    AnsweredRequest,
    Outcomes,
    reading_outcomes,
    wait_until_parked,
    warm_up,
)
from tools.bench.percentiles import Figures, Spread, spread_of
from tools.bench.processes import process_settings
from tools.bench.traffic import READY, Sender, steady_requests
from tools.installation import installation
from tools.processes import Say, running
from tools.progress import bar

CROWD = "bench-crowd"
QUIET_S = 3.0
AFTER_RELEASE_S = 1.0


def run(say: Say, *, requests: int, crowd: int, rate: float) -> Figures:
    """Park and release `requests` requests one by one, then `crowd` requests with one upload; 0 skips the crowd."""
    with ExitStack() as stack:
        settings = stack.enter_context(installation(say, patience_s=3600))
        stack.enter_context(
            running("worker", process_settings(settings, "worker", slot="bench"), say)
        )
        outcomes = stack.enter_context(reading_outcomes(settings))
        sender = Sender(settings)
        warm_up(sender, outcomes)
        say(f"parking {requests} requests, each waiting for its own upload")
        released = _release_one_by_one(settings, sender, outcomes, requests)
        crowd_figures = (
            _release_crowd(settings, sender, outcomes, crowd, rate, say) if crowd else None
        )
    # times start at the append of the completing upload, by the broker's clock
    return {
        "requests": requests,
        "outcomes": len(released),
        # until the outcome was appended
        "outcome_ms": spread_of(request.answered_ms - request.appended_ms for request in released),
        # until a reader of committed records had it
        "visible_ms": spread_of(request.latency_ms for request in released),
        "crowd": crowd_figures,
    }


def _release_one_by_one(
    settings: Settings, sender: Sender, outcomes: Outcomes, count: int
) -> list[AnsweredRequest]:
    """Release requests one by one; appended_ms of each is the append of the upload that completed its context."""
    assignment_ids = [f"bench-{number}" for number in range(count)]
    for name in assignment_ids:
        sender.upload("instructions", name)
    parked = [(name, at) for name in assignment_ids for at in sender.request([name])]
    wait_until_parked(settings, (at for _, at in parked))
    released = list[AnsweredRequest]()
    for name, at in bar(parked, "releases", count):
        completed = {at: sender.upload("student_prompt", name)}
        outcomes.wait_for(completed, "a release")
        released += outcomes.answered(completed).values()
    return released


def _release_crowd(
    settings: Settings, sender: Sender, outcomes: Outcomes, count: int, rate: float, say: Say
) -> Figures:
    """Release requests with one upload, while ordinary requests are sent; latencies of those before and meanwhile."""
    sender.upload("instructions", CROWD)
    crowd = sender.request([CROWD] * count)
    wait_until_parked(settings, crowd)
    say(f"{count} requests wait for one upload; {rate:g} other requests are sent per second")
    outcomes.wait_for(sender.request([READY]), "the worker to park the crowd")
    with steady_requests(settings, rate) as ordinary:
        ordinary.wait_for_requests(QUIET_S)
        uploaded_ms = sender.upload("student_prompt", CROWD)
        outcomes.wait_for(crowd, "the release of the crowd")
        ordinary.wait_for_requests(AFTER_RELEASE_S)
    outcomes.wait_for(ordinary.appended)
    released = outcomes.answered(crowd).values()
    last_ms = max(request.answered_ms for request in released)
    others = outcomes.answered(ordinary.appended).values()
    return {
        "requests": count,
        "outcomes": len(released),
        "last_outcome_ms": last_ms - uploaded_ms,  # from the append of the upload
        "ordinary_per_s": rate,
        "ordinary_quiet_ms": _latency(
            request for request in others if request.seen_ms < uploaded_ms
        ),
        "ordinary_meanwhile_ms": _latency(
            request for request in others if request.is_within(uploaded_ms, last_ms)
        ),
    }


def _latency(requests: Iterable[AnsweredRequest]) -> Spread:
    return spread_of(request.latency_ms for request in requests)
