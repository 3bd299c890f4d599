"""`cjstream admin login`, `logout`, `whoami` and `token dev`."""

import sys
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from tools.admin.api import AdminApi
from tools.admin.client import normalize_base_url
from tools.admin.dev_token import ROLES, dev_token, seconds_of
from tools.admin.failures import Usage
from tools.admin.options import IDENTITY_URL, uses_api
from tools.admin.output import show_pairs
from tools.admin.tokens import CachedToken, claims_of
from tools.printing import print_json
from tools.progress import say

MAX_EXPIRY_S = 253_402_300_800  # the end of the year 9999, the last that datetime knows

token_app = typer.Typer(help="Tokens.", no_args_is_help=True)


def add_identity_commands(app: typer.Typer) -> None:
    """Add the commands about the caller's identity."""
    for command in (login, logout, whoami):
        app.command()(uses_api(command))
    app.add_typer(token_app, name="token")


def login(
    api: AdminApi,
    email: Annotated[
        str | None, typer.Option(envvar="CJ_ADMIN_EMAIL", help="E-mail address to sign in with.")
    ] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="The first line of stdin is the password.")
    ] = False,
    identity_url: Annotated[
        str, typer.Option(envvar="IDENTITY_BASE_URL", help="Base URL of the identity service.")
    ] = IDENTITY_URL,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Print the token and do not store it.")
    ] = False,
) -> None:
    """Sign in at the identity service; the token is stored in a file that only you can read."""
    normalize_base_url(identity_url)  # before the user is asked for anything
    token = api.sign_in(identity_url, *_credentials(email, password_stdin=password_stdin))
    if not no_cache:
        api.cache.write(token)
    fields = _token_fields(token.access_token, token.expires_at_s)
    if api.as_json:
        where = {"token": token.access_token} if no_cache else {"cached": str(api.cache.path)}
        print_json({**fields, **where})
        return
    say(f"signed in as {fields['subject'] or 'an unnamed subject'}, until {fields['expires_at']}")
    if no_cache:
        sys.stdout.write(f"{token.access_token}\n")


def _credentials(email: str | None, *, password_stdin: bool) -> tuple[str, str]:
    """The e-mail address and password; the user is asked for missing ones. Raises Usage."""
    is_missing = email is None or not password_stdin
    if is_missing and not sys.stdin.isatty():
        raise Usage("no terminal to ask on: give --email and --password-stdin")
    email = (email or typer.prompt("E-mail", err=True)).strip()
    if password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = typer.prompt("Password", hide_input=True, err=True)
    if not email or not password:
        raise Usage("e-mail address and password must not be empty")
    return email, password


def logout(api: AdminApi) -> None:
    """Delete the stored token; nothing is called."""
    was_there = api.cache.delete()
    if api.as_json:
        print_json({"deleted": was_there})
    else:
        say("signed out" if was_there else "you were not signed in")


def whoami(
    api: AdminApi,
    check: Annotated[
        bool, typer.Option("--check", help="Ask the API whether it accepts the token.")
    ] = False,
) -> None:
    """Subject and roles of the token that commands use; exits with 1 if there is none."""
    credential = api.credential()
    cached = credential.cached
    fields = _token_fields(credential.token, cached.expires_at_s if cached else None)
    fields["source"] = credential.source
    if check:
        api.call("check the token", "GET", "grade-scales")
        fields["accepted"] = True
    if api.as_json:
        print_json(fields)
    else:
        show_pairs("You", fields)


def _token_fields(token: str, expires_at_s: float | None) -> dict[str, Any]:
    claims = claims_of(token)
    expiry_s: Any = claims.get("exp") if expires_at_s is None else expires_at_s
    expires_at = None
    if type(expiry_s) in (int, float) and 0 <= expiry_s < MAX_EXPIRY_S:
        expires_at = datetime.fromtimestamp(expiry_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"subject": claims.get("sub"), "roles": claims.get("roles"), "expires_at": expires_at}


@token_app.callback()
def tokens() -> None:
    """Tokens."""


@token_app.command("dev")
@uses_api
def token_dev(
    api: AdminApi,
    subject: Annotated[str, typer.Option(help="Subject of the token.")] = "dev-admin",
    role: Annotated[
        list[str] | None,
        typer.Option(help="Role of the token, by default admin; repeat the option for more."),
    ] = None,
    ttl: Annotated[str, typer.Option(help="Lifetime, such as 30m, 24h or 7d.")] = "24h",
    cache: Annotated[bool, typer.Option("--cache", help="Store the token, too.")] = False,
) -> None:
    """Print a token for development; refused in every other environment."""
    token = dev_token(subject, role or ROLES, seconds_of(ttl))
    expires_at_s = claims_of(token)["exp"]
    if cache:
        api.cache.write(CachedToken(token, expires_at_s, api.base_url))
    if api.as_json:
        print_json({"token": token, **_token_fields(token, expires_at_s)})
    else:
        sys.stdout.write(f"{token}\n")
