"""A client of the Confluent schema registry's HTTP API, which Apicurio, Karapace and Redpanda have, too."""

import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx

from processors.http_clients import http_client
from processors.registry_security import REGISTRY_VARIABLE, RegistrySecurity, registry_variable
from processors.tls import secret_text, tls_context
from schemas.codec import canonical_or_none
from schemas.errors import Misconfigured, Unreachable
from schemas.subjects import SubjectVersion, subject_versions
from schemas.topics import Topics

MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
CALL_TIMEOUT_S = 10.0
LOOKUP_TIMEOUT_S = 2.0  # a look-up of an unknown id delays all records behind it
Document = dict[str, Any]


class RegistryClient:
    """A registry at a URL; user and password, of the settings or in the URL, are sent as basic auth and never logged.

    Raises Misconfigured if a file of the settings cannot be used.
    """

    def __init__(self, url: str, security: RegistrySecurity) -> None:
        full_url = httpx.URL(url)
        options: dict[str, Any] = {}
        if any(name.startswith("ssl_") for name in security.model_fields_set):
            options["verify"] = tls_context(security, registry_variable)
        self._client = http_client(
            url,
            base_url=full_url.copy_with(userinfo=b""),
            auth=_basic_auth(full_url, security),
            **options,
            headers={"Accept": f"{MEDIA_TYPE}, application/json", "Content-Type": MEDIA_TYPE},
            limits=httpx.Limits(
                max_keepalive_connections=0
            ),  # a codec is never closed, so nothing would close them
        )

    def ids(self, topics: Topics) -> Mapping[tuple[str, int], int]:
        """The id of each released schema, by name and version; schemas that are missing are registered.

        Raises Unreachable, or Misconfigured if a schema is missing and the registry refuses it.
        """
        return {
            (version.name, version.version): self._id_of(version)
            for version in subject_versions(topics)
        }

    def _id_of(self, version: SubjectVersion) -> int:
        schema_id = self._look_up(version)
        if schema_id is None:
            path = f"/subjects/{quote(version.subject, safe='')}/versions"
            response = self._call("POST", path, version)
            schema_id = self._look_up(version) if response.is_success else None
            if schema_id is None:
                raise Misconfigured(
                    f"{REGISTRY_VARIABLE}: the registry does not accept version {version.version} of "
                    f"{version.subject} (HTTP {response.status_code}): register it there, or allow it"
                )
        return schema_id

    def _look_up(self, version: SubjectVersion) -> int | None:
        response = self._call("POST", f"/subjects/{quote(version.subject, safe='')}", version)
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        if not response.is_success:
            is_login = response.status_code == httpx.codes.UNAUTHORIZED
            hint = (
                f": is {registry_variable('username')} and its password right?" if is_login else ""
            )
            raise Misconfigured(
                f"{REGISTRY_VARIABLE}: the registry refuses to look up {version.subject} "
                f"(HTTP {response.status_code}){hint}"
            )
        document = _document(response)
        is_same = canonical_or_none(document.get("schema")) == version.form
        return document["id"] if is_same and isinstance(document.get("id"), int) else None

    def schema(self, schema_id: int) -> str | None:
        """The schema of an id as JSON; None if the registry does not have it.

        Raises Unreachable, also for a registry that refuses to answer: the id may exist.
        """
        response = self._call("GET", f"/schemas/ids/{schema_id}", timeout_s=LOOKUP_TIMEOUT_S)
        if response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise Unreachable(f"the schema registry: HTTP {response.status_code}")
        schema = _document(response).get("schema") if response.is_success else None
        return schema if isinstance(schema, str) else None

    def _call(
        self,
        method: str,
        path: str,
        version: SubjectVersion | None = None,
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> httpx.Response:
        body = None if version is None else {"schema": version.schema}
        try:
            response = self._client.request(method, path, json=body, timeout=timeout_s)
        except httpx.HTTPError as fault:
            if (refusal := _tls_refusal(fault)) is not None:
                raise Misconfigured(
                    f"{REGISTRY_VARIABLE}: TLS with the schema registry failed: {refusal}"
                ) from fault
            raise Unreachable(f"the schema registry: {type(fault).__name__}") from fault
        if response.is_server_error or response.status_code == httpx.codes.TOO_MANY_REQUESTS:
            raise Unreachable(f"the schema registry: HTTP {response.status_code}")
        return response


def _basic_auth(url: httpx.URL, security: RegistrySecurity) -> tuple[str, str] | None:
    if security.username is not None:
        return security.username, secret_text(security.password) or ""
    return (url.username, url.password) if url.userinfo else None


def _tls_refusal(fault: BaseException | None) -> str | None:
    """Why one side refused the other, for example its certificate; None for any other fault, also a lost connection."""
    while fault is not None and not isinstance(fault, ssl.SSLError):
        fault = fault.__cause__ or fault.__context__
    if fault is None or isinstance(fault, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return None
    return getattr(fault, "verify_message", None) or (fault.reason or "").replace("_", " ").lower()


def _document(response: httpx.Response) -> Document:
    try:
        document = response.json()
    except ValueError as fault:
        raise Unreachable("the schema registry's answer is not JSON") from fault
    return document if isinstance(document, dict) else {}
