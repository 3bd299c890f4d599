"""A schema registry by its HTTP API: Confluent's, which Apicurio, Karapace and Redpanda speak, too."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx

from processors.settings import SHARED
from schemas.codec import canonical_or_none
from schemas.errors import Misconfigured, Unreachable
from schemas.subjects import SubjectVersion, subject_versions
from schemas.topics import Topics

MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
CALL_S = 10.0
UNKNOWN_S = 2.0  # a call for an unknown id holds up the records behind it
Document = dict[str, Any]


class RegistryClient:
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
        return {(one.name, one.version): self._id_of(one) for one in subject_versions(topics)}

    def _id_of(self, one: SubjectVersion) -> int:
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

    def _looked_up(self, one: SubjectVersion) -> int | None:
        answer = self._ask("POST", f"/subjects/{quote(one.subject, safe='')}", one)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        if not answer.is_success:
            raise Misconfigured(
                f"{SHARED}: the registry refuses to look up {one.subject} (HTTP {answer.status_code})"
            )
        told = _document(answer)
        same = canonical_or_none(told.get("schema")) == one.form
        return told["id"] if same and isinstance(told.get("id"), int) else None

    def schema(self, schema_id: int) -> str | None:
        """The schema of an id as JSON, None where the registry has none. Raises Unreachable."""
        answer = self._ask("GET", f"/schemas/ids/{schema_id}", timeout_s=UNKNOWN_S)
        schema = _document(answer).get("schema") if answer.is_success else None
        return schema if isinstance(schema, str) else None

    def _ask(
        self,
        method: str,
        path: str,
        version: SubjectVersion | None = None,
        timeout_s: float = CALL_S,
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
