"""POST /v1/judges/check: whether a judge will accept the overrides of a request."""

import json

from fastapi import APIRouter, Response

from tools.api.admission import ReaderRoute
from tools.api.dependencies import Deps
from tools.api.errors.problems import Problem
from tools.api.requests import request_models as requests
from tools.api.responses import presenters
from tools.api.responses import response_models as models
from tools.api.responses.openapi import CHECKED, returns

routes = APIRouter(prefix="/v1/judges", tags=["judges"], route_class=ReaderRoute)


@routes.post("/check", **returns(models.OverridesChecked, CHECKED))
async def check_overrides(body: requests.OverridesToCheck, deps: Deps) -> Response:
    """Check overrides as a judge will, before a request is sent: every fault at once, with its path and code."""
    if deps.overrides is None:
        raise Problem("judge-not-configured", "CJSTREAM_JUDGE is not set for this process")
    overrides = body.llm_config_overrides
    text = None if overrides is None else json.dumps(overrides)
    found = deps.overrides.check(text, body.context_origin)
    return presenters.ok_response(models.OverridesChecked.model_validate(found))
