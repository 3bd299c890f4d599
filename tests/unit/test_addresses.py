"""Host and port as text, and which hosts are this machine."""

import pytest

from processors.addresses import client_url, host_and_port, is_on_this_machine


@pytest.mark.parametrize(
    ("host", "text"),
    [("127.0.0.1", "127.0.0.1:80"), ("kafka.example", "kafka.example:80"), ("::1", "[::1]:80")],
)
def test_an_ipv6_address_is_in_brackets(host: str, text: str) -> None:
    assert host_and_port(host, 80) == text


@pytest.mark.parametrize(
    ("listens_on", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("localhost", "http://localhost:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("::1", "http://[::1]:80"),
        ("fe80::1%eth0", "http://[fe80::1%25eth0]:80"),
    ],
)
def test_a_client_gets_an_address_that_it_can_connect_to(listens_on: str, url: str) -> None:
    assert client_url(listens_on, 80) == url


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("api.localhost", True),
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("[::1]", True),
        ("[::ffff:127.0.0.1]", True),
        ("0.0.0.0", True),
        ("localhost.example", False),
        ("10.0.0.1", False),
        ("[2001:db8::1]", False),
        ("cjstream.example", False),
        ("[::1", False),
    ],
)
def test_what_is_on_this_machine(host: str, expected: bool) -> None:
    assert is_on_this_machine(f"http://user@{host}:9095/path") is expected
