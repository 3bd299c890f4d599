"""`cjstream doctor`: checks this machine, the cluster and the configuration."""

import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress

from processors.kafka.bounded_wait import retry_while_unreachable
from processors.kafka.broker_features import NO_CONSUMER_PROTOCOL, broker_features
from processors.kafka.clients import admin_client
from processors.kafka.consumer_groups import GroupState, group_state, partitions_with_owner
from processors.kafka.rights import PROCESSES, REMEDY, missing_rights
from processors.kafka.topic_admin import TopicState, count_brokers, topic_states
from processors.kafka.transactions import OpenTransaction
from processors.monitoring.installation_health import (
    Unread,
    dead_letters_since,
    stopping_uploads,
    unread_requests,
    wrong_committed_offsets,
)
from processors.monitoring.progress_probes import membership_checks
from processors.monitoring.worker_status import WorkerStatus, statuses
from processors.registry.registry_codec import codec_for
from processors.settings import Settings
from schemas.coordinates import Coordinates, Partition
from schemas.errors import CJStreamError, Unreachable
from tables.content_store import ContentStore
from tools.abort_transaction import MAX_OPEN_S, open_on_installation, sentences_of
from tools.certificates import ends_of_certificates
from tools.doctor_check import Check, failed_or
from tools.doctor_judging import judging_checks
from tools.java import find_java
from tools.parked import Parked, ParkedRecords, read_parked_records
from tools.printing import number_of
from tools.restore_parked import lost_requests
from tools.times import span_of, time_of

DAY_MS = 24 * 60 * 60 * 1000
RELEASED = "released requests have an outcome"
OFFSETS_FIT = "committed offsets fit the outcomes"
HORIZON_KEPT = "every topic keeps its records for the audit horizon"
LATE_S = 60.0  # no parked request should be overdue for longer
PROBE_TEXT = b"A text that doctor writes and reads, to check the content store.\n"
PROBE_BYTES = 1024 * 1024
MIN_FREE_BYTES = 256 * 1024 * 1024
MAX_NAMED = 5  # records in one check
MAX_OUTCOMES = 100_000  # of each partition, that are read to find requests without one


def examine(settings: Settings) -> list[Check]:
    """Run every check. Raises Unreachable if no broker answers, as nothing else can be checked then."""
    admin = admin_client(settings)
    try:
        brokers = count_brokers(admin, settings, 3.0)
    except Unreachable as fault:
        folder = _checked("data folder", lambda: _check_writable(settings))
        if folder.ok:
            raise
        # a broker whose folder is full ends
        raise Unreachable(
            f"{fault}; the data folder is not usable, either: {folder.detail}"
        ) from fault
    answering = Check("broker", True, f"{brokers} at {settings.bootstrap_servers}")
    try:
        states = topic_states(admin, settings)
    except Unreachable:
        if lacking := [check for check in _security(settings) if not check.ok]:
            return [*_machine(settings), answering, *lacking]  # it cannot see the topics
        raise
    release = failed_or("broker release", lambda: _release(settings))
    checks = [*_machine(settings), answering, release, *_security(settings), *_topics(states)]
    if not any(state.topic_id is None or state.contradictions for state in states):
        checks += [*_groups(settings), *_flow(settings)]  # they need correct topics
        checks += judging_checks(settings, codec_for(settings), _now_ms())
    return checks


def _security(settings: Settings) -> list[Check]:
    """Checks of a cluster that encrypts or wants a sign-in."""
    checks = []
    if settings.kafka.encrypts:
        checks.append(_checked("certificates", lambda: ends_of_certificates(settings)))
    if settings.kafka.security_protocol != "PLAINTEXT":
        checks.append(failed_or("rights", lambda: _rights(settings)))
    return checks


def _rights(settings: Settings) -> Check:
    """Whether the user of the settings has all rights of a process; if not, of the one that it is closest to."""
    admin = admin_client(settings)
    lacks = {process: missing_rights(process, admin, settings) for process in PROCESSES}
    if has := [process for process, rights in lacks.items() if not rights]:
        return Check("rights", True, f"those of: {', '.join(has)}")
    process, rights = min(lacks.items(), key=lambda one: len(one[1]))
    shown = "; ".join(map(str, rights[:MAX_NAMED])) + ("; …" if len(rights) > MAX_NAMED else "")
    return Check("rights", False, f"as {process}, the user lacks {shown}. {REMEDY}")


def _groups(settings: Settings) -> list[Check]:
    topics = settings.topics

    def state_of(group: str, names: list[str]) -> GroupState:
        # the first request for a group creates the topic that its coordinator needs
        what = f"the coordinator of group {group}"
        return retry_while_unreachable(lambda: group_state(settings, group, names), what=what)

    prep = state_of(settings.prep_group, [topics.requests.name])
    fold = state_of(settings.fold_group, [topic.name for topic in topics.uploads])
    unread, workers = unread_requests(settings), statuses(settings)
    waiting = sum(partition.offsets for partition in unread.values())
    running = [_name(*worker) for worker in workers.items() if worker[1].is_running]
    without_owner = _without_owner(settings, unread)
    return [
        _group("batch preparation", prep, waiting, running, settings),
        _group("fold", fold, sum(fold.lag.values()), running, settings),
        _lag(unread, _now_ms()),
        *(_worker(name, status, without_owner, settings) for name, status in workers.items()),
    ]


