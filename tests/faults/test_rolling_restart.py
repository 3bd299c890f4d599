"""Two workers are restarted in turn under load, as a deployment does it."""

import pytest

from processors.settings import Settings
from tests.faults.asking import Progress, all_have_one_outcome
from tests.faults.load import Flow
from tests.faults.reading import read_all
from tests.faults.running import Process, StartWorker
from tests.support.scraping import Scraped
from tools.broker import free_port

MAX_PAUSE_S = 60  # on a machine that does much else; the test prints what it was


def longest_pause_s(settings: Settings) -> float:
    """The longest time from a request's append to its outcome's, by the broker's clock. A key names one request."""
    topics = settings.topics

    def appended_ms(*names: str) -> dict[bytes | None, int]:
        return {
            record.key: record.appended_at_ms
            for name in names
            for record in read_all(settings.bootstrap_servers, name, settings.partitions)
        }

    outcomes = appended_ms(topics.batches.name, topics.unresolved.name, topics.requests_dlq.name)
    requests = appended_ms(topics.requests.name)
    assert outcomes.keys() == requests.keys()
    return max(outcomes[key] - appended for key, appended in requests.items()) / 1000


@pytest.mark.thorough
def test_restarted_in_turn_two_workers_lose_and_double_nothing(
    settings: Settings, start_worker: StartWorker
) -> None:
    def started(slot: str) -> tuple[Process, Scraped]:
        address = f"127.0.0.1:{free_port()}"
        return start_worker(slot, worker_metrics_address=address), Scraped(address)

    workers = [started(slot) for slot in ("one", "two")]
    for _, scraped in workers:
        scraped.wait_until_ready()
    with Progress(settings) as progress, Flow(settings, 8_000, 400):
        for worker, scraped in workers:
            progress.wait_for_more(500, 60)
            assert worker.stop(30) == 0
            worker.start()
            scraped.wait_until_ready()
        progress.wait_for_more(500, 60)
    with Progress(settings) as progress:
        progress.wait_for_the_end(*(worker for worker, _ in workers))
    all_have_one_outcome(settings)
    pause_s = longest_pause_s(settings)
    print(f"longest pause of a request: {pause_s:.3f} s")  # noqa: T201
    assert pause_s < MAX_PAUSE_S
