"""Key sets: fetched when needed, kept for ten minutes, and never asked for too often."""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from tests.support.http_stub import Answering, Told, answering
from tests.support.tokens import (
    EC_KEY,
    RSA_KEY,
    SECRET,
    WEAK_RSA_KEY,
    by_hand,
    claims,
    hs256,
    public_pem,
    segment,
)
from tools.api.auth.authentication import KeysUnavailable, Unauthenticated, Verifier
from tools.api.auth.jwks import FAILED_PAUSE_S, MAX_AGE_S, UNKNOWN_KEY_PAUSE_S, KeySet
from tools.api.auth.key_settings import build_verifier, prepare_public_key
from tools.api.auth.key_settings import jwt_settings as settings


def jwk(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, **more: Any) -> dict[str, Any]:
    if isinstance(key, rsa.RSAPrivateKey):
        return {**RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), **more}
    return {**ECAlgorithm.to_jwk(key.public_key(), as_dict=True), **more}


class Publisher:
    """An identity service's key set, under a clock that stands still until it is set."""

    def __init__(self, *keys: Mapping[str, Any]) -> None:
        self.keys: list[Mapping[str, Any]] | None = list(keys)
        self.fetches = 0
        self.now_s = 0.0

    async def fetch(self) -> Any:
        self.fetches += 1
        if self.keys is None:
            raise ValueError("not there")
        return {"keys": self.keys}

    def verifier(self, algorithm: str = "RS256") -> Verifier:
        keys = KeySet(
            self.fetch,
            lambda key: prepare_public_key(algorithm, key.key),
            algorithm,
            lambda: self.now_s,
        )
        return Verifier(
            keys=keys,
            algorithm=algorithm,
            audience="cjstream",
            issuer="cjstream-identity",
            leeway_s=0,
        )


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def signed(kid: str | None, key: rsa.RSAPrivateKey = RSA_KEY) -> str:
    headers = {} if kid is None else {"kid": kid}
    return f"Bearer {jwt.encode(claims(), key, 'RS256', headers=headers)}"


async def seen(verifier: Verifier, authorization: str) -> str:
    """What becomes of it, in a word."""
    try:
        return (await verifier.caller(authorization)).subject
    except Unauthenticated as refusal:
        return refusal.reason
    except KeysUnavailable:
        return "unavailable"


@pytest.mark.anyio
async def test_keys_are_fetched_once_and_kept_for_ten_minutes() -> None:
    publisher = Publisher(jwk(RSA_KEY, kid="one"))
    verifier = publisher.verifier()
    for publisher.now_s in (0, 1, MAX_AGE_S - 1):
        assert await seen(verifier, signed("one")) == "anna"
    assert publisher.fetches == 1
    publisher.now_s = MAX_AGE_S
    assert await seen(verifier, signed("one")) == "anna"
    assert publisher.fetches == 2


@pytest.mark.anyio
async def test_a_key_that_was_withdrawn_is_refused_after_ten_minutes() -> None:
    publisher = Publisher(jwk(RSA_KEY, kid="one"))
    verifier = publisher.verifier()
    assert await seen(verifier, signed("one")) == "anna"
    publisher.keys, publisher.now_s = [jwk(RSA_KEY, kid="two")], MAX_AGE_S
    assert await seen(verifier, signed("one")) == "unknown_key"


@pytest.mark.anyio
async def test_an_unknown_key_id_causes_one_fetch_in_thirty_seconds() -> None:
    publisher = Publisher(jwk(RSA_KEY, kid="one"))
    verifier = publisher.verifier()
    assert await seen(verifier, signed("two")) == "unknown_key"
    assert publisher.fetches == 1  # fetched for this very request: no second time
    publisher.keys = [jwk(RSA_KEY, kid="one"), jwk(RSA_KEY, kid="two")]
    assert await seen(verifier, signed("two")) == "anna"
    assert [await seen(verifier, signed("three")) for _ in range(5)] == ["unknown_key"] * 5
    assert publisher.fetches == 2
    publisher.now_s = UNKNOWN_KEY_PAUSE_S
    await asyncio.gather(*(seen(verifier, signed("three")) for _ in range(5)))
    assert publisher.fetches == 3


@pytest.mark.anyio
async def test_without_a_key_id_nothing_is_fetched() -> None:
    publisher = Publisher(jwk(RSA_KEY, kid="one"))
    assert await seen(publisher.verifier(), signed(None)) == "unknown_key"
    assert publisher.fetches == 0