def _name(folder: str, status: WorkerStatus) -> str:
    return f"{folder} (process {status.pid})"


def _without_owner(settings: Settings, unread: Collection[Partition]) -> list[Partition]:
    """The partitions with unread requests that no member of the group owns; none while it rebalances."""
    owners = partitions_with_owner(settings, settings.prep_group) if unread else None
    return [] if owners is None else sorted(set(unread) - owners)


def _worker(
    name: str, status: WorkerStatus, without_owner: Sequence[Partition], settings: Settings
) -> Check:
    detail = _last_rebalance(status, _now_ms())
    idle = status.is_running and not status.partitions and bool(without_owner)
    if idle:
        numbers = ", ".join(str(partition.partition) for partition in without_owner)
        detail = (
            f"process {status.pid} runs, but owns no request partition, although requests wait in"
            f" {numbers}, which nobody owns: {_if_idle(settings)}"
        )
    return Check(f"last rebalance of {name}", not idle, detail)


def _if_idle(settings: Settings) -> str:
    return (
        f"once its replica has caught up, it ends by itself after {membership_checks(settings)} s;"
        " if it does not, it hangs: kill it, and let it be started again"
    )


def _flow(settings: Settings) -> list[Check]:
    """Checks of parked requests, open transactions, dead letters and rebalances."""
    now_ms, topics = _now_ms(), settings.topics
    return [
        *_parked_topic(settings, now_ms),
        failed_or(
            "open transactions", lambda: _open_transactions(open_on_installation(settings), now_ms)
        ),
        failed_or("uploads of a later release", lambda: _stopping(stopping_uploads(settings))),
        failed_or(OFFSETS_FIT, lambda: _offsets(wrong_committed_offsets(settings))),
        *(
            Check(
                f"dead letters in {topic.name}",
                True,
                f"{count} in the last day, {count / 24:.1f} per hour",
            )
            for topic in (topics.requests_dlq, topics.uploads_dlq)
            for count in [dead_letters_since(settings, [topic], now_ms - DAY_MS)]
        ),
    ]


def _now_ms() -> int:
    return round(time.time() * 1000)


def _lag(unread: Mapping[Partition, Unread], now_ms: int) -> Check:
    lags = [
        f"{partition.partition}: {number_of(lag.offsets, 'record')}, {span_of((now_ms - lag.since_ms) / 1000)}"
        for partition, lag in sorted(unread.items())
    ]
    return Check("lag by request partition", True, "; ".join(lags) or "none")


def _parked_topic(settings: Settings, now_ms: int) -> list[Check]:
    try:
        records = read_parked_records(settings, now_ms)
    except CJStreamError as fault:
        return [Check("oldest parked request", False, str(fault))]
    return [
        _parked(records.parked(now_ms), records.hidden),
        _skipped(records),
        failed_or(
            RELEASED,
            lambda: _lost(sorted(lost_requests(settings, records, MAX_OUTCOMES).requests)),
        ),
    ]


def _skipped(records: ParkedRecords) -> Check:
    name = "records of the parked topic that do not count"
    named = [f"{at} ({reason})" for at, reason in records.strangers.items()][:MAX_NAMED]
    detail = f"{records.skipped}: {'; '.join(named)}" if named else "none"
    more = "; …" if records.skipped > len(named) else ""
    remedy = ". They are skipped; find the producer that writes to this topic" if named else ""
    return Check(name, True, detail + more + remedy)


def _lost(requests: list[Coordinates]) -> Check:
    if not requests:
        return Check(RELEASED, True, f"all among the newest {MAX_OUTCOMES} of each partition")
    named = ", ".join(map(str, requests[:MAX_NAMED]))
    more = ", …" if len(requests) > MAX_NAMED else ""
    return Check(
        RELEASED,
        False,
        f"{len(requests)} lost their entry in the parked topic without an outcome: {named}{more};"
        " park them again with `cjstream parked restore`",
    )


def _parked(waiting: list[Parked], hidden: list[Partition]) -> Check:
    name, more = "oldest parked request", ""
    if hidden:
        more = f"; an open transaction hides records in {', '.join(map(str, hidden))}"
    if not waiting:
        return Check(name, not hidden, f"none{more}")
    oldest = waiting[0]
    overdue = -min(request.left_s for request in waiting)
    detail = (
        f"{oldest.request_at} has waited {span_of(oldest.waits_s)} for {oldest.scope_key}, "
        f"until {time_of(oldest.deadline_at_ms)}; {len(waiting)} parked in total"
    )
    if overdue > LATE_S:
        detail += f"; one is {span_of(overdue)} past its deadline: does a worker run?"
    return Check(name, overdue <= LATE_S and not hidden, detail + more)


def _offsets(wrong: list[str]) -> Check:
    return Check(OFFSETS_FIT, not wrong, "; ".join(wrong) or "all")


