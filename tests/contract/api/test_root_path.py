"""The API below a path prefix of a proxy: documents, problems and every link; streams are not buffered."""

import re
from dataclasses import dataclass, replace
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from processors.settings import Settings
from tests.contract.api.browsing import Browser
from tests.contract.api.calling import A1, ADMIN, AUDIT, Api, make_api

PREFIX = "/school/cj"
HOST = "https://console"
LINKS = re.compile(r'(?:href|src)=["\']?([^"\' >]+)')


@dataclass(frozen=True)
class RemovingProxy:
    """Passes a request on without the prefix."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["path"].startswith(f"{PREFIX}/"), f"{scope['path']} is not below the prefix"
        await self.app({**scope, "path": scope["path"].removeprefix(PREFIX)}, receive, send)


@pytest.fixture(params=[True, False], ids=["the proxy removes it", "the proxy passes it on"])
def api(request: pytest.FixtureRequest, tmp_path: Path) -> Api:
    """The API as clients of the proxy see it."""
    api = make_api(tmp_path, environment="development", root_path=PREFIX)
    api.create_assignment(prompt=True)
    proxied: Any = RemovingProxy(api.app) if request.param else api.app
    return replace(api, app=proxied)


def test_documents_name_the_prefix_and_problems_the_whole_path(api: Api) -> None:
    openapi = api("GET", f"{PREFIX}/openapi.json").json()
    assert openapi["servers"] == [{"url": PREFIX}]
    assert A1.rpartition("/")[0] + "/{assignment_id}" in openapi["paths"]
    assert api("GET", PREFIX + A1).status_code == 200
    problem = api("GET", f"{PREFIX}{ADMIN}/assignments/nobody").json()
    assert problem["instance"] == f"{PREFIX}{ADMIN}/assignments/nobody"
    assert api("GET", f"{PREFIX}/registry/schemas/types").json() == ["AVRO"]


def test_every_link_of_the_pages_leads_to_a_page_below_the_prefix(api: Api) -> None:
    browser = Browser(api)
    signed_in = browser.post(f"{PREFIX}/console/sign-in", {"role": "admin"})
    assert signed_in.headers["location"] == f"{PREFIX}/console/"
    to_visit, visited = {f"{PREFIX}/docs", f"{PREFIX}/", f"{PREFIX}/console/"}, set[str]()
    while to_visit:
        path = to_visit.pop()
        visited.add(path)
        response = browser.get(path)
        assert response.status_code < 400, path
        links = (
            LINKS.findall(response.text)
            if "html" in response.headers.get("content-type", "")
            else []
        )
        links += [response.headers["location"]] if "location" in response.headers else []
        for link in links:
            url = urlsplit(urljoin(f"{HOST}{path}", unescape(link)))
            target = f"{url.path}?{url.query}" if url.query else url.path
            reads_the_log = re.search("/console/(flow|batches|parked|dead-letters)", target)
            if f"{url.scheme}://{url.netloc}" == HOST and not reads_the_log:
                to_visit |= {target} - visited
    assert {f"{PREFIX}/openapi.json", f"{PREFIX}/console/assignments/a1"} <= visited


def test_streams_are_not_buffered_by_a_proxy(api: Api) -> None:
    for stream in ("replay", "verify"):
        headers = api("GET", f"{PREFIX}{AUDIT}/{stream}").headers
        assert headers["x-accel-buffering"] == "no"


@pytest.mark.parametrize("path", ["cj", "/cj/", "/", "/c j", "//cj", "/cj?x"])
def test_a_prefix_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="root_path"):
        Settings(root_path=path)
