"""Addresses of servers: host and port as text, and which hosts are this machine."""

import ipaddress
import socket
from urllib.parse import urlsplit

IPV4_LOOPBACK, IPV6_LOOPBACK = "127.0.0.1", "::1"


def host_and_port(host: str, port: int) -> str:
    """host:port as every program reads it: an IPv6 address is in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def client_url(host: str, port: int) -> str:
    """The URL at which a client on this machine reaches a server that listens on this host and port."""
    address = _ip_address(host)
    if address is not None and address.is_unspecified:
        host = IPV4_LOOPBACK if address.version == 4 else IPV6_LOOPBACK
    return f"http://{host_and_port(host.replace('%', '%25'), port)}"


def loopback_host() -> str:
    """The address of the loopback interface: IPv4's, or IPv6's on a machine that has only that."""
    with socket.socket() as probe:
        try:
            probe.bind((IPV4_LOOPBACK, 0))
        except OSError:
            return IPV6_LOOPBACK
    return IPV4_LOOPBACK


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens on this host."""
    address = _ip_address(host)
    return host == "localhost" if address is None else address.is_loopback


def is_on_this_machine(url: str) -> bool:
    """Whether the host of a URL is this machine, so that no proxy is needed to reach it."""
    try:
        host = (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return False
    address = _ip_address(host)
    if address is None:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


def _ip_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
