"""The checksum in a header of each record of judging: it finds a changed byte also in what cannot be made again."""

import hashlib

from processors.kafka.records import Headers

CHECKSUM_HEADER = "cjstream-sha256"


def checksum_headers(value: bytes) -> Headers:
    """The header for a record with this value."""
    return ((CHECKSUM_HEADER, hashlib.sha256(value).hexdigest().encode()),)


def has_its_checksum(value: bytes | None, headers: Headers) -> bool:
    """Whether the header of a record is the one for its value."""
    return value is not None and tuple(headers) == tuple(checksum_headers(value))
