"""The server of /metrics, /healthz and /readyz over real HTTP."""

import socket
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Counter

from processors.monitoring.metrics_server import MetricsServer, Served
from schemas.errors import Misconfigured
from tests.support.scraping import Scraped

SETTING = "CJSTREAM_WORKER_METRICS_ADDRESS"


class Health:
    """A process that is asked how it is."""

    def __init__(self) -> None:
        self.checks = {"broker": True, "replica": False}
        self.registry = CollectorRegistry()
        Counter("cj_things", "things", registry=self.registry).inc(3)
        self.served = Served(self.registry, lambda: {"running": True}, lambda: self.checks)


@pytest.fixture
def health() -> Health:
    return Health()


@pytest.fixture
def server(health: Health) -> Iterator[MetricsServer]:
    server = MetricsServer("127.0.0.1:0", health.served, setting=SETTING)
    server.start()
    yield server
    server.close()


@pytest.fixture
def scraped(server: MetricsServer) -> Scraped:
    return Scraped(f"127.0.0.1:{server.port}")


def test_the_metrics_are_served(scraped: Scraped) -> None:
    assert scraped.value("cj_things_total") == 3
    assert scraped.get("/metrics").headers["content-type"].startswith("text/plain; version=")


def test_readiness_says_what_is_missing_and_health_is_something_else(
    scraped: Scraped, health: Health
) -> None:
    response = scraped.get("/readyz")
    assert response.status_code == 503
    assert response.json() == {"status": "unavailable", "checks": health.checks}
    assert scraped.get("/healthz?x=1").status_code == 200
    health.checks = {"broker": True, "replica": True}
    assert scraped.is_ready()


def test_head_has_no_body_and_other_paths_are_not_found(
    server: MetricsServer, scraped: Scraped
) -> None:
    assert scraped.get("/").status_code == 404
    with socket.create_connection(("127.0.0.1", server.port), 10) as client:
        client.sendall(b"HEAD /healthz HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.0 200 ")
    assert answer.endswith(b"\r\n\r\n")


def test_a_silent_client_blocks_no_other(server: MetricsServer, scraped: Scraped) -> None:
    with socket.create_connection(("127.0.0.1", server.port)):
        assert scraped.get("/healthz").status_code == 200


def test_an_address_in_use_is_named_with_its_setting(server: MetricsServer, health: Health) -> None:
    with pytest.raises(Misconfigured, match=f"^{SETTING}: cannot listen on 127.0.0.1:"):
        MetricsServer(f"127.0.0.1:{server.port}", health.served, setting=SETTING)


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1", "127.0.0.1:99999"])
def test_what_is_no_address_is_refused(address: str, health: Health) -> None:
    with pytest.raises(Misconfigured, match=f"^{SETTING}: "):
        MetricsServer(address, health.served, setting=SETTING)
