"""`cjstream bench recovery`: how long requests wait after `kill -9` of a worker."""

import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from statistics import median

from processors.settings import Settings, settings_from_environment
from schemas.coordinates import Coordinates
from tools.bench.events import now_ms
from tools.bench.outcomes import AnsweredRequest, Outcomes, reading_outcomes, warm_up
from tools.bench.percentiles import Figures
from tools.bench.processes import (
    process_settings,
    wait_until_assigned,
)
from tools.bench.traffic import Sender, steady_requests
from tools.broker import ONE_NODE
from tools.installation import installation
from tools.processes import Say, running, started

AnsweredRequests = Mapping[Coordinates, AnsweredRequest]
BROKERS_SESSION_S = int(ONE_NODE["group.consumer.session.timeout.ms"]) // 1000
QUIET_S = 2.0
AFTER_KILL_S = 1.0  # time for which requests are sent after a kill: enough to reach every partition


def run(say: Say, *, protocol: str, times: int, rate: float) -> Figures:
    """Kill each kind of worker `times` times while requests are sent at `rate` per second."""
    base = settings_from_environment()
    with (
        installation(say, group_protocol=protocol) as settings,
        reading_outcomes(settings) as outcomes,
    ):
        say("killing a worker with a slot and restarting it at once")
        restarted = _measure_kills(settings, outcomes, times, rate, say, slot="bench")
        say("killing one of two workers without slots; the other takes over")
        taken_over = _measure_kills(settings, outcomes, times, rate, say, slot="")
    session_s = base.session_timeout_s if protocol == "classic" else BROKERS_SESSION_S
    return {
        "protocol": protocol,
        "rate_per_s": rate,
        "session_timeout_s": session_s,
        "transaction_timeout_s": base.transaction_timeout_s,
        "restarted": restarted,
        "taken_over": taken_over,
    }


def _measure_kills(
    settings: Settings, outcomes: Outcomes, times: int, rate: float, say: Say, *, slot: str
) -> Figures:
    """Kill one worker repeatedly; without a slot a second worker runs, and the victim restarts after the takeover."""
    victim = process_settings(settings, f"victim-{slot}", slot=slot)
    killed_ms = list[int]()
    with ExitStack() as stack:

        def start_victim() -> "subprocess.Popen[bytes]":
            return stack.enter_context(started("worker", victim, say))

        if not slot:
            stack.enter_context(running("worker", process_settings(settings, "survivor"), say))
        worker = start_victim()
        warm_up(Sender(settings), outcomes)
        with steady_requests(settings, rate) as steady:
            for _ in range(times):
                wait_until_assigned(settings, 1 if slot else 2)
                steady.wait_for_requests(QUIET_S)
                killed_ms.append(now_ms())
                worker.kill()
                worker.wait()
                worker = start_victim() if slot else worker
                steady.wait_for_requests(AFTER_KILL_S)
                outcomes.wait_for(steady.snapshot(), "outcomes after a kill")
                worker = worker if slot else start_victim()
        outcomes.wait_for(steady.appended)
        answered = outcomes.answered(steady.appended)
    return _recovered(killed_ms, answered, len(steady.appended))


def _recovered(killed_ms: Sequence[int], answered: AnsweredRequests, requests: int) -> Figures:
    """Median and maximum over all kills, in seconds, of the times of `recovery_of`."""
    recoveries = [recovery_of(kill_ms, answered) for kill_ms in killed_ms]
    names = ("first_outcome_s", "every_partition_s", "caught_up_s")
    return {
        "kills": len(killed_ms),
        "requests": requests,
        "outcomes": len(answered),
        **{
            name: {"median": round(median(values) / 1000, 2), "max": round(max(values) / 1000, 2)}
            for name, values in zip(names, zip(*recoveries, strict=True), strict=True)
        },
    }


def recovery_of(killed_ms: int, answered: AnsweredRequests) -> tuple[int, int, int]:
    """Milliseconds from the kill to the first outcome, to the last partition's first one, and to being caught up."""
    firsts: dict[int, int] = {}
    for at, request in answered.items():
        if request.appended_ms > killed_ms:
            firsts[at.partition] = min(firsts.get(at.partition, request.seen_ms), request.seen_ms)
    every_ms = max(firsts.values())
    caught_up_ms = max(
        request.seen_ms for request in answered.values() if request.appended_ms <= every_ms
    )
    return min(firsts.values()) - killed_ms, every_ms - killed_ms, caught_up_ms - killed_ms
