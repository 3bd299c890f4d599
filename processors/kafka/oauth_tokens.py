"""OAuth tokens for aiokafka, which has no token endpoint of its own; librdkafka has."""

import asyncio
import time
from collections.abc import Callable

import httpx
from aiokafka.abc import AbstractTokenProvider

from processors.http_clients import async_http_client
from processors.kafka_security import KafkaSecurity
from processors.tls import secret_text

TOKEN_TIMEOUT_S = 10.0
EARLY_S = 30.0  # before its end, a token is replaced
DEFAULT_LIFETIME_S = 300.0  # of a token, if the endpoint does not tell


class OAuthTokens(AbstractTokenProvider):  # type: ignore[misc]
    """Tokens of the client credentials grant (RFC 6749, section 4.4), each used until shortly before its end."""

    def __init__(
        self, security: KafkaSecurity, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._security = security
        self._clock = clock
        self._token = ""
        self._until = float("-inf")
        self._requesting = asyncio.Lock()

    async def token(self) -> str:
        """A token that is valid now. Raises ConnectionError, which aiokafka handles as a refused connection."""
        async with self._requesting:
            if self._clock() >= self._until:
                await self._request()
            return self._token

    async def _request(self) -> None:
        security, form = self._security, {"grant_type": "client_credentials"}
        if security.oauth_scope:
            form["scope"] = security.oauth_scope
        url = str(security.oauth_token_url)
        login = (str(security.oauth_client_id), secret_text(security.oauth_client_secret) or "")
        try:
            async with async_http_client(url, timeout=TOKEN_TIMEOUT_S) as client:
                answer = await client.post(url, data=form, auth=login)
            fields = answer.raise_for_status().json()
            token, lifetime = fields["access_token"], fields.get("expires_in", DEFAULT_LIFETIME_S)
            self._token, self._until = str(token), self._clock() + float(lifetime) - EARLY_S
        except (httpx.HTTPError, KeyError, TypeError, ValueError) as fault:
            # the answer itself may contain a token
            raise ConnectionError(f"no token from the endpoint: {type(fault).__name__}") from None
