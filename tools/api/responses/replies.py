"""Answers of the admin routes: a document, its status and its headers."""

from typing import Any

import orjson
from starlette.responses import Response

from processors.upload_log.upload_log import WriteResult
from tools.api.responses.error_mapping import etag
from tools.api.responses.response_models import ResponseModel


def answered(document: ResponseModel, *, tag: object | None = None) -> Response:
    """200 with a document."""
    headers = {} if tag is None else {"ETag": etag(tag)}
    return _json(document, 200, headers)


def wrote(
    document: ResponseModel, written: WriteResult, *, tag: object | None = None, created: int = 200
) -> Response:
    """200 after a write, `created` where it made something new; 202 where it is not folded yet."""
    status = created if written.decision.outcome == "created" else 200
    headers = {"X-Position": ",".join(map(str, written.positions))} if written.positions else {}
    if tag is not None:
        headers["ETag"] = etag(tag)
    return _json(document, status if written.folded else 202, headers)


def _json(document: ResponseModel, status: int, headers: dict[str, str]) -> Response:
    shown: dict[str, Any] = document.model_dump(exclude_unset=True)
    return Response(orjson.dumps(shown), status, headers, media_type="application/json")
