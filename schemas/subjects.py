"""The released schemas as registries name them: subject, version, schema id.

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
    """One version of a subject; schema is the bare schema as JSON, form its parsing canonical form.

    name is the record's, without its namespace.
    """

    name: str
    subject: str
    version: int
    schema_id: int
    schema: str
    form: str


def subject_versions(topics: Topics) -> Iterator[SubjectVersion]:
    """Every version of every subject of these topics, the oldest of a subject first."""
    for topic in topics.all:
        for kind in topic.carries:
            for one in released():
                if one.name == kind.__name__:
                    subject = f"{topic.name}-{one.schema['namespace']}.{one.schema['name']}"
                    schema = orjson.dumps(one.schema).decode()
                    form = canonical(schema)
                    yield SubjectVersion(
                        one.name, subject, one.version, one.schema_id, schema, form
                    )
