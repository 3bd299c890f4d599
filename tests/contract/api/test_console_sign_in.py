"""Signing in to the console at a provider of OpenID Connect and at an identity service, both real servers."""

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from fastapi import FastAPI, Request, Response

from schemas.errors import Misconfigured
from tests.contract.api.browsing import Browser
from tests.contract.api.calling import make_api
from tests.support.http_server import serving
from tests.support.tokens import hs256
from tools.api.console.console_settings import console_settings

PASSWORD = "correct horse"


class Provider:
    """A provider that gives one code for each visit, and a token for the code with its verifier."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.roles = ["admin"]
        self.challenges = dict[str, str]()
        self.app.get("/.well-known/openid-configuration")(self.metadata)
        self.app.post("/token")(self.token)

    async def metadata(self, request: Request) -> dict[str, str]:
        base = str(request.base_url)
        return {"authorization_endpoint": f"{base}authorize", "token_endpoint": f"{base}token"}

    def visit(self, url: str, code: str = "code-1") -> str:
        """The path to which a visitor of the authorization endpoint comes back."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        assert query["code_challenge_method"] == "S256"
        assert query["redirect_uri"] == "https://console/console/signed-in"
        self.challenges[code] = query["code_challenge"]
        return f"/console/signed-in?code={code}&state={query['state']}"

    async def token(self, request: Request) -> Response:
        form = parse_qs((await request.body()).decode())
        code, code_verifier = form["code"][0], form["code_verifier"][0]
        digest = hashlib.sha256(code_verifier.encode()).digest()
        if self.challenges.pop(code, None) != urlsafe_b64encode(digest).rstrip(b"=").decode():
            return Response('{"error": "invalid_grant"}', 400, media_type="application/json")
        token = hs256(sub="erik", roles=self.roles)
        content = f'{{"access_token": "{token}", "token_type": "Bearer"}}'
        return Response(content, media_type="application/json")


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def browser(tmp_path: Path, provider: Provider) -> Iterator[Browser]:
    """A browser of a console that signs people in at the provider."""
    with serving(provider.app) as url:
        console = console_settings(oidc_issuer=url, oidc_client_id="console")
        yield Browser(make_api(tmp_path, console=console))


def test_a_visitor_comes_back_signed_in_to_the_page_that_was_asked_for(
    browser: Browser, provider: Provider
) -> None:
    assert "Sign in with your organisation" in browser.get("/console/sign-in").text
    away = browser.get("/console/sign-in/provider?next=%2Fbatches")
    back = provider.visit(away.headers["location"])
    assert browser.get(back).headers["location"] == "/console/batches"
    page = browser.get("/console/batches").text
    assert "erik" in page


def test_a_token_that_the_api_refuses_starts_no_session(
    browser: Browser, provider: Provider
) -> None:
    provider.roles = []
    back = provider.visit(browser.get("/console/sign-in/provider").headers["location"])
    assert (
        browser.get(back).status_code == 303
    )  # somebody without a role may sign in, and sees nothing
    assert "Not for your role" in browser.get("/console/").text


@pytest.mark.parametrize(
    "change",
    [{"state": "another"}, {"code": "another"}, {"code": ""}],
    ids=["state", "code", "none"],
)
def test_a_changed_answer_of_the_provider_starts_no_session(
    browser: Browser, provider: Provider, change: dict[str, str]
) -> None:
    back = provider.visit(browser.get("/console/sign-in/provider").headers["location"])
    query = {name: values[0] for name, values in parse_qs(urlsplit(back).query).items()} | change
    sent = "&".join(f"{name}={value}" for name, value in query.items() if value)
    assert browser.get(f"/console/signed-in?{sent}").status_code in (400, 401)
    assert browser.get("/console/").status_code == 303


def test_a_code_counts_once_and_in_the_browser_that_began(
    browser: Browser, provider: Provider
) -> None:
    back = provider.visit(browser.get("/console/sign-in/provider").headers["location"])
    browser.cookies.clear()
    assert browser.get(back).status_code == 400
    back = provider.visit(browser.get("/console/sign-in/provider").headers["location"])
    assert browser.get(back).status_code == 303
    assert browser.get(back).status_code == 400


def test_a_provider_that_is_away_is_named(tmp_path: Path) -> None:
    console = console_settings(oidc_issuer="http://127.0.0.1:9", oidc_client_id="console")
    browser = Browser(make_api(tmp_path, console=console))
    answer = browser.get("/console/sign-in/provider")
    assert (answer.status_code, "does not answer" in answer.text) == (503, True)


def identity_service() -> FastAPI:
    """A service that knows one password."""
    app = FastAPI()

    @app.post("/v1/auth/login")
    async def login(request: Request) -> Response:
        sent = await request.json()
        if sent != {"email": "anna@example.org", "password": PASSWORD}:
            return Response(status_code=401)
        content = f'{{"access_token": "{hs256(sub="anna")}"}}'
        return Response(content, media_type="application/json")

    return app


def test_an_identity_service_signs_in_with_a_password(tmp_path: Path) -> None:
    with serving(identity_service()) as url:
        console = console_settings(identity_url=f"{url}/v1/auth")
        browser = Browser(make_api(tmp_path, console=console))
        wrong = {"email": "anna@example.org", "password": "wrong", "next": "/flow"}
        refused = browser.post("/console/sign-in", wrong)
        assert (refused.status_code, "E-mail or password is wrong" in refused.text) == (401, True)
        assert "wrong" not in refused.headers.get("set-cookie", "")
        right = browser.post("/console/sign-in", {**wrong, "password": PASSWORD})
        assert right.headers["location"] == "/console/flow"
        assert "anna" in browser.get("/console/batches").text


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"oidc_issuer": "https://id.example.org"}, "CONSOLE_OIDC_CLIENT_ID"),
        (
            {
                "oidc_issuer": "https://id.example.org",
                "oidc_client_id": "x",
                "identity_url": "https://id.example.org",
            },
            "CONSOLE_IDENTITY_URL",
        ),
        ({"key": "too short"}, "CONSOLE_KEY"),
    ],
)
def test_settings_that_contradict_are_refused(overrides: dict[str, str], sentence: str) -> None:
    with pytest.raises(Misconfigured, match=sentence) as refused:
        console_settings(**overrides)
    assert "too short" not in str(refused.value)
