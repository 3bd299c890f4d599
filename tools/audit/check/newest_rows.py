"""The newest upload record of each topic below some positions, for many scopes at once."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from schemas.partitioner import partition_for
from tools.audit.check.upload_rows import AtPositions, Row, UploadRows

NO_LATER_RECORD = 2**63 - 1
NO_ROW = NO_GROUP = -1
Int64s = np.ndarray[Any, np.dtype[np.int64]]


class NewestRows:
    """Rows in groups, one for each scope and topic; in a group, by offset.

    The rows of a scope are those of one partition: the one of its key, if it has rows in several.
    """

    def __init__(self, uploads: UploadRows) -> None:
        self._topics = len(uploads.topics.by_name)
        columns = list(zip(*uploads.rows, strict=True)) or [()] * 6
        keys, topics, partitions, offsets, times_ms = columns[:5]
        self._scopes = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        scopes = np.fromiter(map(self._scopes.__getitem__, keys), np.int64, len(keys))
        in_partition = np.array(partitions, np.int64)
        # of each scope, and of one without rows
        self._partitions = np.zeros(len(self._scopes) + 1, np.int64)
        self._partitions[scopes] = in_partition
        scope_keys = list(self._scopes)
        for number in np.unique(scopes[self._partitions[scopes] != in_partition]).tolist():
            partition = partition_for(scope_keys[number], uploads.topics.partitions)
            self._partitions[number] = partition
        kept = np.flatnonzero(self._partitions[scopes] == in_partition)
        groups = scopes[kept] * self._topics + np.array(topics, np.int64)[kept]
        of_kept = np.array(offsets, np.int64)[kept]
        order = np.lexsort((of_kept, groups))
        self.rows: list[Row] = [uploads.rows[number] for number in kept[order].tolist()]
        self._offsets = np.unique(of_kept)
        # the last one is for an index beyond either end
        self._groups = np.append(groups[order], NO_GROUP)
        earliest_ms = _earliest_from_here(groups[order], np.array(times_ms, np.int64)[kept][order])
        self._earliest_ms = np.append(earliest_ms, NO_LATER_RECORD)
        self._ranks = self._rank(groups[order], of_kept[order])

    def _rank(self, groups: Int64s, offsets: Int64s) -> Int64s:
        """Numbers in the order of groups and offsets; those of two offsets differ if a row lies between them."""
        in_group: Int64s = np.searchsorted(self._offsets, offsets)
        ranks: Int64s = groups * (len(self._offsets) + 1) + in_group
        return ranks

    def at(self, wanted: Sequence[AtPositions]) -> tuple[list[list[int]], list[int]]:
        """For each scope: the number of the newest row of each topic below the positions, or NO_ROW.

        Then the earliest append time of the rows at and beyond the positions; NO_LATER_RECORD if there is none.
        """
        unknown = len(self._scopes)
        scopes = np.fromiter(
            (self._scopes.get(key, unknown) for key, _ in wanted), np.int64, len(wanted)
        )
        tables = {id(positions): positions for _, positions in wanted}
        numbers = {identity: number for number, identity in enumerate(tables)}
        which = np.fromiter(
            (numbers[id(positions)] for _, positions in wanted), np.int64, len(wanted)
        )
        if not tables:
            return [], []
        positions = np.array(list(tables.values()), np.int64)[which, self._partitions[scopes]]
        groups = scopes[:, np.newaxis] * self._topics + np.arange(self._topics)
        following = np.searchsorted(self._ranks, self._rank(groups, positions))
        newest = np.where(self._groups[following - 1] == groups, following - 1, NO_ROW)
        is_later = self._groups[following] == groups
        later_ms = np.where(is_later, self._earliest_ms[following], NO_LATER_RECORD).min(axis=1)
        return newest.tolist(), later_ms.tolist()

    def older(self, number: int) -> Iterator[int]:
        """The rows of the same scope and topic before this one, from the newest."""
        for older in range(number - 1, -1, -1):
            if self._groups[older] != self._groups[number]:
                return
            yield older


def _earliest_from_here(groups: Int64s, times_ms: Int64s) -> Int64s:
    """For each row, the least time of it and those that follow in its group; the groups ascend."""
    times, ranks = np.unique(times_ms, return_inverse=True)
    # the ranks of a group are below those of the next one, so that a minimum from the end stays in its group
    in_groups = groups * len(times) + ranks
    least = np.minimum.accumulate(in_groups[::-1])[::-1]
    earliest: Int64s = times[least - groups * len(times)]
    return earliest
