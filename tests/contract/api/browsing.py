"""A browser without scripts: it keeps cookies, follows no redirect by itself, and sends forms as browsers do."""

import asyncio
import re
from collections.abc import Mapping
from html import unescape
from urllib.parse import urlencode

import httpx

from tests.contract.api.calling import Api

SAME_SITE = {"sec-fetch-site": "same-origin"}


class Browser:
    """A browser that looks at one application's console, at https://console."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.cookies = httpx.Cookies()

    def get(self, path: str, **headers: str) -> httpx.Response:
        """The page at this path."""
        return asyncio.run(self._call("GET", path, b"", {**SAME_SITE, **_named(headers)}))

    def post(self, path: str, form: Mapping[str, str], **headers: str) -> httpx.Response:
        """The response to a form."""
        sent = {**SAME_SITE, "content-type": "application/x-www-form-urlencoded", **_named(headers)}
        return asyncio.run(self._call("POST", path, urlencode(form).encode(), sent))

    def sign_in(self, role: str = "admin") -> "Browser":
        """Sign in with one click; this needs an application in development."""
        assert self.post("/console/sign-in", {"role": role}).status_code == 303
        return self

    def form(self, path: str) -> dict[str, str]:
        """The fields of the page's last form as the page fills them."""
        return fields_of(self.get(path).text)

    async def _call(
        self, method: str, path: str, content: bytes, headers: Mapping[str, str]
    ) -> httpx.Response:
        transport = httpx.ASGITransport(self._api.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(
            transport=transport, base_url="https://console", cookies=self.cookies
        ) as client:
            response = await client.request(method, path, content=content, headers=headers)
            self.cookies = client.cookies
            return response


def fields_of(page: str) -> dict[str, str]:
    """The inputs, text areas and chosen options of a page's last form."""
    form = page[page.rindex("<form") :]
    inputs = dict(re.findall(r'<input[^>]*name="(\w+)" value="([^"]*)"', form))
    areas = dict(re.findall(r'<textarea[^>]*name="(\w+)"[^>]*>\n([^<]*)</textarea>', form))
    options = {}
    for name, body in re.findall(r'<select name="(\w+)"[^>]*>(.*?)</select>', form, re.DOTALL):
        chosen = re.search(r'value="(\w*)" selected', body) or re.search(r'value="(\w*)"', body)
        options[name] = chosen[1] if chosen else ""
    return {name: unescape(value) for name, value in {**inputs, **areas, **options}.items()}


def _named(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
