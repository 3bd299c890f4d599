"""Finds topic settings that would remove records within the audit horizon. Pure."""

from collections.abc import Iterator, Mapping

from schemas.topics import DAY_MS, Topic

AUDITED = ("history", "log", "dead letters")  # other topics can be rebuilt from these


def horizon_warnings(topic: Topic, config: Mapping[str, str], horizon_days: int) -> Iterator[str]:
    """One sentence per topic setting (with Kafka's name) that would remove records within the audit horizon."""
    if topic.retention not in AUDITED:
        return
    horizon_ms = horizon_days * DAY_MS
    policies = config.get("cleanup.policy", "").replace(" ", "").split(",")
    if config.get("message.timestamp.type") != "LogAppendTime":
        yield (
            "message.timestamp.type is not LogAppendTime: producers choose the times that retention, compaction "
            "and as-of use"
        )
    if "compact" in policies:
        yield from _compacted(topic, config, horizon_days)
    if "delete" in policies:
        retention_ms = _number(config, "retention.ms")
        if 0 <= retention_ms < horizon_ms:
            yield f"retention.ms deletes records after {_duration(retention_ms)}: the horizon is {horizon_days} days"
        if _number(config, "retention.bytes") >= 0:
            yield "retention.bytes deletes records of any age when the log is larger than that"


def _compacted(topic: Topic, config: Mapping[str, str], horizon_days: int) -> Iterator[str]:
    if topic.retention != "history":
        yield "cleanup.policy compacts it: Kafka keeps only the newest record of each key"
        return
    lag_ms = _number(config, "min.compaction.lag.ms")
    if lag_ms < horizon_days * DAY_MS:
        yield (
            f"min.compaction.lag.ms lets Kafka remove replaced versions after {_duration(lag_ms)}: "
            f"the horizon is {horizon_days} days"
        )
    tombstone_ms = _number(config, "delete.retention.ms")
    if 0 <= tombstone_ms < DAY_MS:
        yield (
            f"delete.retention.ms removes a tombstone after {_duration(tombstone_ms)}, and with it the only "
            "evidence that a producer removed a key"
        )


def _number(config: Mapping[str, str], name: str) -> int:
    """A setting as a number; -1, which means unlimited in Kafka, if it is not a number."""
    text = config.get(name, "")
    return int(text) if text.isdigit() else -1


def _duration(ms: int) -> str:
    return f"{ms / DAY_MS:g} days" if ms >= DAY_MS else f"{ms / 1000:g} s"
