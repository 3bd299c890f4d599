"""A small schema registry with Confluent's API, which gives schemas its own ids."""

from typing import Any

from fastapi import FastAPI, Request, Response

from schemas.codec import canonical


class SmallRegistry:
    """The registered schemas, and switches: read-only, or unavailable."""

    def __init__(self) -> None:
        self.schemas: list[str] = []  # the id is the index plus 1
        self.subjects: dict[str, list[int]] = {}
        self.requests: list[str] = []
        self.authorizations: set[str | None] = set()
        self.is_read_only = False
        self.is_down = False
        self.only_authorization: str | None = None  # if set, every other header is refused
        self.lookup_schema: str | None = None  # if set, every look-up returns this schema
        self.app = FastAPI(openapi_url=None)
        self.app.add_api_route("/{path:path}", self._answer, methods=["GET", "POST"])

    def calls(self, prefix: str) -> int:
        """The number of requests to routes with this prefix."""
        return sum(route.startswith(prefix) for route in self.requests)

    def register(self, subject: str, schema: str) -> int:
        """Register a schema; returns its id, which is the same for an equal schema."""
        if schema not in self.schemas:
            self.schemas.append(schema)
        schema_id = self.schemas.index(schema) + 1
        versions = self.subjects.setdefault(subject, [])
        if schema_id not in versions:
            versions.append(schema_id)
        return schema_id

    async def _answer(self, path: str, request: Request) -> Any:
        self.requests.append(f"{request.method} /{path}")
        self.authorizations.add(request.headers.get("authorization"))
        if self.is_down:
            return Response(status_code=503)
        if self.only_authorization not in (None, request.headers.get("authorization")):
            return Response(status_code=401)
        match request.method, path.split("/"):
            case "GET", ["schemas", "ids", number]:
                schema_id = int(number)
                if not 0 < schema_id <= len(self.schemas):
                    return Response(status_code=404)
                return {"schema": self.schemas[schema_id - 1]}
            case "POST", ["subjects", subject]:
                form = canonical((await request.json())["schema"])
                for version, schema_id in enumerate(self.subjects.get(subject, []), 1):
                    schema = self.schemas[schema_id - 1]
                    if canonical(schema) == form:
                        document = {"subject": subject, "version": version, "id": schema_id}
                        return {**document, "schema": self.lookup_schema or schema}
                return Response(status_code=404)
            case "POST", ["subjects", subject, "versions"]:
                if self.is_read_only:
                    return Response(status_code=403)
                return {"id": self.register(subject, (await request.json())["schema"])}
        return Response(status_code=405)
