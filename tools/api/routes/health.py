"""/healthz, /readyz and /metrics, for monitoring; they need no token."""

import asyncio

import orjson
from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from tools.api.dependencies import Dependencies, Deps

PROBE_TIMEOUT_S = 3.0
READING = ["GET", "HEAD"]  # some load balancers ask with HEAD
routes = APIRouter(tags=["health"], include_in_schema=False)
metrics_routes = APIRouter(tags=["health"], include_in_schema=False)


@routes.api_route("/healthz", methods=READING)
async def healthz() -> Response:
    """Whether the process responds; nothing else is checked."""
    return Response(orjson.dumps({"status": "ok"}), media_type="application/json")


@routes.api_route("/readyz", methods=READING)
async def readyz(deps: Deps) -> Response:
    """Whether requests can be served: signing keys, replica, Kafka and content store are available."""
    keys, content = await asyncio.gather(_has_keys(deps), deps.content.has_answered_recently())
    checks = {"keys": keys, "content": content, **deps.log.ready()}
    is_ready = all(checks.values())
    document = {"status": "ok" if is_ready else "unavailable", "checks": checks}
    return Response(orjson.dumps(document), 200 if is_ready else 503, media_type="application/json")


async def _has_keys(deps: Dependencies) -> bool:
    try:
        return await asyncio.wait_for(deps.verifier.keys.are_loaded(), PROBE_TIMEOUT_S)
    except TimeoutError:
        return False


@metrics_routes.api_route("/metrics", methods=READING)
async def metrics(deps: Deps) -> Response:
    """The metrics in Prometheus' text format."""
    return Response(deps.metrics.text(), media_type=CONTENT_TYPE_LATEST)
