"""Whether outcomes are right, given the uploads of their scopes: the fast way first, in full where that does not do."""

from collections.abc import Iterable, Iterator

from processors.settings import Settings, upload_topics
from schemas.codec import Codec
from schemas.coordinates import Positions
from tables.history.upload_scan import UploadScanner
from tools.audit.check.contexts_as_of import Texts
from tools.audit.check.encoded_contexts_as_of import EncodedContextsAsOf
from tools.audit.check.fast_check import FastCheck, PositionsCache
from tools.audit.check.findings import Finding, Violation
from tools.audit.check.full_check import FullCheck, request_of
from tools.audit.check.outcome_claim import OutcomeClaim, OutcomeWithRequest
from tools.audit.check.upload_timelines import UploadTimelines
from tools.audit.check.uploads_as_of import UploadsAsOf


class CorrectnessCheck:
    """Says what is wrong with outcomes; upload_ends is how far the upload records reach that it is given.

    texts are told the text of every upload that was current in a context, and that upload.
    """

    def __init__(
        self, settings: Settings, codec: Codec, upload_ends: Positions, texts: Texts
    ) -> None:
        self._topics, self._policy = settings.topics, settings.policy
        self._codec, self._cut = codec, upload_topics(settings)
        self._glance = UploadScanner(self._codec, self._cut)
        self._places = PositionsCache(self._topics, self._cut, upload_ends)
        self._upload_ends = upload_ends
        self._texts = texts

    def of(
        self,
        timelines: UploadTimelines,
        said: Iterable[Finding | OutcomeClaim | OutcomeWithRequest | int],
    ) -> Iterator[Finding | int]:
        """What is to be said of outcomes whose scopes have these timelines; all else passes. Raises UnknownSchema."""
        standing = UploadsAsOf(timelines, self._codec, self._cut)
        raw = EncodedContextsAsOf(timelines, self._glance, self._codec, self._cut, self._texts)
        certifier = FastCheck(self._topics, self._policy, self._places, raw)
        judge = FullCheck(
            self._codec, self._topics, self._policy, standing, self._texts, self._upload_ends
        )
        for one in said:
            match one:
                case OutcomeClaim():
                    if not certifier.passes(one):
                        yield from self._judged(judge, one)
                case OutcomeWithRequest(outcome, request):
                    yield from judge.check(outcome, request)
                case _:
                    yield one

    def _judged(self, judge: FullCheck, claim: OutcomeClaim) -> Iterator[Finding]:
        outcome = claim.outcome()
        at = request_of(outcome, self._codec, self._topics)
        if isinstance(at, Violation):
            yield at
        else:
            yield from judge.check(outcome, claim.request())
