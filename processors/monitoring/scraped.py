"""Metrics that are read when they are scraped."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from schemas.errors import CJStreamError

Labels = tuple[str, ...]
Family = GaugeMetricFamily | CounterMetricFamily
Read = Callable[[], Mapping[Labels, float]]


class _Scraped(Collector):
    def __init__(self, family: Callable[[], Family], read: Read) -> None:
        self._family = family
        self._read = read

    def describe(self) -> Iterable[Metric]:
        return [self._family()]

    def collect(self) -> Iterable[Metric]:
        family = self._family()
        try:
            values = self._read()
        except CJStreamError:  # a store that is just being closed, for instance
            return [family]
        for labels, value in values.items():
            family.add_metric(labels, value)
        return [family]


def gauge(
    registry: CollectorRegistry, name: str, text: str, labels: Sequence[str], read: Read
) -> None:
    """Register a gauge with these labels, whose values are read at each scrape."""
    registry.register(_Scraped(lambda: GaugeMetricFamily(name, text, labels=labels), read))


def counter(registry: CollectorRegistry, name: str, text: str, read: Callable[[], float]) -> None:
    """Register a counter without labels that is kept elsewhere; its name has no `_total`."""
    registry.register(_Scraped(lambda: CounterMetricFamily(name, text, labels=()), _one(read)))


def value(
    registry: CollectorRegistry, name: str, text: str, read: Callable[[], float | None]
) -> None:
    """Register a gauge without labels; None: it has no value now."""
    gauge(registry, name, text, (), _one(read))


def _one(read: Callable[[], float | None]) -> Read:
    def values() -> Mapping[Labels, float]:
        number = read()
        return {} if number is None else {(): number}

    return values
