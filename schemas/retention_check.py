"""What settings of a topic would lose of the log before the audit horizon has passed. Pure."""

from collections.abc import Iterator, Mapping

from schemas.topics import DAY_MS, Topic

KEPT_LONG = ("history", "log", "dead letters")  # what an auditor reads; the rest is made of it


def horizon_warnings(topic: Topic, config: Mapping[str, str], horizon_days: int) -> Iterator[str]:
    """One line for each setting, as Kafka names them, that would break the audit horizon."""
    if topic.kept not in KEPT_LONG:
        return
    horizon_ms = horizon_days * DAY_MS
    policies = config.get("cleanup.policy", "").replace(" ", "").split(",")
    if config.get("message.timestamp.type") != "LogAppendTime":
        yield (
            "message.timestamp.type is not LogAppendTime: producers choose the times that retention, compaction "
            "and as-of go by"
        )
    if "compact" in policies:
        yield from _compacted(topic, config, horizon_days)
    if "delete" in policies:
        kept_ms = _number(config, "retention.ms")
        if 0 <= kept_ms < horizon_ms:
            yield f"retention.ms deletes records after {_span(kept_ms)}: the horizon is {horizon_days} days"
        if _number(config, "retention.bytes") >= 0:
            yield "retention.bytes deletes records whatever their age, once there are enough of them"


def _compacted(topic: Topic, config: Mapping[str, str], horizon_days: int) -> Iterator[str]:
    if topic.kept != "history":
        yield "cleanup.policy compacts it: of records with the same key only the newest is kept"
        return
    lag_ms = _number(config, "min.compaction.lag.ms")
    if lag_ms < horizon_days * DAY_MS:
        yield (
            f"min.compaction.lag.ms lets replaced versions go after {_span(lag_ms)}: "
            f"the horizon is {horizon_days} days"
        )
    trace_ms = _number(config, "delete.retention.ms")
    if 0 <= trace_ms < DAY_MS:
        yield (
            f"delete.retention.ms removes a tombstone after {_span(trace_ms)}, and with it every trace that a "
            "producer had a key removed"
        )


def _number(config: Mapping[str, str], name: str) -> int:
    """A setting as a number; -1, which is no bound to Kafka, where it is none."""
    told = config.get(name, "")
    return int(told) if told.isdigit() else -1


def _span(ms: int) -> str:
    return f"{ms / DAY_MS:g} days" if ms >= DAY_MS else f"{ms / 1000:g} s"