def _stopping(reasons: list[str]) -> Check:
    return Check("uploads of a later release", not reasons, "; ".join(reasons) or "none")


def _open_transactions(opened: list[OpenTransaction], now_ms: int) -> Check:
    hanging = [one for one in opened if one.hangs(now_ms, MAX_OPEN_S)]
    if hanging:
        return Check("open transactions", False, sentences_of(hanging, now_ms))
    detail = "; ".join(
        f"{one.partition}: {span_of((now_ms - one.since_ms) / 1000)}" for one in opened
    )
    return Check("open transactions", True, detail or "none")


def _last_rebalance(status: WorkerStatus, now_ms: int) -> str:
    age = span_of((now_ms - status.rebalanced_at_ms) / 1000)
    partitions = ", ".join(map(str, status.partitions)) or "none"
    return f"{age} ago, {status.rebalances} since its start; request partitions: {partitions}"


def _machine(settings: Settings) -> list[Check]:
    return [
        Check("python", sys.version_info >= (3, 11), platform.python_version()),
        _checked("java, for the embedded broker", lambda: str(find_java(os.environ))),
        _checked("data folder is writable", lambda: _check_writable(settings)),
        _checked("content store", lambda: _check_store(settings)),
        Check("policy", True, str(settings.policy)),
    ]


def _checked(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, True, check())
    except (CJStreamError, OSError) as fault:
        return Check(name, False, str(fault))


def _check_writable(settings: Settings) -> str:
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    probe = settings.data_dir / ".doctor"
    try:
        probe.write_bytes(bytes(PROBE_BYTES))  # an empty file fits on a full disk, too
    except OSError as fault:
        raise CJStreamError(f"{settings.data_dir}: {fault.strerror}") from fault
    finally:
        probe.unlink(missing_ok=True)
    free = shutil.disk_usage(settings.data_dir).free
    if free < MIN_FREE_BYTES:
        raise CJStreamError(f"{settings.data_dir}: only {free // 1024**2} MiB are free: make room")
    return str(settings.data_dir)


def _check_store(settings: Settings) -> str:
    """Write a text and read it, as an upload does."""
    name = without_credentials(settings.content.url)
    store = ContentStore.open(settings.content)
    try:
        stored = store.put(PROBE_TEXT)
        store.get(stored.storage_id)
        with suppress(CJStreamError):  # the right to remove texts is not needed
            store.discard(stored.storage_id)
    except CJStreamError as fault:
        raise CJStreamError(f"{name}: {fault}") from fault
    return f"{name}: a text was written and read"


def without_credentials(url: str) -> str:
    """A URL without user, password, query and fragment, which may be secret."""
    scheme, _, rest = url.partition("://")
    host, slash, path = re.split(r"[?#]", rest)[0].partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def _topics(states: list[TopicState]) -> list[Check]:
    missing = ", ".join(state.topic.name for state in states if state.topic_id is None)
    contradictions = [
        f"{s.topic.name}: {'; '.join(s.contradictions)}" for s in states if s.contradictions
    ]
    outdated = [f"{s.topic.name}: {'; '.join(s.outdated)}" for s in states if s.outdated]
    # one failed check for each topic setting that violates the audit horizon
    horizon = [f"{s.topic.name}: {warning}" for s in states for warning in s.warnings]
    hint = f"missing: {missing}; create them with `cjstream topics apply`"
    return [
        Check("topics exist", not missing, hint if missing else f"{len(states)}"),
        Check(
            "topics are as the catalogue says",
            not contradictions,
            " | ".join(contradictions) or "all",
        ),
        Check(
            "topics have the settings of this release",
            not outdated,
            f"{' | '.join(outdated)}: run `cjstream topics apply`" if outdated else "all",
        ),
        *(Check("audit horizon", False, warning) for warning in horizon),
        *([] if horizon else [Check("audit horizon", True, HORIZON_KEPT)]),
    ]


def _group(
    name: str, group: GroupState, behind: int, running: Sequence[str], settings: Settings
) -> Check:
    detail = f"{number_of(group.members, 'member')}, {number_of(behind, 'record')} behind ({group.state.lower()})"
    if group.strangers:
        detail += f"; a member, but no worker: {', '.join(group.strangers)}: it takes records away, stop it"
    if not behind or group.members:
        return Check(name, not group.strangers, detail)
    if running:
        detail += f": {', '.join(running)} runs, but is no member of the group: "
        return Check(name, False, detail + _if_idle(settings))
    return Check(name, False, f"{detail}: no worker runs; start one with `cjstream worker`")


def _release(settings: Settings) -> Check:
    features = broker_features(settings)
    lacks = settings.group_protocol == "consumer" and not features.has_consumer_protocol
    there = "available" if features.has_consumer_protocol else "not available"
    detail = f"Kafka {features.oldest.name}; group protocol consumer (KIP-848) is {there}"
    if not features.oldest.is_supported:
        detail += "; cjstream needs 3.9 or later: upgrade the brokers"
    if lacks:
        detail = NO_CONSUMER_PROTOCOL
    return Check("broker release", features.oldest.is_supported and not lacks, detail)
