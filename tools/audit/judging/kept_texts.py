"""The texts and responses of runs, as far as the content store still has them."""

from functools import lru_cache

from processors.judging.run_texts import RunTexts
from schemas.errors import ContentCorrupt, ContentMissing, Malformed
from schemas.judging_events import JudgingOpened
from tables.content_store import ContentStore

RESPONSES = 1000  # kept in memory


class KeptTexts:
    """Its methods raise Unreachable."""

    def __init__(self, store: ContentStore) -> None:
        self._texts = RunTexts(store)
        self.get = self._texts.get
        self.response = lru_cache(RESPONSES)(store.get)  # raises ContentMissing, ContentCorrupt

    def faults_of(self, opened: JudgingOpened) -> tuple[list[str], list[str]]:
        """The texts of a run's prompts that are missing, and those that are damaged."""
        prompt = opened.prompt
        ids = [prompt.task, prompt.criteria, prompt.rubric, prompt.system]
        ids += [item.storage_id for item in (*opened.essays, *opened.anchors)]
        missing, damaged = list[str](), list[str]()
        for storage_id in filter(None, ids):
            try:
                self.get(storage_id)
            except ContentMissing:
                missing.append(storage_id)
            except (ContentCorrupt, Malformed):
                damaged.append(storage_id)
        return missing, damaged
