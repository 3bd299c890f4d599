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
    installation,
    process_of,
    this_machine,
    wait_until_shared,
)
from tools.bench.outcomes import AnsweredRequest, Outcomes, outcomes_of, warm_up
from tools.bench.traffic import Sender, steady_requests
from tools.broker import ONE_NODE
from tools.processes import Say, running, started

Answers = Mapping[Coordinates, AnsweredRequest]
BROKERS_SESSION_S = int(ONE_NODE["group.consumer.session.timeout.ms"]) // 1000
QUIET_S = 2.0
FLOWS_S = 1.0  # requests of so long after a kill: enough to reach every partition


@dataclass(frozen=True, slots=True)
class Seconds:
    """Over all kills."""

    median: float
    max: float


@dataclass(frozen=True, slots=True)
class Recovered:
    """From the kill until a reader of committed outcomes has …"""

    kills: int
    requests: int
    outcomes: int
    first_outcome_s: Seconds  # … the first outcome of a request appended after the kill
    every_partition_s: Seconds  # … one from each partition of the requests
    caught_up_s: Seconds  # … all of those appended until then


@dataclass(frozen=True, slots=True)
class Recovery:
    """A worker with a slot, restarted at once; and one without, whose partitions a second worker takes over."""

    machine: Machine
    protocol: str
    rate_per_s: float
    session_timeout_s: int
    transaction_timeout_s: int
    restarted: Recovered
    taken_over: Recovered


def run(tell: Say, *, protocol: str, times: int, rate: float) -> Recovery:
    """Kill each kind of worker so many times while requests flow at a steady rate."""
    machine, told = this_machine(), settings_from_environment()
    with (
        installation(tell, group_protocol=protocol) as settings,
        outcomes_of(settings) as outcomes,
    ):
        tell("a worker with a slot is killed, and started again at once")
        restarted = _killed(settings, outcomes, times, rate, tell, slot="bench")
        tell("one of two workers without slots is killed, the other takes over")
        taken_over = _killed(settings, outcomes, times, rate, tell, slot="")
    session_s = told.session_timeout_s if protocol == "classic" else BROKERS_SESSION_S
    timeouts = (session_s, told.transaction_timeout_s)
    return Recovery(machine, protocol, rate, *timeouts, restarted, taken_over)


def _killed(
    settings: Settings, outcomes: Outcomes, times: int, rate: float, tell: Say, *, slot: str
) -> Recovered:
    """Kill the victim again and again; without a slot a survivor stands by and the victim comes back later."""
    victim = process_of(settings, f"victim-{slot}", slot=slot)
    killed_ms = list[int]()
    with ExitStack() as stack:

        def live() -> "subprocess.Popen[bytes]":
            return stack.enter_context(started("worker", victim, tell))

        if not slot:
            stack.enter_context(running("worker", process_of(settings, "survivor"), tell))
        worker = live()
        warm_up(Sender(settings), outcomes)
        with steady_requests(settings, rate) as steady:
            for _ in range(times):
                wait_until_shared(settings, 1 if slot else 2)
                steady.go_on(QUIET_S)
                killed_ms.append(now_ms())
                worker.kill()
                worker.wait()
                worker = live() if slot else worker
                steady.go_on(FLOWS_S)
                outcomes.wait_for(steady.so_far(), "requests to be answered after a kill")
                worker = worker if slot else live()
        outcomes.wait_for(steady.appended)
        answers = outcomes.answers(steady.appended)
    return _recovered(killed_ms, answers, len(steady.appended))


def _recovered(killed_ms: Sequence[int], answers: Answers, requests: int) -> Recovered:
    found = [recovery_of(moment_ms, answers) for moment_ms in killed_ms]
    firsts, every, caught_up = (
        Seconds(round(median(values) / 1000, 2), round(max(values) / 1000, 2))
        for values in zip(*found, strict=True)
    )
    return Recovered(len(killed_ms), requests, len(answers), firsts, every, caught_up)


def recovery_of(killed_ms: int, answers: Answers) -> tuple[int, int, int]:
    """Milliseconds from the kill to the first outcome, to every partition's first, and until all was caught up."""
    firsts: dict[int, int] = {}
    for at, one in answers.items():
        if one.appended_ms > killed_ms:
            firsts[at.partition] = min(firsts.get(at.partition, one.seen_ms), one.seen_ms)
    every_ms = max(firsts.values())
    caught_up_ms = max(one.seen_ms for one in answers.values() if one.appended_ms <= every_ms)
    return min(firsts.values()) - killed_ms, every_ms - killed_ms, caught_up_ms - killed_ms
