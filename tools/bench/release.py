"""`cjstream bench release`: how long a parked request waits for its release once its context is complete."""

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass

from processors.settings import Settings
from tools.bench.installation import Machine, installation, process_of, this_machine
from tools.bench.outcomes import AnsweredRequest, Outcomes, outcomes_of, wait_until_parked, warm_up
from tools.bench.percentiles import Spread, spread_of
from tools.bench.traffic import READY, Sender, steady_requests
from tools.processes import Say, running
from tools.progress import bar

CROWD = "bench-crowd"
QUIET_S = 3.0
AFTER_S = 1.0


@dataclass(frozen=True, slots=True)
class Crowd:
    """Requests that one upload releases together, and ordinary ones beside them."""

    requests: int
    outcomes: int
    last_outcome_ms: int  # after the upload
    ordinary_per_s: float
    ordinary_quiet_ms: Spread  # from append to a reader of committed records, before the upload
    ordinary_meanwhile_ms: (
        Spread  # the same, of those under way between the upload and the last outcome
    )


@dataclass(frozen=True, slots=True)
class Release:
    """From the append of the completing upload on, by the broker's clock."""

    machine: Machine
    requests: int
    outcomes: int
    outcome_ms: Spread  # until the outcome was appended
    visible_ms: Spread  # until a reader of committed records had it
    crowd: Crowd | None


def run(tell: Say, *, requests: int, crowd: int, rate: float) -> Release:
    """Park that many requests and release them one by one, then a crowd by one upload (none where it is 0)."""
    machine = this_machine()
    with ExitStack() as stack:
        settings = stack.enter_context(installation(tell, patience_s=3600))
        stack.enter_context(running("worker", process_of(settings, "worker", slot="bench"), tell))
        outcomes = stack.enter_context(outcomes_of(settings))
        sender = Sender(settings)
        warm_up(sender, outcomes)
        tell(f"{requests} requests wait for an upload each")
        released = _one_by_one(settings, sender, outcomes, requests)
        together = _crowd(settings, sender, outcomes, crowd, rate, tell) if crowd else None
    return Release(
        machine,
        requests,
        len(released),
        spread_of(one.answered_ms - one.appended_ms for one in released),
        spread_of(one.latency_ms for one in released),
        together,
    )


def _one_by_one(
    settings: Settings, sender: Sender, outcomes: Outcomes, count: int
) -> list[AnsweredRequest]:
    """The answers; what counts as appended is the upload that completed the request's context."""
    names = [f"bench-{number}" for number in range(count)]
    sender.instruct(names)
    waiting = [(name, at) for name in names for at in sender.request([name])]
    wait_until_parked(settings, (at for _, at in waiting))
    released = list[AnsweredRequest]()
    for name, at in bar(waiting, "releases", count):
        completed = {at: sender.complete(name)}
        outcomes.wait_for(completed, "a release")
        released += outcomes.answers(completed).values()
    return released


def _crowd(
    settings: Settings, sender: Sender, outcomes: Outcomes, count: int, rate: float, tell: Say
) -> Crowd:
    sender.instruct([CROWD])
    crowd = sender.request([CROWD] * count)
    wait_until_parked(settings, crowd)
    tell(f"{count} requests wait for one upload; {rate:g} others a second go on")
    outcomes.wait_for(sender.request([READY]), "the worker to have parked them")
    with steady_requests(settings, rate) as ordinary:
        ordinary.go_on(QUIET_S)
        uploaded_ms = sender.complete(CROWD)
        outcomes.wait_for(crowd, "the crowd's release")
        ordinary.go_on(AFTER_S)
    outcomes.wait_for(ordinary.appended)
    released = outcomes.answers(crowd).values()
    last_ms = max(one.answered_ms for one in released)
    others = outcomes.answers(ordinary.appended).values()
    return Crowd(
        requests=count,
        outcomes=len(released),
        last_outcome_ms=last_ms - uploaded_ms,
        ordinary_per_s=rate,
        ordinary_quiet_ms=_latency(one for one in others if one.seen_ms < uploaded_ms),
        ordinary_meanwhile_ms=_latency(
            one for one in others if one.is_within(uploaded_ms, last_ms)
        ),
    )


def _latency(answers: Iterable[AnsweredRequest]) -> Spread:
    return spread_of(one.latency_ms for one in answers)
