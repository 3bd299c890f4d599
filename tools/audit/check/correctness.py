"""Whether outcomes are right, given the uploads of their scopes: the fast check, and the full one if it fails."""

from collections.abc import Iterable, Iterator

from processors.settings import Settings, upload_topics
from schemas.codec import Codec
from schemas.coordinates import Positions
from tables.history.upload_scan import UploadScanner
from tools.audit.check.contexts_as_of import Texts
from tools.audit.check.encoded_contexts_as_of import EncodedContextsAsOf
from tools.audit.check.fast_check import FastCheck, PositionsCache
from tools.audit.check.findings import Finding, Violation
from tools.audit.check.full_check import FullCheck, request_coordinates
from tools.audit.check.outcome_claim import OutcomeClaim, OutcomeWithRequest
from tools.audit.check.upload_timelines import UploadTimelines
from tools.audit.check.uploads_as_of import UploadsAsOf


class CorrectnessCheck:
    """Checks outcomes against timelines that contain the upload records up to `upload_ends`.

    The text of every upload that was current in a context is added to `texts`.
    """

    def __init__(
        self, settings: Settings, codec: Codec, upload_ends: Positions, texts: Texts
    ) -> None:
        self._topics, self._policy = settings.topics, settings.policy
        self._codec, self._upload_topics = codec, upload_topics(settings)
        self._scanner = UploadScanner(self._codec, self._upload_topics)
        self._positions_cache = PositionsCache(self._topics, self._upload_topics, upload_ends)
        self._upload_ends = upload_ends
        self._texts = texts

    def check(
        self,
        timelines: UploadTimelines,
        items: Iterable[Finding | OutcomeClaim | OutcomeWithRequest | int],
    ) -> Iterator[Finding | int]:
        """Check outcomes whose scopes have these timelines; other items pass unchanged. Raises UnknownSchema."""
        uploads = UploadsAsOf(timelines, self._codec, self._upload_topics)
        encoded = EncodedContextsAsOf(
            timelines, self._scanner, self._codec, self._upload_topics, self._texts
        )
        fast = FastCheck(self._topics, self._policy, self._positions_cache, encoded)
        full = FullCheck(
            self._codec, self._topics, self._policy, uploads, self._texts, self._upload_ends
        )
        for item in items:
            match item:
                case OutcomeClaim():
                    if not fast.passes(item):
                        yield from self._check_in_full(full, item)
                case OutcomeWithRequest(outcome, request):
                    yield from full.check(outcome, request)
                case _:
                    yield item

    def _check_in_full(self, full: FullCheck, claim: OutcomeClaim) -> Iterator[Finding]:
        outcome = claim.outcome()
        at = request_coordinates(outcome, self._codec, self._topics)
        if isinstance(at, Violation):
            yield at
        else:
            yield from full.check(outcome, claim.request())
