"""Tokens of the client credentials grant: reused until shortly before their end; a faulty endpoint is a refusal."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from processors.kafka.oauth_tokens import EARLY_S, OAuthTokens
from processors.kafka_security import KafkaSecurity
from tests.support.http_server import serving

SECRET = "not to be shown"


class Endpoint:
    """A token endpoint that answers what the test sets, and keeps the requests."""

    def __init__(self) -> None:
        self.forms = list[bytes]()
        self.answer: Any = None  # None: a new token that is valid for 100 s
        self.status = 200
        self.app = FastAPI()
        self.app.post("/token")(self._token)

    async def _token(self, request: Request) -> JSONResponse:
        self.forms.append(await request.body())
        new = {"access_token": f"token {len(self.forms)}", "expires_in": 100}
        return JSONResponse(new if self.answer is None else self.answer, self.status)


@pytest.fixture
def endpoint() -> Iterator[tuple[Endpoint, KafkaSecurity]]:
    endpoint = Endpoint()
    with serving(endpoint.app) as url:
        yield (
            endpoint,
            KafkaSecurity.model_validate(
                {
                    "security_protocol": "SASL_SSL",
                    "sasl_mechanism": "OAUTHBEARER",
                    "oauth_token_url": f"{url}/token",
                    "oauth_client_id": "client",
                    "oauth_client_secret": SECRET,
                    "oauth_scope": "kafka",
                }
            ),
        )


def test_a_token_is_used_until_shortly_before_its_end(
    endpoint: tuple[Endpoint, KafkaSecurity],
) -> None:
    asked, security = endpoint
    now = [0.0]
    tokens = OAuthTokens(security, lambda: now[0])

    async def take() -> list[str]:
        both = await asyncio.gather(tokens.token(), tokens.token())
        now[0] = 100 - EARLY_S - 1
        old = await tokens.token()
        now[0] = 100 - EARLY_S
        return [*both, old, await tokens.token()]

    assert asyncio.run(take()) == ["token 1", "token 1", "token 1", "token 2"]
    assert asked.forms == [b"grant_type=client_credentials&scope=kafka"] * 2


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (500, {"access_token": "x"}),
        (401, {"error": SECRET}),
        (200, {}),
        (200, []),
        (200, "text"),
        (200, {"access_token": "x", "expires_in": "soon"}),
    ],
)
def test_an_answer_without_a_token_refuses_the_connection_and_is_not_shown(
    endpoint: tuple[Endpoint, KafkaSecurity], status: int, answer: Any
) -> None:
    asked, security = endpoint
    asked.status, asked.answer = status, answer
    with pytest.raises(ConnectionError, match="no token from the endpoint") as refused:
        asyncio.run(OAuthTokens(security).token())
    assert SECRET not in str(refused.value)
