"""The address of a request's client, for log lines."""

from collections.abc import Mapping
from typing import Any


def client_of(scope: Mapping[str, Any]) -> str | None:
    """The address of the client, or what a proxy on this machine says it is; None if it is unknown."""
    client = scope.get("client")
    return None if client is None else str(client[0])
