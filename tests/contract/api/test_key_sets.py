"""Key sets: fetched when needed, cached for ten minutes, and never fetched too often."""

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
from tests.support.until import until
from tools.api.auth.authentication import KeysUnavailable, Unauthenticated, Verifier
from tools.api.auth.jwks import FAILED_PAUSE_S, MAX_AGE_S, UNKNOWN_KEY_PAUSE_S, KeySet
from tools.api.auth.key_settings import build_verifier
from tools.api.auth.key_settings import jwt_settings as settings

OTHER_RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def jwk(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, **fields: Any) -> dict[str, Any]:
    if isinstance(key, rsa.RSAPrivateKey):
        return {**RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), **fields}
    return {**ECAlgorithm.to_jwk(key.public_key(), as_dict=True), **fields}


class Publisher:
    """The key set of an identity service, with a clock that the test sets."""

    def __init__(self, *keys: Mapping[str, Any]) -> None:
        self.keys: list[Mapping[str, Any]] | None = list(keys)
        self.fetches = 0
        self.now_s = 0.0

    async def fetch(self) -> Any:
        self.fetches += 1
        if self.keys is None:
            raise ValueError("not there")
        return {"keys": self.keys}

    def verifier(self, algorithm: str = "RS256", **limits: float) -> Verifier:
        keys = KeySet(self.fetch, algorithm, lambda: self.now_s, **limits)
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


async def result_of(verifier: Verifier, authorization: str) -> str:
    """The subject of the accepted token, or the reason of its refusal."""
    try:
        return (await verifier.caller(authorization)).subject
    except Unauthenticated as refusal:
        return refusal.reason
    except KeysUnavailable:
        return "unavailable"


async def until_result(verifier: Verifier, authorization: str, expected: str) -> None:
    loop = asyncio.get_running_loop()

    def has_it() -> bool:
        result = asyncio.run_coroutine_threadsafe(result_of(verifier, authorization), loop)
        return result.result(5) == expected

    await asyncio.to_thread(until, has_it)


@pytest.mark.anyio
async def test_keys_are_fetched_once_and_cached_for_ten_minutes() -> None:
    publisher = Publisher(jwk(RSA_KEY, kid="one"))
    verifier = publisher.verifier()
    for publisher.now_s in (0, 1, MAX_AGE_S - 1):
        assert await result_of(verifier, signed("one")) == "anna"
    assert publisher.fetches == 1
    publisher.now_s = MAX_AGE_S
    assert await result_of(verifier, signed("one")) == "anna"
    await asyncio.to_thread(until, lambda: publisher.fetches == 2)


@pytest.mark.anyio
async def test_a_withdrawn_key_is_refused_after_ten_minutes() -> None:
    publisher = Publisher(jwk(RSA_KEY, kid="one"))
    verifier = publisher.verifier()
    assert await result_of(verifier, signed("one")) == "anna"
    publisher.keys, publisher.now_s = [jwk(RSA_KEY, kid="two")], MAX_AGE_S
    assert await result_of(verifier, signed("one")) == "anna"  # this request starts the fetch
    await until_result(verifier, signed("one"), "unknown_key")


@pytest.mark.anyio
async def test_keys_are_renewed_without_a_request() -> None:
    publisher = Publisher(jwk(RSA_KEY, kid="one"))
    verifier = publisher.verifier(max_age_s=0.01)
    assert await result_of(verifier, signed("one")) == "anna"
    publisher.keys = [jwk(RSA_KEY, kid="two")]
    await asyncio.to_thread(until, lambda: publisher.fetches >= 3)
    await until_result(verifier, signed("one"), "unknown_key")


@pytest.mark.anyio
async def test_an_unknown_key_id_causes_one_fetch_in_thirty_seconds() -> None:
    publisher = Publisher(jwk(RSA_KEY, kid="one"))
    verifier = publisher.verifier()
    assert await result_of(verifier, signed("two")) == "unknown_key"
    assert publisher.fetches == 1  # this request has caused a fetch already
    publisher.keys = [jwk(RSA_KEY, kid="one"), jwk(RSA_KEY, kid="two")]
    assert await result_of(verifier, signed("two")) == "anna"
    assert [await result_of(verifier, signed("three")) for _ in range(5)] == ["unknown_key"] * 5
    assert publisher.fetches == 2
    publisher.now_s = UNKNOWN_KEY_PAUSE_S
    await asyncio.gather(*(result_of(verifier, signed("three")) for _ in range(5)))
    assert publisher.fetches == 3


