"""`cjstream admin login`, `logout`, `whoami` and `token dev`."""

import sys
from typing import Annotated, Any

import typer

from tools.admin.options import BASE_URL, IDENTITY_URL, BaseUrl, Json, Timeout

LAST_S = 253_402_300_800  # the end of the year 9999

token_app = typer.Typer(help="Tokens.", no_args_is_help=True)


def add_identity_commands(app: typer.Typer) -> None:
    """The commands that speak of who calls."""
    app.command()(login)
    app.command()(logout)
    app.command()(whoami)
    app.add_typer(token_app, name="token")


def login(
    email: Annotated[
        str | None, typer.Option(envvar="CJ_ADMIN_EMAIL", help="Who signs in.")
    ] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="The first line of stdin is the password.")
    ] = False,
    identity_url: Annotated[
        str, typer.Option(envvar="IDENTITY_BASE_URL", help="Of the identity service.")
    ] = IDENTITY_URL,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Print the token and keep nothing.")
    ] = False,
    base_url: BaseUrl = BASE_URL,
    timeout: Timeout = 30,
    as_json: Json = False,
) -> None:
    """Sign in at the identity service; the token is kept in a file that only you can read."""
    import time

    from tools.admin.api import AdminApi
    from tools.admin.client import root_of
    from tools.admin.login import sign_in
    from tools.printing import print_json
    from tools.progress import say

    api = AdminApi.at(base_url, timeout)
    root_of(identity_url)  # before anybody is asked
    email, password = _credentials(email, password_stdin=password_stdin)
    token = sign_in(
        api.http, identity_url, api.base_url, email=email, password=password, now_s=time.time()
    )
    if not no_cache:
        api.cache.write(token)
    told = _told(token.access_token, token.expires_at_s)
    if as_json:
        kept = {"token": token.access_token} if no_cache else {"cached": str(api.cache.path)}
        print_json({**told, **kept})
        return
    say(f"signed in as {told['subject'] or 'an unnamed subject'}, until {told['expires_at']}")
    if no_cache:
        sys.stdout.write(f"{token.access_token}\n")


def _credentials(email: str | None, *, password_stdin: bool) -> tuple[str, str]:
    """E-mail address and password, asked for where they are missing. Raises Usage."""
    from tools.admin.failures import Usage

    is_missing = email is None or not password_stdin
    if is_missing and not sys.stdin.isatty():
        raise Usage("no terminal to ask at: give --email and --password-stdin")
    email = (email or typer.prompt("E-mail", err=True)).strip()
    if password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = typer.prompt("Password", hide_input=True, err=True)
    if not email or not password:
        raise Usage("neither e-mail address nor password may be empty")
    return email, password


def logout(base_url: BaseUrl = BASE_URL, timeout: Timeout = 30, as_json: Json = False) -> None:
    """Forget the token that is kept; nobody is asked."""
    from tools.admin.api import AdminApi
    from tools.printing import print_json
    from tools.progress import say

    was_there = AdminApi.at(base_url, timeout).cache.delete()
    if as_json:
        print_json({"deleted": was_there})
    else:
        say("signed out" if was_there else "nobody was signed in")


def whoami(
    check: Annotated[bool, typer.Option("--check", help="Ask the API whether it agrees.")] = False,
    base_url: BaseUrl = BASE_URL,
    timeout: Timeout = 30,
    as_json: Json = False,
) -> None:
    """Whom commands speak for, as the token says; exit 1 without one."""
    from tools.admin.api import AdminApi
    from tools.admin.output import show_pairs
    from tools.printing import print_json

    api = AdminApi.at(base_url, timeout)
    credential = api.credential()
    cached = credential.cached
    told = _told(credential.token, cached.expires_at_s if cached else None)
    told["source"] = credential.source
    if check:
        api.call("ask the API", "GET", "grade-scales")
        told["accepted"] = True
    if as_json:
        print_json(told)
    else:
        show_pairs("You", told)


def _told(token: str, expires_at_s: float | None) -> dict[str, Any]:
    from datetime import UTC, datetime

    from tools.admin.tokens import claims_of

    claims = claims_of(token)
    until_s: Any = claims.get("exp") if expires_at_s is None else expires_at_s
    expires_at = None
    if type(until_s) in (int, float) and 0 <= until_s < LAST_S:
        expires_at = datetime.fromtimestamp(until_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"subject": claims.get("sub"), "roles": claims.get("roles"), "expires_at": expires_at}


@token_app.callback()
def tokens() -> None:
    """Tokens."""


@token_app.command("dev")
def token_dev(
    subject: Annotated[str, typer.Option(help="Whom it speaks for.")] = "dev-admin",
    role: Annotated[list[str] | None, typer.Option(help="admin; repeat it for more.")] = None,
    ttl: Annotated[str, typer.Option(help="How long it lasts: 30m, 24h, 7d.")] = "24h",
    cache: Annotated[bool, typer.Option("--cache", help="Keep it, too.")] = False,
    base_url: BaseUrl = BASE_URL,
    timeout: Timeout = 30,
    as_json: Json = False,
) -> None:
    """A token for development, on stdout; there is none outside of it."""
    from tools.admin.api import AdminApi
    from tools.admin.dev_token import ROLES, dev_token, seconds_of
    from tools.admin.tokens import CachedToken, claims_of
    from tools.printing import print_json

    api = AdminApi.at(base_url, timeout)
    token = dev_token(subject, role or ROLES, seconds_of(ttl))
    expires_at_s = claims_of(token)["exp"]
    if cache:
        api.cache.write(CachedToken(token, expires_at_s, api.base_url))
    if as_json:
        print_json({"token": token, **_told(token, expires_at_s)})
    else:
        sys.stdout.write(f"{token}\n")
