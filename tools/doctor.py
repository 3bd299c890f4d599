"""`cjstream doctor`: is this machine, this cluster, this configuration sane."""

import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass

from processors.clients import admin_client
from processors.cluster import TopicState, reach, topic_states
from processors.groups import GroupState, group_state
from processors.settings import Settings
from schemas.errors import CJStreamError
from tables.content import ContentStore
from tools.java import find_java


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at; detail says what was seen, and what to do where it is not ok."""

    name: str
    ok: bool
    detail: str


def examine(settings: Settings) -> list[Check]:
    """Look at everything. Raises Unreachable where no broker answers: nothing else can be told then."""
    admin = admin_client(settings)
    brokers = reach(admin, settings, 3.0)
    answering = Check("broker", True, f"{brokers} at {settings.bootstrap_servers}")
    machine = [*_machine(settings), answering]
    states = topic_states(admin, settings)
    if any(state.topic_id is None for state in states):
        return [*machine, *_topics(states)]
    topics = settings.topics
    prep = group_state(admin, settings.prep_group, [topics.requests.name], settings.partitions)
    uploads = [topic.name for topic in topics.uploads]
    fold = group_state(admin, settings.fold_group, uploads, settings.partitions)
    return [
        *machine,
        *_topics(states),
        _group("batch preparation", prep),
        _group("fold", fold),
    ]


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
    ]


def _group(name: str, group: GroupState) -> Check:
    behind = sum(group.lag.values())
    told = f"{group.members} members, {behind} records behind ({group.state.lower()})"
    if behind and not group.members:
        return Check(name, False, f"{told}: no worker runs; `cjstream worker`")
    return Check(name, True, told)
