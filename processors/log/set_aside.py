"""Which uploads of later releases were set aside, for folds that read the log without the worker's replica."""

from dataclasses import dataclass, field, replace

from processors.kafka.offsets import high_watermarks_when_reachable
from processors.log.reader import LogReader
from processors.log.upload_topics import upload_record_of
from processors.settings import Settings, administered_topics, upload_topics
from schemas.coordinates import Coordinates, Partition
from tables.upload_record import UploadTopics


@dataclass(frozen=True)
class SetAsideLookup:
    """Reads ahead of an upload for a record that sets it aside; every upload is looked up once."""

    settings: Settings
    known: dict[Coordinates, bool] = field(default_factory=dict)

    def __call__(self, at: Coordinates) -> bool:
        """Whether the upload at these coordinates is set aside, by any later record. Raises Unreachable."""
        if at not in self.known:
            self.known[at] = self._read_ahead(at)
        return self.known[at]

    def _read_ahead(self, at: Coordinates) -> bool:
        partition = Partition(at.topic, at.partition)
        ends = high_watermarks_when_reachable(self.settings, [partition])
        key = None
        with LogReader(self.settings, [partition]) as log:
            log.seek({partition: at.offset})
            for messages in log.messages_until(ends):
                for record in map(upload_record_of, messages):
                    if record.at == at:
                        key = record.key
                    if record.sets_aside == at.offset and record.key == key:
                        return True
        return False


def upload_topics_with_set_aside(settings: Settings) -> UploadTopics:
    """The upload topics, for a fold outside a worker and an API process."""
    return replace(upload_topics(settings), is_set_aside=SetAsideLookup(settings))


def administered_topics_with_set_aside(settings: Settings) -> UploadTopics:
    """The same with the topics of every role."""
    return replace(administered_topics(settings), is_set_aside=SetAsideLookup(settings))
