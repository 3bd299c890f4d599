"""Whether outcomes are right, given the uploads of their scopes: the fast check, and the full one if it fails.

The fast check computes the outcome again from the bytes of its request and of the uploads, under today's policy, and
compares. An outcome that does not pass may still be right: the full check decides. So a shortcut is allowed in the fast
check if it can only make an outcome fail. An outcome is also right if it follows from what earlier releases accepted.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from processors.log.set_aside import upload_topics_with_set_aside
from processors.outcomes.encoded_rows import CAPTURED
from processors.outcomes.encoding import (
    encode_context_part,
    encode_head_of,
    encoded_roles,
    optional,
)
from processors.outcomes.recipes import RECIPE, RECIPES
from processors.outcomes.resolve import Prepared, resolve, scope_key_for
from processors.settings import Settings
from schemas.codec import FRAME, Codec
from schemas.coordinates import Positions
from schemas.errors import Malformed
from schemas.events import CJAssessmentRequested, CJBatchPrepared, CJBatchUnresolved
from schemas.topics import MAX_REQUEST_BYTES
from tables.scan.plain import PLAIN_ENGINE
from tables.scan.scanner import Engine
from tables.upload_check import UploadCheck
from tools.audit.check.completeness import CompletenessCheck
from tools.audit.check.contexts_as_of import ContextsAsOf, Texts
from tools.audit.check.findings import Finding, Violation
from tools.audit.check.full_check import FullCheck, positions_of
from tools.audit.check.outcome_with_request import Headers, OutcomeWithRequest
from tools.audit.check.upload_rows import AtPositions, PositionTable, UploadRows, position_table

if TYPE_CHECKING:
    from tools.audit.check.encoded_contexts import AsOf

MAX_CACHED_POSITIONS = 40_000  # of all partitions; the batches of one join have the same positions


def findings_of(completeness: CompletenessCheck, correctness: "CorrectnessCheck") -> list[Finding]:
    """What both checks find in one partition; the findings are counted in its tally."""
    findings = list[Finding]()
    for portion in completeness.run():
        findings += portion.findings
        findings += correctness.check(portion.outcomes)
    for finding in findings:
        completeness.tally.add(finding)
    return findings


class CorrectnessCheck:
    """Checks outcomes against the upload records up to `upload_ends`.

    The text of every upload that was current in a context is added to `texts`, if that is given.
    """

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        upload_ends: Positions,
        texts: Texts | None,
        engine: Engine = PLAIN_ENGINE,
    ) -> None:
        self._topics, self._policy, self._codec = settings.topics, settings.policy, codec
        self._upload_topics = upload_topics_with_set_aside(settings)
        self._upload_check = UploadCheck(codec, self._upload_topics, engine, CAPTURED)
        self._upload_ends = upload_ends
        self._texts = texts
        version = RECIPES[RECIPE].outcome
        self._prepared = (self._topics.batches.name, codec.frame_of(CJBatchPrepared, version))
        self._unresolved = (
            self._topics.unresolved.name,
            codec.frame_of(CJBatchUnresolved, version),
        )
        self._max_cached = max(100, MAX_CACHED_POSITIONS // settings.partitions)
        self._positions_in = lru_cache(self._max_cached)(self._read_positions)

    def set_uploads(self, rows: UploadRows) -> None:
        """Check against these upload records from now on."""
        from tools.audit.check.encoded_contexts import EncodedContextsAsOf  # imports numpy

        self._encoded = EncodedContextsAsOf(rows, self._upload_check, self._codec, self._texts)
        self._full, self._full_as_earlier = (
            FullCheck(
                codec,
                self._topics,
                self._policy,
                ContextsAsOf(rows, codec, self._texts),
                self._upload_ends,
            )
            for codec in (self._codec, self._codec.as_earlier())
        )

    def check(self, pairs: Sequence[OutcomeWithRequest]) -> Iterator[Finding]:
        """Check outcomes of scopes whose uploads are set. Raises UnknownSchema."""
        for start in range(0, len(pairs), self._max_cached):
            portion = pairs[start : start + self._max_cached]
            for pair, is_right in zip(portion, self._are_right(portion), strict=True):
                if not is_right:
                    yield from self._check_in_full(pair)

    def _check_in_full(self, pair: OutcomeWithRequest) -> list[Finding]:
        findings = list(self._full.check(pair.outcome, pair.request))
        if any(isinstance(finding, Violation) for finding in findings):
            as_earlier = list(self._full_as_earlier.check(pair.outcome, pair.request))
            if not any(isinstance(finding, Violation) for finding in as_earlier):
                return as_earlier
        return findings

    def _are_right(self, pairs: Sequence[OutcomeWithRequest]) -> list[bool]:
        """Whether each outcome passes the fast check."""
        wanted = dict[int, AtPositions]()
        for number, pair in enumerate(pairs):
            *_, headers, _ = pair.outcome_fields
            positions = self._positions_in(headers)
            if pair.scanned is not None and positions is not None:
                wanted[number] = scope_key_for(pair.scanned).encode(), positions
        are_right = [False] * len(pairs)
        for number, as_of in zip(wanted, self._encoded.as_of(list(wanted.values())), strict=True):
            are_right[number] = self._is_right(pairs[number], as_of)
        return are_right

    def _is_right(self, pair: OutcomeWithRequest, as_of: "AsOf") -> bool:
        topic, _, _, _, value, _, appended_at_ms = pair.outcome_fields
        request_topic, partition, offset, _, payload, _, _ = pair.request_fields
        request = pair.scanned
        if request is None or payload is None:
            return False
        # a record beyond the positions may be older than the request, and the join may have missed it
        if as_of.later_ms < appended_at_ms or len(payload) > MAX_REQUEST_BYTES:
            return False
        resolution = resolve(request, as_of.context, self._policy)
        is_prepared = isinstance(resolution, Prepared)
        expected_topic, frame = self._prepared if is_prepared else self._unresolved
        own_prompt, roles = request.student_prompt_ref, encoded_roles(resolution.context)
        version = self._codec.version_of(CJAssessmentRequested, payload)
        expected = (
            frame,
            encode_head_of(RECIPE, request_topic, partition, offset),
            encode_context_part(resolution, roles, brings_prompt=own_prompt is not None),
            optional(own_prompt) if is_prepared and own_prompt is not None else b"",
            payload[FRAME.size :],
            RECIPES[RECIPE].spliced[version],
        )
        return topic == expected_topic and value == b"".join(expected)

    def _read_positions(self, headers: Headers) -> PositionTable | None:
        """The positions in an outcome's headers, if they are readable and not beyond the ends of the uploads."""
        try:
            positions = positions_of(headers, self._topics)
            table = position_table(positions, self._upload_topics)
        except Malformed:
            return None
        ends = self._upload_ends
        is_within = all(position <= ends[partition] for partition, position in positions.items())
        return table if is_within else None
