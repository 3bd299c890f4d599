"""HTTP clients with the proxies and certificates of the environment, which are never used for this machine.

A proxy cannot reach this machine's loopback addresses, and it must not see the tokens and texts that are sent there.
"""

import os
from collections.abc import Callable, MutableMapping
from typing import TYPE_CHECKING, Any, TypeVar

from processors.addresses import IPV4_LOOPBACK, IPV6_LOOPBACK, is_on_this_machine
from schemas.errors import Misconfigured

T = TypeVar("T")

if TYPE_CHECKING:
    import httpx  # imported where it is used: it takes longer than a command that does not need it

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


def http_client(url: str, **options: Any) -> "httpx.Client":
    """A client for calls to this URL. Raises Misconfigured for unusable proxies or certificates."""
    import httpx

    try:
        return httpx.Client(trust_env=not is_on_this_machine(url), **options)
    except (ImportError, ValueError, OSError, httpx.InvalidURL) as fault:
        raise _unusable(fault) from fault


def async_http_client(url: str, **options: Any) -> "httpx.AsyncClient":
    """The same for asyncio."""
    import httpx

    try:
        return httpx.AsyncClient(trust_env=not is_on_this_machine(url), **options)
    except (ImportError, ValueError, OSError, httpx.InvalidURL) as fault:
        raise _unusable(fault) from fault


def sdk_http_client(make: Callable[..., T], url: str, connections_max: int) -> T:
    """The same for the SDK of a provider, made by its own class; it follows no redirect to another server."""
    import httpx2

    limits = httpx2.Limits(
        max_connections=connections_max, max_keepalive_connections=connections_max
    )
    try:
        trusts = not is_on_this_machine(url)
        return make(trust_env=trusts, follow_redirects=False, limits=limits)
    except (ImportError, ValueError, OSError, httpx2.InvalidURL) as fault:
        raise _unusable(fault) from fault


def _unusable(fault: Exception) -> Misconfigured:
    """The error, without the variables' values: the URL of a proxy may contain a password."""
    names = [name for name in VARIABLES if os.environ.get(name) or os.environ.get(name.lower())]
    cause = "a SOCKS proxy is not supported" if isinstance(fault, ImportError) else None
    return Misconfigured(
        f"{', '.join(names) or 'the TLS settings'}: no HTTP client can be made with the environment's proxies and"
        f" certificates ({cause or type(fault).__name__}): correct or unset them"
    )


def exempt_this_machine(environment: MutableMapping[str, str]) -> None:
    """Exempt this machine from the proxies of libraries that read the environment themselves."""
    exempted = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    value = ",".join(filter(None, (exempted, "localhost", IPV4_LOOPBACK, IPV6_LOOPBACK)))
    environment.update(no_proxy=value, NO_PROXY=value)
