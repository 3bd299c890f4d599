"""`python -m tools.reference.page_weights URL [PATH…]`: the weight of the console's pages, and how long each takes.

URL is that of an API in development; a page is asked for several times, after one time that does not count. A page's
weight is its own bytes and those of its style sheet, scripts and icon, as they are sent: without compression.
"""

import re
import statistics
import sys
import time
from collections.abc import Iterator

import httpx

from tools.printing import print_table

PATHS = (
    "/",
    "/?q=a",
    "/assignments/new",
    "/assignments/eng5-youth-centre",
    "/assignments/eng5-youth-centre/edit",
    "/flow",
    "/batches",
    "/batches?q=class-9b",
    "/judging",
    "/judging/class-9b",
    "/parked",
    "/dead-letters",
)
TIMES = 15
FILES = re.compile(r'(?:src|href)="([^"]*/static/[^"]*)"')
COLUMNS = ("page", "status", "bytes", "bytes with its files", "median ms", "highest ms")


def main(url: str, paths: tuple[str, ...]) -> None:
    """Sign in as an administrator, and measure the pages."""
    with httpx.Client(base_url=url, timeout=120, trust_env=False) as client:
        client.post("/console/sign-in", data={"role": "admin"})
        print_table("Pages of the console", COLUMNS, measured(client, paths))


def measured(client: httpx.Client, paths: tuple[str, ...]) -> Iterator[tuple[object, ...]]:
    """One row for each page."""
    for path in paths:
        first = client.get(f"/console{path}")
        files = sum(len(client.get(file).content) for file in set(FILES.findall(first.text)))
        took_ms = sorted(_took_ms(client, path) for _ in range(TIMES))
        yield (
            path,
            first.status_code,
            len(first.content),
            len(first.content) + files,
            round(statistics.median(took_ms)),
            round(took_ms[-1]),
        )


def _took_ms(client: httpx.Client, path: str) -> float:
    started_s = time.perf_counter()
    client.get(f"/console{path}")
    return (time.perf_counter() - started_s) * 1000


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m tools.reference.page_weights URL [PATH…]")
    main(sys.argv[1].rstrip("/"), tuple(sys.argv[2:]) or PATHS)
