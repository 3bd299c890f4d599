"""The released schemas as a registry presents them: subject, version, schema id.

A topic may hold several types, so a subject is `<topic>-<full record name>` (Confluent's TopicRecordNameStrategy).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import orjson

from schemas.codec import canonical
from schemas.released_schemas import released
from schemas.topics import Topics


@dataclass(frozen=True, slots=True)
class SubjectVersion:
    """One version of a subject.

    name is the record's name without its namespace, schema the schema as JSON, form its parsing canonical form.
    """

    name: str
    subject: str
    version: int
    schema_id: int
    schema: str
    form: str


def subject_versions(topics: Topics) -> Iterator[SubjectVersion]:
    """Every version of every subject of these topics, oldest version first."""
    for topic in topics.all:
        for event_class in topic.carries:
            for release in released():
                if release.name == event_class.__name__:
                    full_name = f"{release.schema['namespace']}.{release.schema['name']}"
                    schema = orjson.dumps(release.schema).decode()
                    yield SubjectVersion(
                        release.name,
                        f"{topic.name}-{full_name}",
                        release.version,
                        release.schema_id,
                        schema,
                        canonical(schema),
                    )
