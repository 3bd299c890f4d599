"""`cjstream bench recovery`: how long requests wait after `kill -9` of a worker."""

import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

from processors.settings import Settings, settings_from_environment
from schemas.coordinates import Coordinates
from tools.bench.events import now_ms
from tools.bench.installation import (
    Machine,
    process_settings,
    this_machine,
    wait_until_assigned,
)
from tools.bench.outcomes import AnsweredRequest, Outcomes, reading_outcomes, warm_up
from tools.bench.traffic import Sender, steady_requests
from tools.broker import ONE_NODE
from tools.installation import installation
from tools.processes import Say, running, started

AnsweredRequests = Mapping[Coordinates, AnsweredRequest]
BROKERS_SESSION_S = int(ONE_NODE["group.consumer.session.timeout.ms"]) // 1000
QUIET_S = 2.0
AFTER_KILL_S = 1.0  # time for which requests are sent after a kill: enough to reach every partition


@dataclass(frozen=True, slots=True)
class Seconds:
    """Median and maximum over all kills, in seconds."""

    median: float
    max: float


@dataclass(frozen=True, slots=True)
class Recovered:
    """Seconds from the kill until a reader of committed records has …"""

    kills: int
    requests: int
    outcomes: int
    first_outcome_s: Seconds  # … the first outcome of a request appended after the kill
    every_partition_s: Seconds  # … one such outcome from each partition of the requests
    caught_up_s: Seconds  # … the outcomes of all requests appended until then


@dataclass(frozen=True, slots=True)
class Recovery:
    """Recovery of a worker with a slot, restarted at once, and of one without, whose partitions another takes over."""

    machine: Machine
    protocol: str
    rate_per_s: float
    session_timeout_s: int
    transaction_timeout_s: int
    restarted: Recovered
    taken_over: Recovered


def run(say: Say, *, protocol: str, times: int, rate: float) -> Recovery:
    """Kill each kind of worker `times` times while requests are sent at `rate` per second."""
    machine, base = this_machine(), settings_from_environment()
    with (
        installation(say, long_lived=True, group_protocol=protocol) as settings,
        reading_outcomes(settings) as outcomes,
    ):
        say("killing a worker with a slot and restarting it at once")
        restarted = _measure_kills(settings, outcomes, times, rate, say, slot="bench")
        say("killing one of two workers without slots; the other takes over")
        taken_over = _measure_kills(settings, outcomes, times, rate, say, slot="")
    session_s = base.session_timeout_s if protocol == "classic" else BROKERS_SESSION_S
    timeouts = (session_s, base.transaction_timeout_s)
    return Recovery(machine, protocol, rate, *timeouts, restarted, taken_over)


def _measure_kills(
    settings: Settings, outcomes: Outcomes, times: int, rate: float, say: Say, *, slot: str
) -> Recovered:
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


def _recovered(killed_ms: Sequence[int], answered: AnsweredRequests, requests: int) -> Recovered:
    recoveries = [recovery_of(kill_ms, answered) for kill_ms in killed_ms]
    firsts, every, caught_up = (
        Seconds(round(median(values) / 1000, 2), round(max(values) / 1000, 2))
        for values in zip(*recoveries, strict=True)
    )
    return Recovered(len(killed_ms), requests, len(answered), firsts, every, caught_up)


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
