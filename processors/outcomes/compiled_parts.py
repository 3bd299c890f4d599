"""Makes the context parts of many scopes by one call of a compiled function, from the replica's rows."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from processors.outcomes import part_kernels as kernels
from processors.outcomes.batch_splicer import OutcomeParts, ScopeUse
from processors.outcomes.encoded_rows import row_layouts
from processors.outcomes.encoding import (
    NOTHING,
    EncodedContext,
    EncodedPart,
    encode_missing,
    encode_upload_start,
    prompt_source,
    word,
)
from processors.outcomes.resolve import Prepared
from tables.scan.compiled import CompiledScanner, Int64s, address_of, ends_of

LIVE = EncodedPart(is_deletion=False, encoded=NOTHING)
ANY_ID = b"-"
NUMBERS_BYTES = 32  # at most, of the numbers and union branches that a part adds to one row
Bytes = np.ndarray[Any, np.dtype[np.uint8]]


class EncodedParts(NamedTuple):
    """Context parts joined, where each ends, and the kind of each."""

    joined: Bytes
    ends: Int64s
    kinds: Int64s


class CompiledParts:
    """Makes the context parts of uses of scopes; those with a row that is not scanned are decoded."""

    def __init__(self, parts: OutcomeParts) -> None:
        layouts = row_layouts()
        self._parts = parts
        self._rows_of = parts.rows_of
        self._scanner = CompiledScanner([(frame, layout) for frame, layout, _ in layouts])
        self._layout_roles = np.array([role for _, _, role in layouts], np.int64)
        topics = [encode_upload_start(topic) for topic in parts.upload_topics]
        self._topic_ends = ends_of(topics)
        self._rules, self._constants = _rules_of(parts, b"".join(topics))
        self._most_added = (
            len(b"".join(topics)) + kernels.ROLES * NUMBERS_BYTES + _longest_constants(self._rules)
        )

    def make(self, uses: Sequence[ScopeUse]) -> EncodedParts:
        """The parts of these uses, from the present rows."""
        scope_keys = [use.scope_key for use in uses]
        rows = self._rows_of(scope_keys)
        joined, keys = b"".join(filter(None, rows)), b"".join(scope_keys)
        are_present = np.fromiter((row is not None for row in rows), np.uint8, len(rows))
        ends = _ends_of_heads_and_payloads(rows)
        layouts, places = self._scanner.scan_joined(joined, ends)
        target = np.empty(len(joined) + len(keys) + len(uses) * self._most_added, np.uint8)
        part_ends, kinds = np.empty(len(uses), np.int64), np.empty(len(uses), np.int64)
        kernels.make_parts(
            address_of(joined),
            ends,
            layouts,
            places,
            are_present,
            self._layout_roles,
            address_of(keys),
            ends_of(scope_keys),
            np.fromiter((use.number for use in uses), np.int64, len(uses)),
            self._rules,
            self._topic_ends,
            address_of(self._constants),
            int(target.ctypes.data),
            part_ends,
            kinds,
        )
        parts = EncodedParts(target, part_ends, kinds)
        return self._with_decoded(uses, parts) if kernels.SLOW_PATH in kinds else parts

    def _with_decoded(self, uses: Sequence[ScopeUse], parts: EncodedParts) -> EncodedParts:
        """The same, but the parts that the kernel left are made by the slow path."""
        ends = parts.ends.tolist()
        encoded, kinds = list[bytes](), parts.kinds.copy()
        for number, (use, start, end) in enumerate(zip(uses, [0, *ends], ends, strict=False)):
            if kinds[number] == kernels.SLOW_PATH:
                decoded = self._parts.decoded_part(use)
                kinds[number] = decoded.kind
                encoded.append(decoded.encoded)
            else:
                encoded.append(parts.joined[start:end].tobytes())
        return EncodedParts(np.frombuffer(b"".join(encoded), np.uint8), ends_of(encoded), kinds)


def _ends_of_heads_and_payloads(rows: Sequence[bytes | None]) -> Int64s:
    """Where the head and the payload of each row end if the rows are joined."""
    row_ends = np.cumsum(
        np.fromiter((0 if row is None else len(row) for row in rows), np.int64, len(rows))
    )
    starts = np.concatenate((np.zeros(1, np.int64), row_ends[:-1]))
    ends = np.empty(2 * len(rows), np.int64)
    ends[0::2] = np.minimum(starts + kernels.HEAD_BYTES, row_ends)
    ends[1::2] = row_ends
    return ends


def _rules_of(parts: OutcomeParts, constants: bytes) -> tuple[Int64s, bytes]:
    """The rule for each set of live roles and each use, and the constants, of which these are the first."""
    rules = []
    for live in range(1 << kernels.ROLES):
        are_live = [live >> role & 1 for role in range(kernels.ROLES)]
        context = EncodedContext(*(LIVE if is_live else None for is_live in are_live))
        for number in range(kernels.USES):
            use = ScopeUse(number, ANY_ID)
            resolution = parts.resolve(use, context)
            has_prompt = resolution.context is not None and bool(are_live[kernels.PROMPT])
            if isinstance(resolution, Prepared):
                middle = word(resolution.source)
                end = prompt_source(brings_prompt=use.brings_prompt, has_prompt=has_prompt)
            else:
                middle, end = b"", encode_missing(resolution.missing)
            middle_at, end_at = len(constants), len(constants) + len(middle)
            constants += middle + end
            uses_context = resolution.context is not None
            rules.append(
                (parts.kind_of(resolution), uses_context, middle_at, len(middle), end_at, len(end))
            )
    return np.array(rules, np.int64), constants


def _longest_constants(rules: Int64s) -> int:
    return int((rules[:, kernels.MIDDLE_SIZE] + rules[:, kernels.END_SIZE]).max())
