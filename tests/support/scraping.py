"""Reads the metrics and the health of a running process, as Prometheus and a container platform do."""

from collections.abc import Mapping
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.support.until import until

Labels = Mapping[str, str]


class Scraped:
    """The server on an address of this machine."""

    def __init__(self, address: str) -> None:
        self._url = f"http://{address}"

    def get(self, path: str) -> httpx.Response:
        """The response for a path."""
        return httpx.get(f"{self._url}{path}", trust_env=False, timeout=30)

    def samples(self) -> dict[str, list[tuple[Labels, float]]]:
        """Every sample, by its name."""
        found = dict[str, list[tuple[Labels, float]]]()
        for family in text_string_to_metric_families(self.get("/metrics").text):
            for sample in family.samples:
                found.setdefault(sample.name, []).append((sample.labels, sample.value))
        return found

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples with these labels, 0 if there is none."""
        return sum(
            value
            for found, value in self.samples().get(name, [])
            if labels.items() <= found.items()
        )

    def is_ready(self) -> bool:
        """Whether /readyz answers 200; False also while nobody listens."""
        try:
            return self.get("/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    def wait_until_ready(self) -> None:
        """Wait until /readyz answers 200."""
        until(self.is_ready, 60)

    def checks(self) -> dict[str, Any]:
        """The checks of /readyz, whether they are met or not."""
        checks: dict[str, Any] = self.get("/readyz").json()["checks"]
        return checks
