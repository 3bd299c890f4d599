"""`cjstream topics abort-transaction`: finds transactions that hang, and ends them."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from processors.kafka.bounded_wait import retry_while_unreachable
from processors.kafka.clients import admin_client
from processors.kafka.topic_admin import count_brokers
from processors.kafka.transactions import OpenTransaction, end_transaction, open_transactions
from processors.log.transaction_decision import decided_commit
from processors.settings import Settings
from schemas.coordinates import Partition
from schemas.errors import Discrepancy, Misconfigured
from tools.times import span_of, time_of

MAX_OPEN_S = 60  # no transaction should be open for longer
COLUMNS = (
    "topic",
    "partition",
    "producer_id",
    "transactional_id",
    "state",
    "since",
    "start_offset",
    "action",
    "ended",
)
PARTITION = re.compile(r"(?P<topic>[a-zA-Z0-9._-]{1,249})/(?P<number>\d{1,9})")


@dataclass(frozen=True, slots=True)
class Ending:
    """How a transaction is ended; ended is None in a dry run."""

    transaction: OpenTransaction
    action: str  # fence, or the marker that is written: commit, abort
    ended: bool | None = None


def partition_named(text: str) -> Partition:
    """Parse `topic/partition`. Raises Misconfigured."""
    found = PARTITION.fullmatch(text)
    if found is None:
        raise Misconfigured("a partition looks like topic/partition")
    return Partition(found["topic"], int(found["number"]))


def open_on_installation(settings: Settings) -> list[OpenTransaction]:
    """The open transactions on the topics of the catalogue and on the offsets of its groups. Raises Unreachable."""
    partitions = settings.partitions_of(*settings.topics.all)
    groups = (settings.prep_group, settings.fold_group)
    return _opened(settings, partitions, groups)


def hidden_by(settings: Settings, partitions: Collection[Partition], now_ms: int) -> str:
    """The transactions that are open on these partitions, and the command that ends them. Raises Unreachable."""
    if found := _opened(settings, partitions):
        return sentences_of(found, now_ms)
    return f"they have just ended in {', '.join(map(str, partitions))}: try again"


def _opened(
    settings: Settings, partitions: Collection[Partition], groups: Collection[str] = ()
) -> list[OpenTransaction]:
    return retry_while_unreachable(
        lambda: open_transactions(settings, partitions, groups), what="transaction coordinators"
    )


def abort_transactions(
    settings: Settings,
    partition: Partition | None,
    producer_id: int | None,
    *,
    now_ms: int,
    max_open_s: float,
    yes: bool,
) -> list[Ending]:
    """End the transactions that hang on this partition, or anywhere; without `yes`, only find them.

    Raises Unreachable.
    """
    count_brokers(admin_client(settings), settings, 3.0)
    opened = _opened(settings, [partition]) if partition else open_on_installation(settings)
    endings = [
        Ending(transaction, _action(settings, transaction))
        for transaction in opened
        if producer_id in (None, transaction.producer_id) and transaction.hangs(now_ms, max_open_s)
    ]
    if not yes:
        return endings
    return [
        Ending(
            one.transaction,
            one.action,
            end_transaction(settings, one.transaction, commit=one.action == "commit"),
        )
        for one in endings
    ]


def _action(settings: Settings, transaction: OpenTransaction) -> str:
    if transaction.is_ongoing:
        return "fence"
    return "commit" if decided_commit(settings, transaction) else "abort"


def sentences_of(hanging: Sequence[OpenTransaction], now_ms: int) -> str:
    """What hangs where, since when, and the one command that ends it, for people."""
    named = "; ".join(_sentence_of(one, now_ms) for one in hanging)
    command, them = "cjstream topics abort-transaction --yes", "all of them"
    if len(hanging) == 1:
        (one,) = hanging
        command = (
            f"cjstream topics abort-transaction {one.partition}"
            f" --producer-id {one.producer_id} --yes"
        )
        them = "it"
    has_producer = any(one.ongoing_since_ms is not None for one in hanging)
    stop = "stop the producer that keeps it open, or " if has_producer else ""
    return f"{named}; {stop}end {them}: `{command}`"


def _sentence_of(transaction: OpenTransaction, now_ms: int) -> str:
    owner = f"transactional id {transaction.transactional_id or 'unknown'}"
    age = span_of((now_ms - transaction.since_ms) / 1000)
    reason = "its coordinator no longer has it, so it never ends"
    if transaction.ongoing_since_ms is not None:
        reason = f"its coordinator says {transaction.state}"
    return (
        f"{transaction.partition}: {owner}, producer id {transaction.producer_id}, open since"
        f" {time_of(transaction.since_ms)} ({age}): {reason}"
    )


def document_of(ending: Ending) -> dict[str, Any]:
    """One transaction for `--json`."""
    transaction = ending.transaction
    return {
        "topic": transaction.partition.topic,
        "partition": transaction.partition.partition,
        "producer_id": transaction.producer_id,
        "producer_epoch": transaction.producer_epoch,
        "coordinator_epoch": transaction.coordinator_epoch,
        "transactional_id": transaction.transactional_id or None,
        "state": transaction.state or None,
        "start_offset": transaction.start_offset,
        "since": time_of(transaction.since_ms),
        "action": ending.action,
        "ended": ending.ended,
    }


def refuse_unended(endings: list[Ending]) -> None:
    """Raise Discrepancy if a transaction is still open although it should have ended."""
    still_open = [one.transaction for one in endings if one.ended is False]
    if still_open:
        names = ", ".join(f"{one.partition}" for one in still_open)
        raise Discrepancy(f"still open: {names}; run it again")