@pytest.mark.anyio
async def test_another_algorithm_is_refused_before_a_key_is_asked_for() -> None:
    publisher = Publisher(jwk(RSA_KEY, kid="one"))
    assert await seen(publisher.verifier(), f"Bearer {hs256()}") == "invalid_algorithm"
    assert publisher.fetches == 0


@pytest.mark.anyio
async def test_unreachable_keys_are_no_fault_of_the_token_and_are_asked_for_again() -> None:
    publisher = Publisher()
    publisher.keys = None
    verifier = publisher.verifier()
    assert [await seen(verifier, signed("one")) for _ in range(3)] == ["unavailable"] * 3
    assert (publisher.fetches, await verifier.has_keys()) == (1, False)
    publisher.keys, publisher.now_s = [jwk(RSA_KEY, kid="one")], FAILED_PAUSE_S
    assert await verifier.has_keys()
    assert await seen(verifier, signed("one")) == "anna"


@pytest.mark.anyio
async def test_keys_that_are_cached_serve_on_while_new_ones_cannot_be_fetched() -> None:
    publisher = Publisher(jwk(RSA_KEY, kid="one"))
    verifier = publisher.verifier()
    assert await seen(verifier, signed("one")) == "anna"
    publisher.keys, publisher.now_s = None, MAX_AGE_S
    assert await seen(verifier, signed("one")) == "anna"
    assert await seen(verifier, signed("two")) == "unknown_key"
    assert publisher.fetches == 2


@pytest.mark.parametrize(
    "entry",
    [
        jwk(RSA_KEY, kid="one", use="enc"),
        jwk(RSA_KEY, kid="one", alg="RS512"),
        jwk(RSA_KEY, kid=7),
        jwk(RSA_KEY),
        jwk(EC_KEY, kid="one"),
        jwk(WEAK_RSA_KEY, kid="one"),
        {"kty": "oct", "k": segment(SECRET.encode()), "kid": "one"},
        {"kty": "RSA", "kid": "one"},
        {**RSAAlgorithm.to_jwk(RSA_KEY, as_dict=True), "kid": "one"},
        "one",
    ],
)
@pytest.mark.anyio
async def test_a_key_that_does_not_fit_is_left_out(entry: Any) -> None:
    assert await seen(Publisher(entry).verifier(), signed("one")) == "unavailable"
    beside = Publisher(entry, jwk(RSA_KEY, kid="two")).verifier()
    assert await seen(beside, signed("two")) == "anna"
    assert await seen(beside, signed("one")) == "unknown_key"


@pytest.mark.anyio
async def test_a_public_key_of_the_set_never_serves_as_hmac_secret() -> None:
    verifier = Publisher(jwk(RSA_KEY, kid="one")).verifier()
    forged = by_hand({"alg": "HS256", "kid": "one"}, claims(), public_pem(RSA_KEY))
    assert await seen(verifier, f"Bearer {forged}") == "invalid_algorithm"


KEY_SET = {"keys": [jwk(RSA_KEY, kid="one")]}


@pytest.fixture
def publishing() -> Iterator[Answering]:
    with answering() as server:
        yield server


@pytest.mark.parametrize(
    ("answer", "becomes"),
    [
        (Told(KEY_SET), "anna"),
        (Told(KEY_SET, 500), "unavailable"),
        (Told(status=302, headers={"Location": "/elsewhere"}), "unavailable"),
        (Told(raw=b"<html>"), "unavailable"),
        (Told([]), "unavailable"),
        (Told({"keys": {}}), "unavailable"),
    ],
)
@pytest.mark.anyio
async def test_a_key_set_comes_over_http_or_the_token_has_to_wait(
    publishing: Answering, answer: Told, becomes: str
) -> None:
    publishing.tell("GET /keys", answer)
    publishing.tell("GET /elsewhere", Told(KEY_SET))
    own = settings(algorithm="RS256", jwks_url=f"{publishing.url}/keys")
    assert await seen(build_verifier("production", own), signed("one")) == becomes
    assert publishing.routes == ["GET /keys"]


@pytest.mark.anyio
async def test_nobody_answers_at_the_address_of_the_key_set() -> None:
    nobody = settings(algorithm="RS256", jwks_url="http://127.0.0.1:9/keys")
    assert await seen(build_verifier("production", nobody), signed("one")) == "unavailable"
