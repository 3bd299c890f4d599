"""/asyncapi.json: the topics, records and headers of this installation, for consumers and producers."""

from collections.abc import Sequence

import orjson
from fastapi import APIRouter, Response
from fastapi.params import Depends

from processors.settings import Settings
from tools.asyncapi import asyncapi


def router(settings: Settings, checks: Sequence[Depends]) -> APIRouter:
    """The route; `checks` run before it."""
    routes = APIRouter(include_in_schema=False, dependencies=list(checks))
    document = asyncapi(
        settings.topics, horizon_days=settings.audit_horizon_days, partitions=settings.partitions
    )
    encoded = orjson.dumps(document)

    @routes.get("/asyncapi.json")
    async def asyncapi_json() -> Response:
        """The AsyncAPI document of this installation's topics."""
        return Response(encoded, media_type="application/json")

    return routes
