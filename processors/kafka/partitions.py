"""Partitions of topics."""

from collections.abc import Iterable

from processors.settings import Settings
from schemas.coordinates import Partition


def partitions_of(topic_names: Iterable[str], settings: Settings) -> list[Partition]:
    """Every partition of these topics."""
    return [
        Partition(name, number) for name in topic_names for number in range(settings.partitions)
    ]
