"""The catalogue's topics on a cluster: created, and changed where their settings are of an earlier release."""

import pytest

from processors.kafka.clients import admin_client
from processors.kafka.records import Record
from processors.kafka.topic_admin import create_topics, topic_states
from processors.settings import Settings
from schemas.errors import Unreachable
from schemas.topics import MIB
from tests.faults.load import append, assignment, send
from tests.faults.running import StartWorker
from tests.support.builders import requested
from tests.support.installations import allow_compressed_batches
from tests.support.raw_batches import append_raw
from tests.support.run_command import run_json
from tests.support.until import until
from tools.tail import tail_batches

REFUSED = "error 10"  # MESSAGE_TOO_LARGE


def test_a_replication_factor_above_the_number_of_brokers_is_a_one_line_error(
    settings: Settings,
) -> None:
    elsewhere = settings.model_copy(update={"topic_prefix": f"{settings.topic_prefix}more-"})
    admin, requests = admin_client(elsewhere), elsewhere.topics.requests
    with pytest.raises(Unreachable, match=rf"{requests.name} was not created: .*fewer brokers"):
        create_topics(admin, elsewhere, [requests], 3)
    assert not any(state.topic_id for state in topic_states(admin, elsewhere))


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_no_topic_takes_a_record_that_is_too_large_after_decompression(
    settings: Settings, codec: str
) -> None:
    for topic in settings.topics.all:
        huge = Record(topic.name, 0, b"k", bytes(3 * MIB))
        with pytest.raises(AssertionError, match=REFUSED):
            append_raw(settings.bootstrap_servers, huge, codec=codec)
        fits = Record(topic.name, 0, b"k", bytes(MIB - 1000))
        assert append_raw(settings.bootstrap_servers, fits, codec=codec).offset == 0


@pytest.mark.thorough
def test_topics_apply_gives_existing_topics_what_is_new_in_their_settings(
    settings: Settings, start_worker: StartWorker
) -> None:
    allow_compressed_batches(settings)
    name = settings.topics.requests.name
    outdated = "compression.type is producer, should be uncompressed"
    code, listed, _ = run_json(settings, "topics", "list")
    assert (code, [one["outdated"] for one in listed["topics"]]) == (
        3,
        [[outdated]] * len(settings.topics.all),
    )
    code, document, _ = run_json(settings, "doctor")
    [check] = [one for one in document["checks"] if "of this release" in one["name"]]
    assert (code, check["ok"]) == (3, False)
    assert f"{name}: {outdated}" in check["detail"]
    assert check["detail"].endswith("run `cjstream topics apply`")

    start_worker()  # a rolling upgrade does not wait for the command
    append(settings, [Record(name, 0, b"k", b"damaged")])
    send(settings, *assignment("a1"), requested())
    until(lambda: len(list(tail_batches(settings, every_outcome=True))) == 2, seconds=60)
    code, applied, _ = run_json(settings, "topics", "apply")
    assert (code, {tuple(one["outdated"]) for one in applied["topics"]}) == (0, {()})
    with pytest.raises(AssertionError, match=REFUSED):
        append_raw(settings.bootstrap_servers, Record(name, 0, b"k", bytes(3 * MIB)))
    assert run_json(settings, "topics", "list")[0] == 0