@pytest.mark.anyio
async def test_a_token_without_a_key_id_is_not_for_a_key_that_has_one() -> None:
    publisher = Publisher(jwk(RSA_KEY, kid="one"))
    assert await result_of(publisher.verifier(), signed(None)) == "unknown_key"
    assert publisher.fetches == 1


@pytest.mark.anyio
async def test_another_algorithm_is_refused_before_a_key_is_fetched() -> None:
    publisher = Publisher(jwk(RSA_KEY, kid="one"))
    assert await result_of(publisher.verifier(), f"Bearer {hs256()}") == "invalid_algorithm"
    assert publisher.fetches == 0


@pytest.mark.anyio
async def test_unreachable_keys_are_reported_as_unavailable_and_fetched_again() -> None:
    publisher = Publisher()
    publisher.keys = None
    verifier = publisher.verifier()
    assert [await result_of(verifier, signed("one")) for _ in range(3)] == ["unavailable"] * 3
    assert (publisher.fetches, await verifier.keys.are_loaded()) == (1, False)
    publisher.keys, publisher.now_s = [jwk(RSA_KEY, kid="one")], FAILED_PAUSE_S
    assert await verifier.keys.are_loaded()
    assert await result_of(verifier, signed("one")) == "anna"


@pytest.mark.anyio
async def test_cached_keys_stay_in_use_while_new_ones_cannot_be_fetched() -> None:
    publisher = Publisher(jwk(RSA_KEY, kid="one"))
    verifier = publisher.verifier()
    assert await result_of(verifier, signed("one")) == "anna"
    publisher.keys, publisher.now_s = None, MAX_AGE_S
    assert await result_of(verifier, signed("one")) == "anna"
    assert await result_of(verifier, signed("two")) == "unknown_key"
    assert publisher.fetches == 2


@pytest.mark.parametrize(
    "entry",
    [
        jwk(RSA_KEY, kid="one", use="enc"),
        jwk(RSA_KEY, kid="one", alg="RS512"),
        jwk(RSA_KEY, kid=7),
        jwk(EC_KEY, kid="one"),
        jwk(WEAK_RSA_KEY, kid="one"),
        {"kty": "oct", "k": segment(SECRET.encode()), "kid": "one"},
        {"kty": "RSA", "kid": "one"},
        {**RSAAlgorithm.to_jwk(RSA_KEY, as_dict=True), "kid": "one"},
        "one",
    ],
)
@pytest.mark.anyio
async def test_an_unsuitable_key_is_ignored(entry: Any) -> None:
    assert await result_of(Publisher(entry).verifier(), signed("one")) == "unavailable"
    verifier = Publisher(entry, jwk(RSA_KEY, kid="two")).verifier()
    assert await result_of(verifier, signed("two")) == "anna"
    assert await result_of(verifier, signed("one")) == "unknown_key"


@pytest.mark.anyio
async def test_a_public_key_of_the_set_is_never_used_as_hmac_secret() -> None:
    verifier = Publisher(jwk(RSA_KEY, kid="one")).verifier()
    forged = by_hand({"alg": "HS256", "kid": "one"}, claims(), public_pem(RSA_KEY))
    assert await result_of(verifier, f"Bearer {forged}") == "invalid_algorithm"


KEY_SET = {"keys": [jwk(RSA_KEY, kid="one")]}


@pytest.fixture
def server() -> Iterator[Answering]:
    with answering() as stub:
        yield stub


