"""Whether outcomes are right, given the uploads of their scopes: the fast way first, in full where that does not do."""

from collections.abc import Iterable, Iterator

from processors.settings import Settings, upload_topics
from schemas.codec import Codec
from schemas.coordinates import Positions
from tables.history.upload_scan import Glance
from tools.audit.check.contexts_as_of import Texts
from tools.audit.check.encoded_contexts_as_of import RawContexts
from tools.audit.check.fast_check import Certifier, Places
from tools.audit.check.findings import Finding, Remark
from tools.audit.check.full_check import Judge, request_of
from tools.audit.check.outcome_claim import Case, Claim
from tools.audit.check.upload_timelines import Timelines
from tools.audit.check.uploads_as_of import Standing


class Verdicts:
    """Says what is wrong with outcomes; upload_ends is how far the upload records reach that it is given.

    texts are told the text of every upload that was current in a context, and that upload.
    """

    def __init__(
        self, settings: Settings, codec: Codec, upload_ends: Positions, texts: Texts
    ) -> None:
        self._topics, self._policy = settings.topics, settings.policy
        self._codec, self._cut = codec, upload_topics(settings)
        self._glance = Glance(self._codec, self._cut)
        self._places = Places(self._topics, self._cut, upload_ends)
        self._upload_ends = upload_ends
        self._texts = texts

    def of(
        self, timelines: Timelines, said: Iterable[Remark | Claim | Case | int]
    ) -> Iterator[Remark | int]:
        """What is to be said of outcomes whose scopes have these timelines; all else passes. Raises UnknownSchema."""
        standing = Standing(timelines, self._codec, self._cut)
        raw = RawContexts(timelines, self._glance, self._codec, self._cut, self._texts)
        certifier = Certifier(self._topics, self._policy, self._places, raw)
        judge = Judge(
            self._codec, self._topics, self._policy, standing, self._texts, self._upload_ends
        )
        for one in said:
            match one:
                case Claim():
                    if not certifier.is_right(one):
                        yield from self._judged(judge, one)
                case Case(outcome, request):
                    yield from judge.judge(outcome, request)
                case _:
                    yield one

    def _judged(self, judge: Judge, claim: Claim) -> Iterator[Remark]:
        outcome = claim.outcome()
        at = request_of(outcome, self._codec, self._topics)
        if isinstance(at, Finding):
            yield at
        else:
            yield from judge.judge(outcome, claim.request())
