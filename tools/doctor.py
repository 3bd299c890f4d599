"""`cjstream doctor`: is this machine, this cluster, this configuration sane."""

import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from processors.kafka.bounded_wait import retry_while_unreachable
from processors.kafka.clients import admin_client
from processors.kafka.consumer_groups import GroupState, group_state
from processors.kafka.topic_admin import TopicState, count_brokers, topic_states
from processors.monitoring.installation_health import (
    Unread,
    dead_letters_since,
    open_transactions,
    unread_requests,
)
from processors.monitoring.worker_status import WorkerStatus, statuses
from processors.settings import Settings
from schemas.coordinates import Partition
from schemas.errors import CJStreamError
from tables.content_store import ContentStore
from tools.java import find_java
from tools.parked import Parked, parked
from tools.times import span_of, time_of

DAY_MS = 24 * 60 * 60 * 1000
LATE_S = 60.0  # a transaction is open, or a parked request overdue, for longer than any should be


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at; detail says what was seen, and what to do where it is not ok."""

    name: str
    ok: bool
    detail: str


def examine(settings: Settings) -> list[Check]:
    """Look at everything. Raises Unreachable where no broker answers: nothing else can be told then."""
    admin = admin_client(settings)
    brokers = count_brokers(admin, settings, 3.0)
    answering = Check("broker", True, f"{brokers} at {settings.bootstrap_servers}")
    machine = [*_machine(settings), answering]
    states = topic_states(admin, settings)
    if any(state.topic_id is None or state.contradictions for state in states):
        return [*machine, *_topics(states)]  # what flows is read of topics as they should be
    return [*machine, *_topics(states), *_groups(settings), *_flow(settings)]


def _groups(settings: Settings) -> list[Check]:
    topics = settings.topics

    def state_of(group: str, names: list[str]) -> GroupState:
        # the first question for a group makes the topic that its coordinator needs
        what = f"the coordinator of group {group}"
        return retry_while_unreachable(lambda: group_state(settings, group, names), what=what)

    prep = state_of(settings.prep_group, [topics.requests.name])
    fold = state_of(settings.fold_group, [topic.name for topic in topics.uploads])
    unread = unread_requests(settings, admin_client(settings))
    return [
        _group("batch preparation", prep, sum(one.offsets for one in unread.values())),
        _group("fold", fold, sum(fold.lag.values())),
        _lag(unread, _now_ms()),
    ]


def _flow(settings: Settings) -> list[Check]:
    """What waits, what is held, what died, what moved."""
    now_ms, topics, admin = _now_ms(), settings.topics, admin_client(settings)
    return [
        _parked(parked(settings, now_ms)),
        _held(open_transactions(settings, admin), now_ms),
        *(
            _dead(topic.name, dead_letters_since(settings, admin, [topic], now_ms - DAY_MS))
            for topic in (topics.requests_dlq, topics.uploads_dlq)
        ),
        *(
            Check(f"last rebalance of {name}", True, _rebalanced(status, now_ms))
            for name, status in statuses(settings).items()
        ),
    ]


def _now_ms() -> int:
    return round(time.time() * 1000)


def _lag(unread: Mapping[Partition, Unread], now_ms: int) -> Check:
    told = [
        f"{at.partition}: {one.offsets} records, {span_of((now_ms - one.since_ms) / 1000)}"
        for at, one in sorted(unread.items())
    ]
    return Check("lag by request partition", True, "; ".join(told) or "none")


def _parked(waiting: list[Parked]) -> Check:
    if not waiting:
        return Check("oldest parked request", True, "none waits")
    oldest = waiting[0]
    overdue = -min(one.left_s for one in waiting)
    told = (
        f"{oldest.request_at} waits {span_of(oldest.waits_s)} for {oldest.scope_key}, "
        f"until {time_of(oldest.deadline_at_ms)}; {len(waiting)} in all"
    )
    if overdue > LATE_S:
        told += f"; one is {span_of(overdue)} past its deadline: does a worker run?"
    return Check("oldest parked request", overdue <= LATE_S, told)


def _held(held: Mapping[Partition, int], now_ms: int) -> Check:
    ages = {at: (now_ms - since) / 1000 for at, since in held.items()}
    old = [at for at, age in ages.items() if age > LATE_S]
    told = "; ".join(f"{at.topic}/{at.partition}: {span_of(age)}" for at, age in ages.items())
    if old:
        told += ": readers of committed records wait for it; end the producer that holds it"
    return Check("open transactions", not old, told or "none")


def _dead(topic: str, count: int) -> Check:
    told = f"{count} in the last day, {count / 24:.1f} an hour"
    return Check(f"dead letters in {topic}", True, told)


def _rebalanced(status: WorkerStatus, now_ms: int) -> str:
    ago = span_of((now_ms - status.rebalanced_at_ms) / 1000)
    partitions = ", ".join(map(str, status.partitions)) or "none"
    return f"{ago} ago, {status.rebalances} since its start; request partitions: {partitions}"


def _machine(settings: Settings) -> list[Check]:
    return [
        Check("python", sys.version_info >= (3, 11), platform.python_version()),
        _tried("java, for the embedded broker", lambda: str(find_java(os.environ))),
        _tried("data folder is writable", lambda: _writable(settings)),
        _tried("content store", lambda: _opened(settings)),
        Check("policy", True, str(settings.policy)),
    ]


def _tried(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, look())
    except (CJStreamError, OSError) as fault:
        return Check(name, False, str(fault))


def _writable(settings: Settings) -> str:
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    probe = settings.data_dir / ".doctor"
    probe.touch()
    probe.unlink()
    return str(settings.data_dir)


def _opened(settings: Settings) -> str:
    ContentStore.at(settings.content)
    return settings.content.partition("?")[0]


def _topics(states: list[TopicState]) -> list[Check]:
    missing = [state.topic.name for state in states if state.topic_id is None]
    contradictions = [
        f"{s.topic.name}: {'; '.join(s.contradictions)}" for s in states if s.contradictions
    ]
    return [
        Check(
            "topics exist",
            not missing,
            f"missing: {', '.join(missing)}; `cjstream topics apply`"
            if missing
            else f"{len(states)}",
        ),
        Check(
            "topics are as the catalogue says",
            not contradictions,
            " | ".join(contradictions) or "all",
        ),
        *_horizon(states),
    ]


def _horizon(states: list[TopicState]) -> list[Check]:
    """One line for each setting that would break the audit horizon."""
    told = [f"{state.topic.name}: {one}" for state in states for one in state.warnings]
    if not told:
        return [Check("audit horizon", True, "every topic keeps what an auditor may ask for")]
    return [Check("audit horizon", False, one) for one in told]


def _group(name: str, group: GroupState, behind: int) -> Check:
    told = f"{group.members} members, {behind} records behind ({group.state.lower()})"
    if behind and not group.members:
        return Check(name, False, f"{told}: no worker runs; `cjstream worker`")
    return Check(name, True, told)