@pytest.mark.parametrize(
    ("answer", "expected"),
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
async def test_a_key_set_is_fetched_over_http_or_is_unavailable(
    server: Answering, answer: Told, expected: str
) -> None:
    server.respond("GET /keys", answer)
    server.respond("GET /elsewhere", Told(KEY_SET))
    from_url = settings(algorithm="RS256", jwks_url=f"{server.url}/keys")
    assert await result_of(build_verifier("production", from_url), signed("one")) == expected
    assert server.routes == ["GET /keys"]


@pytest.mark.anyio
async def test_a_key_set_at_an_unreachable_url_is_unavailable() -> None:
    unreachable = settings(algorithm="RS256", jwks_url="http://127.0.0.1:9/keys")
    assert (
        await result_of(build_verifier("production", unreachable), signed("one")) == "unavailable"
    )


class HangingPublisher(Publisher):
    """A key set whose provider stops answering once `hangs` is set."""

    hangs = False

    async def fetch(self) -> Any:
        document = await super().fetch()
        if self.hangs:
            await asyncio.Event().wait()
        return document


@pytest.mark.anyio
async def test_a_provider_that_hangs_never_delays_a_request_whose_key_is_known() -> None:
    publisher = HangingPublisher(jwk(RSA_KEY, kid="one"))
    verifier = publisher.verifier()
    assert await result_of(verifier, signed("one")) == "anna"
    publisher.hangs = True
    for publisher.now_s in (MAX_AGE_S, MAX_AGE_S + FAILED_PAUSE_S, 10 * MAX_AGE_S):
        async with asyncio.timeout(1):
            assert await result_of(verifier, signed("one")) == "anna"
    await asyncio.to_thread(until, lambda: publisher.fetches == 2)  # one, not one per request


@pytest.mark.anyio
async def test_unknown_key_ids_wait_together_for_one_hanging_fetch() -> None:
    publisher = HangingPublisher(jwk(RSA_KEY, kid="one"))
    verifier = publisher.verifier(timeout_s=0.5)
    assert await result_of(verifier, signed("one")) == "anna"
    publisher.hangs = True
    unknown = [asyncio.create_task(result_of(verifier, signed(f"{n}"))) for n in range(200)]
    await asyncio.to_thread(until, lambda: publisher.fetches == 2)
    assert await result_of(verifier, signed("one")) == "anna"
    assert not any(task.done() for task in unknown)
    async with asyncio.timeout(5):
        assert set(await asyncio.gather(*unknown)) == {"unknown_key"}
        assert await result_of(verifier, signed("another")) == "unknown_key"
    assert publisher.fetches == 2


@pytest.mark.anyio
async def test_a_request_that_gives_up_does_not_end_the_fetch_that_others_wait_for() -> None:
    answer = asyncio.Event()

    class Slow(Publisher):
        async def fetch(self) -> Any:
            document = await super().fetch()
            await answer.wait()
            return document

    publisher = Slow(jwk(RSA_KEY, kid="one"))
    verifier = publisher.verifier()
    impatient, patient = (asyncio.create_task(result_of(verifier, signed("one"))) for _ in range(2))
    await asyncio.to_thread(until, lambda: publisher.fetches == 1)
    impatient.cancel()
    answer.set()
    assert await patient == "anna"


@pytest.mark.anyio
async def test_a_key_set_that_is_too_large_is_not_read_to_its_end(server: Answering) -> None:
    server.respond("GET /keys", Told({**KEY_SET, "filler": " " * 2_000_000}))
    from_url = settings(algorithm="RS256", jwks_url=f"{server.url}/keys")
    assert await result_of(build_verifier("production", from_url), signed("one")) == "unavailable"


@pytest.mark.anyio
@pytest.mark.parametrize("kid", [None, "any"])
async def test_a_single_key_needs_no_id(kid: str | None) -> None:
    verifier = Publisher(jwk(RSA_KEY)).verifier()
    assert await result_of(verifier, signed(kid)) == "anna"
    assert await result_of(verifier, signed(kid, OTHER_RSA_KEY)) == "invalid_signature"


@pytest.mark.anyio
async def test_of_several_keys_only_those_with_an_id_are_used() -> None:
    verifier = Publisher(jwk(RSA_KEY), jwk(OTHER_RSA_KEY, kid="two")).verifier()
    assert await result_of(verifier, signed(None)) == "unknown_key"
    assert await result_of(verifier, signed("two", OTHER_RSA_KEY)) == "anna"


UNUSABLE: dict[str, list[Mapping[str, Any]]] = {
    "none": [],
    "of another type": [jwk(EC_KEY, kid="one")],
    "too weak": [jwk(WEAK_RSA_KEY, kid="one")],
    "for encryption": [jwk(RSA_KEY, kid="one", use="enc")],
    "without ids": [jwk(RSA_KEY), jwk(OTHER_RSA_KEY)],
}


@pytest.mark.anyio
@pytest.mark.parametrize("keys", UNUSABLE.values(), ids=UNUSABLE)
async def test_keys_that_were_fetched_but_cannot_be_used_are_called_so(
    keys: list[Mapping[str, Any]],
) -> None:
    with pytest.raises(KeysUnavailable, match=f"none of the {len(keys)} keys that were fetched"):
        await Publisher(*keys).verifier().caller(signed("one"))
