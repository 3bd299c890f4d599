"""Valid and invalid tokens: only valid ones are accepted, and each refusal has its own reason."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import Misconfigured
from tests.support.tokens import (
    EC_KEY,
    OTHER_CURVE,
    RSA_KEY,
    SECRET,
    WEAK_RSA_KEY,
    WITHOUT,
    by_hand,
    claims,
    hs256,
    private_pem,
    public_pem,
    segment,
)
from tools.api.auth.authentication import (
    ADMINS,
    AUDITORS,
    CONTENT_WRITERS,
    READERS,
    REASONS,
    Caller,
    Forbidden,
    Unauthenticated,
    Verifier,
)
from tools.api.auth.key_settings import DEV_SECRET, build_verifier
from tools.api.auth.key_settings import jwt_settings as settings
from tools.api.errors.problems import Problem

ROOT = Path(__file__).parents[3]
HS256 = build_verifier("production", settings(secret_key=SECRET))
RS256 = build_verifier("production", settings(algorithm="RS256", public_key=public_pem(RSA_KEY)))
ES256 = build_verifier("production", settings(algorithm="ES256", public_key=public_pem(EC_KEY)))


def caller_of(token: str, verifier: Verifier = HS256) -> Caller:
    return asyncio.run(verifier.caller(f"Bearer {token}"))


def reason_of(authorization: str | None, verifier: Verifier = HS256) -> str:
    with pytest.raises(Unauthenticated) as refusal:
        asyncio.run(verifier.caller(authorization))
    return refusal.value.reason


@pytest.mark.parametrize(
    ("verifier", "token"),
    [
        (HS256, jwt.encode(claims(), SECRET, "HS256")),
        (RS256, jwt.encode(claims(), RSA_KEY, "RS256")),
        (ES256, jwt.encode(claims(), EC_KEY, "ES256")),
    ],
    ids=["HS256", "RS256", "ES256"],
)
def test_a_valid_token_names_the_caller(verifier: Verifier, token: str) -> None:
    assert caller_of(token, verifier) == Caller("anna", frozenset({"admin"}))


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "BeArEr"])
def test_the_scheme_is_case_insensitive(scheme: str) -> None:
    assert asyncio.run(HS256.caller(f"{scheme} {hs256()}")).subject == "anna"


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": ["other", "cjstream"]},
        {"exp": 4102444800.5},
        {"nbf": 0},
        {"iat": WITHOUT},
        {"sub": "å" * 255},
        {"whatever": {"else": 1}},
    ],
)
def test_unusual_but_valid_claims_are_accepted(changed: dict[str, Any]) -> None:
    assert caller_of(hs256(**changed)).roles == {"admin"}


def test_clocks_may_differ_by_the_leeway() -> None:
    now = time.time()
    assert caller_of(hs256(exp=now - 20, nbf=int(now) + 20, iat=int(now) + 20)).subject == "anna"


NOW = int(time.time())
LARGE = 10**12
BAD_CLAIMS: list[tuple[str, dict[str, Any]]] = [
    ("token_expired", {"exp": NOW - 31}),
    ("token_expired", {"exp": -1}),
    ("token_not_yet_valid", {"nbf": NOW + 86_400}),
    ("token_not_yet_valid", {"iat": NOW + 86_400}),
    ("missing_exp", {"exp": WITHOUT}),
    ("missing_exp", {"exp": None}),
    ("invalid_token", {"exp": str(LARGE)}),
    ("invalid_token", {"exp": "soon"}),
    ("invalid_token", {"exp": [LARGE]}),
    ("invalid_token", {"exp": float("inf")}),
    ("invalid_token", {"exp": float("nan")}),
    ("invalid_token", {"nbf": True}),
    ("invalid_token", {"nbf": "0"}),
    ("invalid_token", {"nbf": None}),
    ("invalid_token", {"iat": "0"}),
    ("invalid_token", {"iat": {}}),
    ("invalid_audience", {"aud": WITHOUT}),
    ("invalid_audience", {"aud": None}),
    ("invalid_audience", {"aud": "cjstream-content"}),
    ("invalid_audience", {"aud": []}),
    ("invalid_audience", {"aud": ["other"]}),
    ("invalid_audience", {"aud": ["cjstream", 7]}),
    ("invalid_audience", {"aud": {"cjstream": True}}),
    ("invalid_audience", {"aud": 7}),
    ("invalid_issuer", {"iss": WITHOUT}),
    ("invalid_issuer", {"iss": None}),
    ("invalid_issuer", {"iss": "somebody"}),
    ("invalid_issuer", {"iss": ["cjstream-identity"]}),
    ("invalid_subject", {"sub": WITHOUT}),
    ("invalid_subject", {"sub": None}),
    ("invalid_subject", {"sub": 7}),
    ("invalid_subject", {"sub": ""}),
    ("invalid_subject", {"sub": "  "}),
    ("invalid_subject", {"sub": "x" * 256}),
    ("invalid_subject", {"sub": "a\0b"}),
    ("invalid_subject", {"sub": "\ud800"}),
]


@pytest.mark.parametrize(
    ("reason", "changed"), BAD_CLAIMS, ids=["-".join((why, *what)) for why, what in BAD_CLAIMS]
)
def test_a_missing_or_wrong_claim_is_refused_with_its_reason(
    reason: str, changed: dict[str, Any]
) -> None:
    assert reason_of(f"Bearer {hs256(**changed)}") == reason


BAD_HEADERS = [
    ("missing_authorization_header", None),
    ("invalid_authorization_format", ""),
    ("invalid_authorization_format", "Bearer"),
    ("invalid_authorization_format", "Bearer  "),
    ("invalid_authorization_format", hs256()),
    ("invalid_authorization_format", f"Basic {hs256()}"),
    ("invalid_authorization_format", f"Bearer {hs256()} more"),
    ("invalid_authorization_format", f"Bearer {hs256()}, Bearer {hs256()}"),
    ("invalid_token", "Bearer x"),
    ("invalid_token", "Bearer a.b.c"),
    ("invalid_token", "Bearer ..."),
    ("invalid_token", f"Bearer {hs256()}.x"),
    ("invalid_token", f"Bearer {by_hand([], claims())}"),
    ("invalid_token", f"Bearer {by_hand(b'{', claims())}"),
    ("invalid_token", f"Bearer {by_hand({'alg': 'HS256'}, [])}"),
    ("invalid_token", f"Bearer {by_hand({'alg': 'HS256'}, b'{')}"),
    ("invalid_token", f"Bearer {by_hand({'alg': 'HS256'}, b'[' * 100_000)}"),
    ("invalid_token", f"Bearer {by_hand({'alg': 'HS256', 'kid': 7}, claims())}"),
    ("invalid_token", f"Bearer {by_hand({'alg': 'HS256', 'crit': ['exp']}, claims())}"),
    ("invalid_algorithm", f"Bearer {by_hand({'typ': 'JWT'}, claims())}"),
    ("invalid_algorithm", f"Bearer {by_hand({'alg': None}, claims())}"),
    ("invalid_algorithm", f"Bearer {by_hand({'alg': ['HS256']}, claims())}"),
    ("invalid_algorithm", f"Bearer {by_hand({'alg': 'hs256'}, claims())}"),
    ("invalid_algorithm", f"Bearer {jwt.encode(claims(), SECRET * 2, 'HS512')}"),
    ("invalid_algorithm", f"Bearer {jwt.encode(claims(), '', 'none')}"),
    ("invalid_algorithm", f"Bearer {by_hand({'alg': 'none'}, claims())}"),
    ("invalid_algorithm", f"Bearer {by_hand({'alg': 'None'}, claims())}"),
    ("invalid_algorithm", f"Bearer {jwt.encode(claims(), RSA_KEY, 'RS256')}"),
    ("invalid_signature", f"Bearer {hs256(secret='another secret of 32 bytes or more')}"),
    ("invalid_signature", f"Bearer {hs256().rpartition('.')[0]}."),
]


@pytest.mark.parametrize(("reason", "header"), BAD_HEADERS, ids=lambda part: str(part)[:40])
def test_a_wrong_header_or_token_is_refused_with_its_reason(
    reason: str, header: str | None
) -> None:
    assert reason_of(header) == reason


def test_changed_claims_with_the_old_signature_are_refused() -> None:
    header, _, signature = hs256(roles=[]).split(".")
    assert reason_of(f"Bearer {header}.{segment(claims())}.{signature}") == "invalid_signature"


@pytest.mark.parametrize(("verifier", "key"), [(RS256, RSA_KEY), (ES256, EC_KEY)])
def test_the_public_key_is_never_used_as_hmac_secret(verifier: Verifier, key: Any) -> None:
    forged = by_hand({"alg": "HS256"}, claims(), public_pem(key))
    assert reason_of(f"Bearer {forged}", verifier) == "invalid_algorithm"
    alg = verifier.algorithm
    mislabelled = by_hand({"alg": alg}, claims(), public_pem(key))
    assert reason_of(f"Bearer {mislabelled}", verifier) == "invalid_signature"


def test_a_token_signed_with_another_key_is_refused() -> None:
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    token = jwt.encode(claims(), stranger, "RS256", headers={"jwk": {}, "jku": "http://localhost/"})
    assert reason_of(f"Bearer {token}", RS256) == "invalid_signature"


def test_every_reason_has_an_example_in_this_file() -> None:
    examples = {reason for reason, _ in [*BAD_CLAIMS, *BAD_HEADERS]} | {"unknown_key"}
    assert examples == set(REASONS)


@given(st.one_of(st.text(), st.text().map(lambda text: f"Bearer {text}")))
def test_any_header_without_a_token_is_refused_with_a_reason(header: str) -> None:
    assert reason_of(header) in REASONS


@given(
    st.dictionaries(
        st.sampled_from(["sub", "aud", "iss", "exp", "nbf", "iat", "jti", "roles"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        ),
    )
)
def test_any_claims_are_either_accepted_or_refused_with_a_reason(changed: dict[str, Any]) -> None:
    with suppress(Unauthenticated):
        assert caller_of(hs256(**changed)).subject == changed.get("sub", "anna")


@pytest.mark.parametrize(
    ("roles", "expected"),
    [
        (["admin", "auditor"], {"admin", "auditor"}),
        ([], set()),
        (WITHOUT, set()),
        ("admin", set()),
        (["admin", 7], set()),
        ({"admin": True}, set()),
        (None, set()),
    ],
)
def test_roles_are_empty_unless_they_are_a_list_of_strings(roles: Any, expected: set[str]) -> None:
    assert caller_of(hs256(roles=roles)).roles == expected


@pytest.mark.parametrize(
    ("role", "permissions"),
    [
        ("admin", {ADMINS, AUDITORS, READERS, CONTENT_WRITERS}),
        ("auditor", {AUDITORS, READERS}),
        ("service", {READERS, CONTENT_WRITERS}),
        ("Admin", set()),
    ],
)
def test_a_role_has_exactly_the_permissions_of_the_table(
    role: str, permissions: set[tuple[str, ...]]
) -> None:
    caller = Caller("anna", frozenset({role}))
    for roles in (ADMINS, AUDITORS, READERS, CONTENT_WRITERS):
        if roles in permissions:
            caller.must_have(roles)
        else:
            with pytest.raises(Forbidden) as refusal:
                caller.must_have(roles)
            assert refusal.value.members == {"required_roles": list(roles)}


def test_the_challenge_names_the_error_only_if_a_token_was_sent() -> None:
    def challenge(problem: Problem) -> str:
        return problem.headers["WWW-Authenticate"]

    assert challenge(Unauthenticated("missing_authorization_header")) == 'Bearer realm="cjstream"'
    assert challenge(Unauthenticated("token_expired")) == (
        'Bearer realm="cjstream", error="invalid_token", error_description="token_expired"'
    )
    assert (
        challenge(Forbidden(ADMINS, "the token has none"))
        == 'Bearer realm="cjstream", error="insufficient_scope"'
    )


REFUSED: list[tuple[str, str, Mapping[str, Any]]] = [
    ("production", "JWT_SECRET_KEY", {}),
    ("production", "JWT_SECRET_KEY", {"secret_key": "x" * 31}),
    ("production", "JWT_SECRET_KEY", {"secret_key": DEV_SECRET}),
    ("production", "JWT_SECRET_KEY", {"secret_key": public_pem(RSA_KEY)}),
    ("production", "JWT_SECRET_KEY", {"secret_key": private_pem(EC_KEY)}),
    ("production", "JWT_PUBLIC_KEY", {"algorithm": "RS256"}),
    ("staging", "JWT_SECRET_KEY", {}),
    ("development", "JWT_PUBLIC_KEY", {"algorithm": "ES256"}),
    ("development", "JWT_SECRET_KEY", {"secret_key": public_pem(RSA_KEY)}),
    ("development", "JWT_SECRET_KEY", {"algorithm": "RS256", "secret_key": SECRET}),
    ("development", "JWT_PUBLIC_KEY", {"public_key": public_pem(RSA_KEY)}),
    ("development", "JWT_JWKS_URL", {"jwks_url": "http://localhost/jwks"}),
    ("development", "JWT_PUBLIC_KEY", {"secret_key": SECRET, "public_key": "x"}),
    ("development", "JWT_PUBLIC_KEY_PATH", {"public_key": "x", "public_key_path": "x"}),
    (
        "development",
        "JWT_JWKS_URL",
        {"algorithm": "RS256", "public_key": public_pem(RSA_KEY), "jwks_url": "http://localhost/"},
    ),
    ("development", "JWT_PUBLIC_KEY_PATH", {"algorithm": "RS256", "public_key_path": "missing"}),
    ("development", "JWT_PUBLIC_KEY_PATH", {"algorithm": "RS256", "public_key_path": __file__}),
    *(
        ("development", "JWT_PUBLIC_KEY", {"algorithm": algorithm, "public_key": pem})
        for algorithm, pem in [
            ("RS256", "no PEM"),
            ("RS256", public_pem(EC_KEY)),
            ("RS256", private_pem(RSA_KEY)),
            ("RS256", public_pem(WEAK_RSA_KEY)),
            ("ES256", public_pem(RSA_KEY)),
            ("ES256", private_pem(EC_KEY)),
            ("ES256", public_pem(OTHER_CURVE)),
        ]
    ),
]


@pytest.mark.parametrize(("environment", "variable", "options"), REFUSED)
def test_keys_that_cannot_be_trusted_are_refused_at_startup(
    environment: str, variable: str, options: Mapping[str, Any]
) -> None:
    with pytest.raises(Misconfigured, match=f"^{variable}: ") as refusal:
        build_verifier(environment, settings(**options))
    assert "\n" not in str(refusal.value)
    assert not any(
        str(value) in str(refusal.value) for value in options.values() if len(value) > 20
    )


@pytest.mark.parametrize("secret", [DEV_SECRET, "short"])
def test_in_development_any_secret_is_accepted(secret: str) -> None:
    verifier = build_verifier("development", settings(secret_key=secret))
    assert caller_of(hs256(secret), verifier).subject == "anna"


def test_in_development_the_fixed_secret_is_used_if_no_key_is_set() -> None:
    assert caller_of(hs256(DEV_SECRET), build_verifier("development", settings())).roles


def test_a_public_key_is_read_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_text(public_pem(EC_KEY))
    verifier = build_verifier("production", settings(algorithm="ES256", public_key_path=file))
    assert caller_of(jwt.encode(claims(), EC_KEY, "ES256"), verifier).subject == "anna"


def test_the_settings_come_from_variables_with_the_prefix_jwt() -> None:
    code = (
        "from tools.api.auth.key_settings import build_verifier, jwt_settings\n"
        "from schemas.errors import Misconfigured\n"
        "try: settings = jwt_settings(); verifier = build_verifier('production', settings)\n"
        "except Misconfigured as fault: print(fault)\n"
        "else: print(verifier.audience, verifier.issuer, verifier.leeway_s, settings)\n"
    )

    def output_with(**variables: str) -> str:
        command = [sys.executable, "-W", "error", "-c", code]
        env = {**os.environ, **variables}
        return subprocess.run(
            command, check=True, cwd=ROOT, env=env, capture_output=True, text=True
        ).stdout

    output = output_with(
        JWT_SECRET_KEY=SECRET, JWT_AUDIENCE="here", JWT_LEEWAY_S="5", JWT_ISSUER=""
    )
    assert output.startswith("here cjstream-identity 5.0 ")
    assert SECRET not in output
    assert output_with(JWT_SECRET_KEY="").startswith("JWT_SECRET_KEY: missing")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("algorithm", "none"),
        ("algorithm", "HS512"),
        ("leeway_s", "-1"),
        ("leeway_s", "86400"),
        ("jwks_url", "file:///keys"),
    ],
)
def test_an_invalid_variable_is_named(name: str, value: str) -> None:
    with pytest.raises(Misconfigured, match=f"^JWT_{name.upper()}: "):
        settings(**{name: value})


IDENTITY_SERVICES: dict[str, tuple[str, dict[str, Any]]] = {
    "Keycloak": ("realm_access.roles", {"realm_access": {"roles": ["offline", "cj-audit"]}}),
    "Keycloak, of a client": (
        "resource_access.cj.stream.roles",
        {"resource_access": {"cj.stream": {"roles": ["cj-audit"]}}},
    ),
    "Okta": ("groups", {"groups": ["Everyone", "cj-audit"]}),
    "Auth0": ("https://example.org/roles", {"https://example.org/roles": ["cj-audit"]}),
    "scopes": ("scope", {"scope": "openid cj-audit"}),
}


@pytest.mark.parametrize(("claim", "given"), IDENTITY_SERVICES.values(), ids=IDENTITY_SERVICES)
def test_roles_are_found_where_identity_services_put_them(claim: str, given: Any) -> None:
    options = {"roles_claim": claim, "role_names": "cj-admins=admin, cj-audit=auditor"}
    verifier = build_verifier("production", settings(secret_key=SECRET, **options))
    assert caller_of(hs256(**given), verifier).roles == {"auditor"}  # not admin, as in `roles`


@pytest.mark.parametrize(
    ("options", "given", "words"),
    [
        ({}, {"roles": WITHOUT}, "claim roles is missing"),
        ({}, {"roles": "admin"}, "claim roles is missing or no list of names"),
        ({}, {"roles": ["guest"]}, "claim roles has none of them"),
        ({"roles_claim": "a.b"}, {"a": {"c": []}}, "claim a.b is missing"),
        ({"role_names": "x=admin"}, {"roles": ["admin"]}, "that JWT_ROLE_NAMES maps"),
    ],
)
def test_a_refusal_says_in_which_claim_it_looked(
    options: dict[str, str], given: dict[str, Any], words: str
) -> None:
    verifier = build_verifier("production", settings(secret_key=SECRET, **options))
    with pytest.raises(Forbidden, match=words):
        caller_of(hs256(**given), verifier).must_have(ADMINS)


@pytest.mark.parametrize("names", ["admin", "=admin", "x=root", "x=admin,y"])
def test_role_names_that_map_to_no_role_are_refused(names: str) -> None:
    with pytest.raises(Misconfigured, match=r"^JWT_ROLE_NAMES: "):
        settings(role_names=names)
