"""A small registry that takes schemas and gives them ids of its own, as Confluent's API has it."""

from typing import Any

from fastapi import FastAPI, Request, Response

from schemas.codec import canonical


class SmallRegistry:
    """What was registered, and how it behaves: read-only or not, there or away."""

    def __init__(self) -> None:
        self.schemas: list[str] = []  # the id is the place, from 1
        self.subjects: dict[str, list[int]] = {}
        self.asked: list[str] = []
        self.authorizations: set[str | None] = set()
        self.is_read_only = False
        self.is_away = False
        self.instead: str | None = None  # the schema that every look-up is answered with
        self.app = FastAPI(openapi_url=None)
        self.app.add_api_route("/{path:path}", self._answer, methods=["GET", "POST"])

    def calls(self, beginning: str) -> int:
        """How often routes with this beginning were asked."""
        return sum(route.startswith(beginning) for route in self.asked)

    def register(self, subject: str, schema: str) -> int:
        """The schema's id, the same for an equal schema."""
        if schema not in self.schemas:
            self.schemas.append(schema)
        schema_id = self.schemas.index(schema) + 1
        versions = self.subjects.setdefault(subject, [])
        if schema_id not in versions:
            versions.append(schema_id)
        return schema_id

    async def _answer(self, path: str, request: Request) -> Any:
        self.asked.append(f"{request.method} /{path}")
        self.authorizations.add(request.headers.get("authorization"))
        if self.is_away:
            return Response(status_code=503)
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
                        told = {"subject": subject, "version": version, "id": schema_id}
                        return {**told, "schema": self.instead or schema}
                return Response(status_code=404)
            case "POST", ["subjects", subject, "versions"]:
                if self.is_read_only:
                    return Response(status_code=403)
                return {"id": self.register(subject, (await request.json())["schema"])}
        return Response(status_code=405)
