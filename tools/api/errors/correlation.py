"""The id that connects a request with its response, its events and its log lines."""

import re
from collections.abc import Mapping, MutableMapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from uuid import NAMESPACE_OID, uuid4, uuid5

from starlette.datastructures import Headers, QueryParams

HEADER = "X-Correlation-ID"
PARAMETER = "correlation_id"
UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
MAX_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Correlation:
    """The id in use, and the value that the client sent if it was not a UUID."""

    id: str
    original: str | None = None


CURRENT: ContextVar[Correlation | None] = ContextVar("correlation", default=None)


def correlate(scope: MutableMapping[str, Any]) -> Correlation:
    """The correlation of a request: from its header, else from its query, else a new id."""
    sent_in_query = QueryParams(scope["query_string"]).get(PARAMETER, "")
    for sent in (Headers(scope=scope).get(HEADER, ""), sent_in_query):
        if UUID.fullmatch(sent):
            return Correlation(sent)
        if 1 <= len(sent) <= MAX_LENGTH and sent.isprintable():
            return Correlation(str(uuid5(NAMESPACE_OID, sent)), sent)
    return Correlation(str(uuid4()))


def correlation_of(scope: Mapping[str, Any]) -> Correlation:
    """The correlation that was stored when the request arrived."""
    correlation: Correlation = scope["state"]["correlation"]
    return correlation
