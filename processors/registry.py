"""A schema registry elsewhere: its ids for the released schemas, and the schemas of ids that are not known.

Confluent's HTTP API, which Apicurio, Karapace and Redpanda speak, too. Schemas are the same where their canonical
forms are; an id says nothing by itself.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any
from urllib.parse import quote

import httpx

from processors.settings import SHARED, Settings
from processors.waiting import wait_until
from schemas.codec import Codec, canonical
from schemas.errors import Malformed, Misconfigured, Unreachable
from schemas.subjects import Version, versions
from schemas.topics import Topics

log = logging.getLogger("cjstream.registry")
MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
CALL_S = 10.0
UNKNOWN_S = 2.0  # a call for an unknown id holds up the records behind it
WAIT_S = 10.0
AGAIN_S = 0.5
CALLS_A_MINUTE = 10  # for unknown ids: damaged bytes may hold any
KEPT_S = 60.0
KEPT = 1000
AWAY_S = 30.0
Document = dict[str, Any]


def codec_for(
    settings: Settings, wait_s: float = WAIT_S, goes_on: Callable[[], bool] = lambda: True
) -> Codec:
    """The codec of this installation: with a registry's ids where the settings name a registry.

    Waits for a registry that is away. Raises Unreachable where it stays away, or nothing is to go on any more;
    Misconfigured where it refuses a released schema.
    """
    if not settings.schema_registry_url:
        return Codec()
    registry = Registry(settings.schema_registry_url)

    def asked() -> Mapping[tuple[str, int], int]:
        try:
            return registry.ids(settings.topics)
        except Unreachable:
            if not goes_on():
                raise
            return {}

    ids = asked()
    if not ids:
        log.warning("waiting for the schema registry")
        ids = wait_until(asked, seconds=wait_s, what="the schema registry", every_s=AGAIN_S)
    log.info("schema ids are the registry's", extra={"schemas": len(ids)})
    return Codec(ids=ids, form_of=UnknownIds(registry.schema, time.monotonic).form_of)


class Registry:
    """A registry behind a URL; user and password in it are sent as basic auth and never told."""

    def __init__(self, url: str) -> None:
        given = httpx.URL(url)
        self._client = httpx.Client(
            base_url=given.copy_with(userinfo=b""),
            auth=(given.username, given.password) if given.userinfo else None,
            headers={"Accept": f"{MEDIA_TYPE}, application/json", "Content-Type": MEDIA_TYPE},
            limits=httpx.Limits(max_keepalive_connections=0),  # a codec has no end to close them at
        )

    def ids(self, topics: Topics) -> Mapping[tuple[str, int], int]:
        """The id of each released schema, by name and version; what is not there yet is registered.

        Raises Unreachable, or Misconfigured where a schema is not there and is refused.
        """
        return {(one.name, one.version): self._id_of(one) for one in versions(topics)}

    def _id_of(self, one: Version) -> int:
        found = self._looked_up(one)
        if found is None:
            answer = self._ask("POST", f"/subjects/{quote(one.subject, safe='')}/versions", one)
            found = self._looked_up(one) if answer.is_success else None
            if found is None:
                raise Misconfigured(
                    f"{SHARED}: the registry does not take version {one.version} of {one.subject} "
                    f"(HTTP {answer.status_code}): register it there, or allow it"
                )
        return found

    def _looked_up(self, one: Version) -> int | None:
        answer = self._ask("POST", f"/subjects/{quote(one.subject, safe='')}", one)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        if not answer.is_success:
            raise Misconfigured(
                f"{SHARED}: the registry refuses to look up {one.subject} (HTTP {answer.status_code})"
            )
        told = _document(answer)
        same = _form(told.get("schema")) == one.form
        return told["id"] if same and isinstance(told.get("id"), int) else None

    def schema(self, schema_id: int) -> str | None:
        """The schema of an id as JSON, None where the registry has none. Raises Unreachable."""
        answer = self._ask("GET", f"/schemas/ids/{schema_id}", timeout_s=UNKNOWN_S)
        schema = _document(answer).get("schema") if answer.is_success else None
        return schema if isinstance(schema, str) else None

    def _ask(
        self, method: str, path: str, version: Version | None = None, timeout_s: float = CALL_S
    ) -> httpx.Response:
        body = None if version is None else {"schema": version.schema}
        try:
            answer = self._client.request(method, path, json=body, timeout=timeout_s)
        except httpx.HTTPError as fault:
            raise Unreachable(f"the schema registry: {type(fault).__name__}") from fault
        if answer.is_server_error or answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
            raise Unreachable(f"the schema registry: HTTP {answer.status_code}")
        return answer


def _document(answer: httpx.Response) -> Document:
    try:
        told = answer.json()
    except ValueError as fault:
        raise Unreachable("what answers as the schema registry is none") from fault
    return told if isinstance(told, dict) else {}


def _form(schema: object) -> str | None:
    try:
        return canonical(schema) if isinstance(schema, str) else None
    except Malformed:
        return None


class UnknownIds:
    """Asks for the schemas of ids that are not known, each once a minute at most, and few a minute in all.

    Damaged bytes may hold any id, and must cost no call a record. An id that could not be asked for is unknown.
    """

    def __init__(
        self, schema_of: Callable[[int], str | None], monotonic: Callable[[], float]
    ) -> None:
        self._schema_of = schema_of
        self._monotonic = monotonic
        self._lock = Lock()
        self._calls = deque[float](maxlen=CALLS_A_MINUTE)
        self._kept: dict[int, tuple[float, str | None]] = {}
        self._away_until = float("-inf")

    def form_of(self, schema_id: int) -> str | None:
        """The canonical form of the schema with this id, None where that is not known."""
        with self._lock:
            now = self._monotonic()
            asked_at, form = self._kept.get(schema_id, (float("-inf"), None))
            if now - asked_at < KEPT_S or not self._may_call(now):
                return form
            self._calls.append(now)
            try:
                form = _form(self._schema_of(schema_id))
            except Unreachable as fault:
                log.warning("unknown schema ids cannot be asked for", extra={"fault": str(fault)})
                self._away_until = now + AWAY_S
                return None
            if len(self._kept) >= KEPT:
                self._kept.clear()
            self._kept[schema_id] = now, form
            return form

    def _may_call(self, now: float) -> bool:
        spent = len(self._calls) == CALLS_A_MINUTE and now - self._calls[0] < KEPT_S
        return not spent and now >= self._away_until
