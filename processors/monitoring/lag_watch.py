"""How far a reader is behind, in records and in seconds, from samples of its position and of the end. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from schemas.coordinates import Partition, Positions

MAX_SAMPLES = 512  # of one partition; beyond, every second one is dropped, so that ages get coarser


@dataclass(frozen=True, slots=True)
class Lag:
    """How far behind: in offsets (markers count), and for how long the oldest unread one has been there."""

    records: int
    seconds: float


@dataclass(slots=True)
class _Partition:
    position: int
    at_start: int  # the end at the first sample: how old those records are, only their stamps tell
    samples: list[tuple[float, int]] = field(
        default_factory=list
    )  # when the end rose above the last


class LagWatch:
    """The lag of some partitions; one that is missing from a sample is forgotten."""

    def __init__(self) -> None:
        self._partitions: dict[Partition, _Partition] = {}

    def __len__(self) -> int:
        """How many samples are kept."""
        return sum(len(one.samples) for one in self._partitions.values())

    def observe(self, now_s: float, positions: Positions, ends: Positions) -> None:
        """Note the positions that are known now, and the ends that they should reach."""
        known, now = self._partitions, dict[Partition, _Partition]()
        for tp in positions.keys() & ends.keys():
            one = known.get(tp) or _Partition(positions[tp], ends[tp])
            one.position = positions[tp]
            samples = [sample for sample in one.samples if sample[1] > one.position]
            if ends[tp] > max([one.position, *(end for _, end in samples[-1:])]):
                samples.append((now_s, ends[tp]))
            one.samples = [samples[0], *samples[1::2]] if len(samples) > MAX_SAMPLES else samples
            now[tp] = one
        self._partitions = now

    def lags(self, now_s: float, read_until_s: Mapping[Partition, float]) -> dict[Partition, Lag]:
        """The lag of each partition.

        read_until_s: the append time of the newest record read, on the clock of now_s; it tells the age of what was
        there before the first sample.
        """
        return {tp: _lag(one, now_s, read_until_s.get(tp)) for tp, one in self._partitions.items()}


def _lag(one: _Partition, now_s: float, read_until_s: float | None) -> Lag:
    if not one.samples:
        return Lag(0, 0.0)
    since_s = one.samples[0][0]
    if one.position < one.at_start and read_until_s is not None:
        since_s = min(since_s, read_until_s)
    return Lag(one.samples[-1][1] - one.position, max(0.0, now_s - since_s))
