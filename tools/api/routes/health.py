"""/healthz, /readyz and /metrics: for those who watch, without a token."""

import asyncio

import orjson
from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from tools.api.dependencies import Dependencies, Deps

PATIENCE_S = 3.0
routes = APIRouter(tags=["health"], include_in_schema=False)
metrics_routes = APIRouter(tags=["health"], include_in_schema=False)


@routes.get("/healthz")
async def healthz() -> Response:
    """The process answers; nothing else is asked."""
    return Response(orjson.dumps({"status": "ok"}), media_type="application/json")


@routes.get("/readyz")
async def readyz(parts: Deps) -> Response:
    """Whether requests can be answered: keys, replica, Kafka and content store."""
    keys, content = await asyncio.gather(_has_keys(parts), parts.content.has_answered_recently())
    checks = {"keys": keys, "content": content, **parts.log.ready()}
    is_ready = all(checks.values())
    document = {"status": "ok" if is_ready else "unavailable", "checks": checks}
    return Response(orjson.dumps(document), 200 if is_ready else 503, media_type="application/json")


async def _has_keys(parts: Dependencies) -> bool:
    try:
        return await asyncio.wait_for(parts.verifier.has_keys(), PATIENCE_S)
    except TimeoutError:
        return False


@metrics_routes.get("/metrics")
async def metrics(parts: Deps) -> Response:
    """Prometheus' text format."""
    return Response(parts.metrics.text(), media_type=CONTENT_TYPE_LATEST)
