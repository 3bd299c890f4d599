"""The fold's progress, as its Faust app knows it: not among the probes that a process without Faust uses, too."""

from collections.abc import Collection

from processors.fold.faust_app import CJStreamApp
from schemas.coordinates import Positions


def fold_positions(app: CJStreamApp, topics: Collection[str]) -> Positions:
    """The fold's position in each partition; partitions that are just being assigned are missing."""
    consumer = app.tracked_consumer
    return {} if consumer is None else consumer.processed_positions(topics)
