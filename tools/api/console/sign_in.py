"""Signing in and out: OpenID Connect's code flow with PKCE, an identity service, or one click in development."""

import secrets
import time
from typing import Any

import httpx
from authlib.common.security import generate_token
from authlib.integrations.base_client import OAuthError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from processors.addresses import is_on_this_machine
from processors.http_clients import async_http_client
from tools.api.auth.authentication import READERS, Caller
from tools.api.console.pages import (
    check_same_site,
    console_of,
    local_path,
    message_page,
    page,
    read_form,
    redirect,
)
from tools.api.console.session import SESSION, SIGNING_IN, SIGNING_IN_S, new_session
from tools.api.errors.problems import Problem

TIMEOUT_S = 10.0
DEVELOPMENT_S = 86_400.0
ROLES = {"admin": "administrator", "auditor": "auditor", "service": "service"}


async def show(request: Request) -> Response:
    """The page for signing in."""
    return _page(request, request.query_params.get("next", "/"))


def _page(request: Request, wanted: str, problem: str = "", status: int = 200) -> Response:
    console = console_of(request)
    return page(
        request,
        "sign_in.html",
        status,
        next=local_path(wanted),
        problem=problem,
        roles=ROLES if console.is_development else {},
        has_oidc=console.settings.oidc_issuer is not None,
        has_identity=console.settings.identity_url is not None,
    )


async def sign_in(request: Request) -> Response:
    """Sign in as a role in development, or with an e-mail address and a password."""
    console = console_of(request)
    form = await read_form(request)
    wanted = form.get("next", "/")
    if console.is_development and form.get("role") in READERS:
        role = form["role"]
        caller = Caller(f"dev-{role}", frozenset({role}))
        return _started(request, caller, time.time() + DEVELOPMENT_S, wanted)
    if console.settings.identity_url is None or not form.get("email"):
        return _page(request, wanted, "Choose a way to sign in.", 400)
    url = str(console.settings.identity_url).rstrip("/") + "/login"
    credentials = {"email": form["email"].strip(), "password": form.get("password", "")}
    try:
        async with async_http_client(url, timeout=TIMEOUT_S) as client:
            response = await client.post(url, json=credentials)
        token = response.json().get("access_token", "") if response.is_success else ""
    except (httpx.HTTPError, ValueError, AttributeError):
        return _page(request, wanted, "The identity service does not answer. Try again.", 503)
    if not token:
        is_broken = response.status_code >= 500
        sentence = "The identity service failed." if is_broken else "E-mail or password is wrong."
        return _page(request, wanted, sentence, 503 if is_broken else 401)
    return await _with_token(request, token, wanted)


async def go_to_provider(request: Request) -> Response:
    """Go to the identity provider; what must come back is in a cookie."""
    console = console_of(request)
    if console.settings.oidc_issuer is None:
        return redirect(request, "/sign-in")
    check_same_site(request)
    verifier = generate_token(64)
    try:
        provider = await _provider(request)
    except httpx.HTTPError:
        return _page(request, "/", "The identity provider does not answer. Try again.", 503)
    async with _client(request) as client:
        url, state = client.create_authorization_url(
            provider["authorization_endpoint"], code_verifier=verifier
        )
    response = RedirectResponse(url, 303)
    wanted = local_path(request.query_params.get("next", "/"))
    signing_in = {"state": state, "verifier": verifier, "next": wanted}
    console.cookies.write(request, response, SIGNING_IN, signing_in, time.time() + SIGNING_IN_S)
    return response


async def come_back(request: Request) -> Response:
    """Come back from the identity provider with a code, and exchange it for a token."""
    console = console_of(request)
    expected = console.cookies.read(request, SIGNING_IN)
    sent = request.query_params
    if expected is None or not secrets.compare_digest(
        sent.get("state", "").encode(), str(expected["state"]).encode()
    ):
        return _page(request, "/", "Signing in took too long or began elsewhere. Try again.", 400)
    if "code" not in sent:
        return _page(
            request, expected["next"], "The identity provider refused to sign you in.", 401
        )
    try:
        provider = await _provider(request)
        async with _client(request) as client:
            token: dict[str, Any] = await client.fetch_token(
                provider["token_endpoint"], code=sent["code"], code_verifier=expected["verifier"]
            )
    except OAuthError:
        return _page(request, expected["next"], "The identity provider refused the code.", 401)
    except (httpx.HTTPError, KeyError, ValueError):
        return _page(request, expected["next"], "The identity provider does not answer.", 503)
    response = await _with_token(request, str(token.get("access_token", "")), expected["next"])
    console.cookies.delete(request, response, SIGNING_IN)
    return response


async def sign_out(request: Request) -> Response:
    """End the session in this browser."""
    await read_form(request)
    response = redirect(request, "/sign-in")
    console_of(request).cookies.delete(request, response, SESSION)
    return response


async def _with_token(request: Request, token: str, wanted: str) -> Response:
    """Start the session of a token that the API accepts; it ends when the token does."""
    verifier = console_of(request).deps.verifier
    try:
        caller, expires_at_s = await verifier.caller_until(f"Bearer {token}")
    except Problem as problem:
        return message_page(
            request,
            problem.kind.status,
            "Your token is not accepted",
            f"You signed in, but this installation refuses the token: {problem}.",
            "Its operator can mend that: the settings JWT_… say which tokens are accepted.",
        )
    return _started(request, caller, expires_at_s, wanted)


def _started(request: Request, caller: Caller, expires_at_s: float, wanted: str) -> Response:
    response = redirect(request, local_path(wanted))
    cookies = console_of(request).cookies
    cookies.start(request, response, new_session(caller, expires_at_s))
    return response


async def _provider(request: Request) -> dict[str, Any]:
    """The provider's metadata (OpenID Connect Discovery 1.0). Raises httpx.HTTPError."""
    issuer = str(console_of(request).settings.oidc_issuer).rstrip("/")
    url = f"{issuer}/.well-known/openid-configuration"
    async with async_http_client(url, timeout=TIMEOUT_S) as client:
        response = await client.get(url)
    response.raise_for_status()
    found: dict[str, Any] = response.json()
    return found


def _client(request: Request) -> AsyncOAuth2Client:
    settings = console_of(request).settings
    secret = settings.oidc_client_secret
    back = request.url.replace(path=request.scope["root_path"] + "/signed-in", query="")
    return AsyncOAuth2Client(
        settings.oidc_client_id,
        secret.get_secret_value() if secret else None,
        scope=settings.oidc_scopes,
        redirect_uri=str(back),
        code_challenge_method="S256",
        timeout=TIMEOUT_S,
        trust_env=not is_on_this_machine(str(settings.oidc_issuer)),
    )
