"""Ends the transactions of a transactional id that Kafka has left open, before the next one of the id begins.

After `kill -9` of the only broker, Kafka may skip the last markers of a transaction that has ended. The next one of the
id would then decide for both: its commit would bring back what was aborted, and its abort would take away what was
committed.
"""

import logging
from collections.abc import Collection, Iterable

from processors.kafka.transactions import (
    OpenTransaction,
    end_transaction,
    leftover_transactions,
)
from processors.log.transaction_decision import decided_commit
from processors.settings import Settings
from schemas.coordinates import Partition
from schemas.errors import CJStreamError, Unreachable

log = logging.getLogger("cjstream.commit")


def end_leftovers(
    settings: Settings,
    transactional_id: str,
    partitions: Iterable[Partition],
    groups: Collection[str] = (),
) -> None:
    """End what is left open on these partitions and on the offsets of these groups, as its coordinator has decided.

    The newest producer with the id must have taken over, and must not have begun. Raises Unreachable.
    """
    _end_those_on(settings, transactional_id, partitions, ())
    if groups:  # needs rights of its own
        _end_those_on(settings, transactional_id, (), groups)


def _end_those_on(
    settings: Settings,
    transactional_id: str,
    partitions: Iterable[Partition],
    groups: Iterable[str],
) -> None:
    try:
        found = leftover_transactions(settings, transactional_id, partitions, groups)
    except Unreachable:
        raise
    except CJStreamError as fault:
        log.info("leftover transactions are not known", extra={"reason": str(fault)})
        return
    for one in found:
        _end(settings, one)


def _end(settings: Settings, transaction: OpenTransaction) -> None:
    extra: dict[str, str | bool] = {"transaction": str(transaction)}
    try:
        extra["committed"] = commit = bool(decided_commit(settings, transaction))
        if not end_transaction(settings, transaction, commit=commit):
            raise Unreachable(f"{transaction} cannot be ended yet")
    except Unreachable:
        raise
    except CJStreamError as fault:  # such as a missing right to write markers
        extra |= {"reason": str(fault), "remedy": "cjstream topics abort-transaction"}
        log.warning("a transaction that lacks its last marker cannot be ended", extra=extra)
    else:
        log.warning("a transaction that lacked its last marker was ended", extra=extra)
