"""The responses of the admin and audit routes: a document, its status and its headers."""

from typing import Any

import orjson
from starlette.responses import Response

from processors.upload_log.upload_log import WriteResult
from tools.api.responses.error_mapping import quoted
from tools.api.responses.response_models import ResponseModel


def ok_response(document: ResponseModel, *, etag: object | None = None) -> Response:
    """200 with a document."""
    headers = {} if etag is None else {"ETag": quoted(etag)}
    return _json(document, 200, headers)


def write_response(
    document: ResponseModel, result: WriteResult, *, etag: object | None = None, created: int = 200
) -> Response:
    """200 after a write, `created` if the write created something, 202 if the replica has not folded it yet."""
    status = created if result.decision.outcome == "created" else 200
    headers = {"X-Position": ",".join(map(str, result.positions))} if result.positions else {}
    if etag is not None:
        headers["ETag"] = quoted(etag)
    return _json(document, status if result.folded else 202, headers)


def _json(document: ResponseModel, status: int, headers: dict[str, str]) -> Response:
    fields: dict[str, Any] = document.model_dump(exclude_unset=True)
    return Response(orjson.dumps(fields), status, headers, media_type="application/json")
