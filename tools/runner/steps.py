"""The steps of a run, each noted before it begins and after it is done: a run that was killed continues from there.

1. texts: every text is in the content store   2. assignment: its texts are live   3. anchors: so are they
4. manifest: it is in the content store, too   5. gate: a request would be prepared   6. offsets: where the request
will be, at the earliest   7. request: it is in the log, once
Then the run is followed in the log, which can be done again at any time.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from processors.kafka.records import LogRecord
from processors.settings import Settings
from schemas.codec import Codec
from tools.admin.api import AdminApi
from tools.runner.assignment import check_gate, upload_anchors, upload_assignment
from tools.runner.content_client import ContentClient
from tools.runner.inventory import Inventory
from tools.runner.manifest import MEDIA_TYPE, Manifest
from tools.runner.publish import REQUEST, noted_end, publish_once, request_of_run
from tools.runner.run_folder import RunFolder
from tools.runner.runner_log import RunLog
from tools.runner.uploads import ChecksumCache, upload_texts

Facts = Mapping[str, Any]
TEXTS, ASSIGNMENT, ANCHORS = "texts", "assignment", "anchors"
MANIFEST, GATE, OFFSETS = "manifest", "gate", "offsets"


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What the steps of a run use. reached: called at each point at which a test may kill the run."""

    settings: Settings
    codec: Codec
    api: AdminApi
    content: ContentClient
    cache: ChecksumCache
    log: RunLog
    reached: Callable[[str], None] = lambda _point: None


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of one run."""

    folder: RunFolder
    manifest: Manifest
    services: Services

    def needs_texts(self) -> bool:
        """Whether a step is left that needs the input files."""
        return not self.folder.is_done(ANCHORS)

    def upload(self, inventory: Inventory, *, force: bool) -> None:
        """Steps 1 to 3. Raises CJStreamError."""
        document = self.manifest.document
        counts = self._step(TEXTS, lambda: self._texts(inventory, force=force))
        self.services.log.write("runner_uploaded", **counts)
        given = (inventory, document["assignment_id"], document["grade_scale"])
        self._step(ASSIGNMENT, lambda: upload_assignment(self.services.api, *given))
        self._step(ANCHORS, lambda: upload_anchors(self.services.api, *given))

    def publish(self) -> LogRecord:
        """Steps 4 to 7; returns the record of the request. Raises CJStreamError."""
        services, manifest = self.services, self.manifest
        self._step(MANIFEST, self._store_manifest)
        self._step(GATE, lambda: check_gate(services.api, manifest.document["assignment_id"]))
        noted = self._step(OFFSETS, lambda: noted_end(services.settings, manifest))
        if self.folder.is_done(REQUEST):
            return request_of_run(services.settings, self.folder)
        published: list[LogRecord] = []

        def publish() -> Facts:
            found = publish_once(services.settings, services.codec, manifest, noted)
            published.append(found)
            return {"at": str(found.at), "event_id": manifest.event_id}

        facts = self._step(REQUEST, publish)
        services.log.write("runner_published", **facts)
        return published[0]

    def _texts(self, inventory: Inventory, *, force: bool) -> Facts:
        contents = {text.storage_id: text.text for text in inventory.texts if text.kind != "system"}
        # what a run that was killed has sent is asked for, not sent again
        began = bool(self.folder.facts_of(TEXTS))
        services = self.services
        self.folder.note(TEXTS, "begun", texts=len(contents))
        known, is_forced = (contents, False) if began else ((), force)
        counts = upload_texts(
            contents, services.content, services.cache, known=known, force=is_forced
        )
        return {"sent": counts.sent, "known": counts.known}

    def _store_manifest(self) -> Facts:
        return {"storage_id": self.services.content.store(self.manifest.content, MEDIA_TYPE)}

    def _step(self, name: str, act: Callable[[], Facts]) -> Facts:
        """The facts of a step, which is done now unless it was done before."""
        if self.folder.is_done(name):
            return self.folder.facts_of(name)
        reached = self.services.reached
        self.folder.note(name, "begun")
        reached(f"{name} begun")
        facts = act()
        reached(f"{name} acted")
        self.folder.note(name, "done", **facts)
        reached(f"{name} done")
        return self.folder.facts_of(name)
