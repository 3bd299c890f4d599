"""What `doctor` shows for lag, open transactions, dead letters, parked requests and rebalances."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer

from processors.kafka.broker_features import NO_CONSUMER_PROTOCOL
from processors.kafka.clients import admin_client, plain_producer
from processors.kafka.consumer_groups import set_committed_offsets
from processors.kafka.records import Record
from processors.monitoring.worker_status import StatusFile
from processors.settings import Settings
from schemas.coordinates import Coordinates
from schemas.dead_letters import dead_letter_headers, marker_headers
from schemas.errors import Malformed
from schemas.events import ParkedRequest
from tests.faults.asking import Progress
from tests.faults.load import CODEC, append, assignment, record_of, send, send_in_transaction
from tests.faults.running import StartWorker
from tests.support.builders import prompt_uploaded, requested
from tests.support.installations import configure_topic, installation
from tests.support.judged_batches import append_batches
from tests.support.judging_in_memory import opened
from tests.support.run_command import run_json, run_text
from tests.support.until import until
from tools.broker import Broker
from tools.doctor import examine
from tools.doctor_check import Check
from tools.doctor_judging import numerics_check


def checks_by_name(settings: Settings) -> dict[str, Check]:
    """The checks by name, without the topic prefix of the installation."""
    return {check.name.replace(settings.topic_prefix, ""): check for check in examine(settings)}


@pytest.mark.thorough
def test_an_idle_worker_is_shown_without_lag_and_with_its_last_rebalance(
    settings: Settings, start_worker: StartWorker
) -> None:
    send(settings, *assignment("a1"))
    send_in_transaction(settings, requested(assignment_id="a1"))
    start_worker("one")
    with Progress(settings) as progress:
        until(lambda: progress.total() == 1)
    checks = until(lambda: checks_when_settled(settings))
    assert all(check.ok for check in checks.values())
    # the marker of the request's transaction does not count
    assert "1 member, 0 records behind" in checks["batch preparation"].detail
    assert checks["lag by request partition"].detail == "none"
    assert checks["open transactions"].detail == "none"
    assert checks["oldest parked request"].detail == "none"
    rebalanced = checks["last rebalance of worker-one"].detail
    assert rebalanced.endswith("since its start; request partitions: 0, 1, 2, 3")
    assert run_json(settings, "doctor")[0] == 0


def checks_when_settled(settings: Settings) -> dict[str, Check]:
    """The checks, once the fold's group has a member and no transaction is open."""
    checks = checks_by_name(settings)
    ready = "1 member, 0 records behind" in checks["fold"].detail
    return checks if ready and checks["open transactions"].detail == "none" else {}


def test_lag_open_transactions_parked_requests_and_dead_letters_are_shown(
    settings: Settings,
) -> None:
    topics = settings.topics
    requests = [record_of(settings, requested(batch_id="one")) for _ in range(3)]
    (at, *_) = append(settings, requests)
    parked_at = Coordinates(topics.requests.name, 1, 5)
    waiting = ParkedRequest(
        request_at=parked_at,
        scope_key="assignment:late",
        missing=("student_prompt",),
        appended_at_ms=1_000,
        deadline_at_ms=901_000,
        request=CODEC.encode(requested()),
    )
    letter = dead_letter_headers(parked_at, 1, Malformed("x"))
    append(
        settings,
        [
            Record(topics.parked.name, 1, str(parked_at).encode(), CODEC.encode(waiting)),
            Record(topics.requests_dlq.name, 1, b"k", b"?", letter),
            Record(
                topics.requests_dlq.name, 1, b"k", None, marker_headers(parked_at, "superseded")
            ),
        ],
    )
    upload = record_of(settings, prompt_uploaded())
    producer: Producer = plain_producer(settings, **{"transactional.id": settings.topic_prefix})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(upload.topic, upload.value, upload.key)
    producer.flush(30)

    checks = checks_by_name(settings)
    assert not checks["batch preparation"].ok  # lag of three, and the group has no member
    assert checks["lag by request partition"].detail.startswith(f"{at.partition}: 3 records, ")
    assert checks["open transactions"].ok  # only open for a moment
    assert checks["open transactions"].detail.startswith(f"{upload.topic}/")
    parked = checks["oldest parked request"]
    assert not parked.ok
    assert f"{parked_at} has waited" in parked.detail
    assert "for assignment:late, until 1970-01-01T00:15:01Z; 1 parked in total" in parked.detail
    assert checks["dead letters in cj.requests.dlq.v1"].detail == "1 in the last day, 0.0 per hour"
    assert checks["dead letters in assessment.uploads.dlq.v1"].detail.startswith("0 in the last")
    producer.abort_transaction(30)


@dataclass(frozen=True)
class BadState:
    """A state that must not be ok: how it comes about, the check that names it, and what the check says."""

    arrange: Callable[[Settings], object]
    check: str
    says: tuple[str, ...]


def delete_a_topic(settings: Settings) -> None:
    admin, name = admin_client(settings), settings.topics.batches.name
    admin.delete_topics([name])[name].result(30)
    until(lambda: name not in admin.list_topics(timeout=10).topics)


def send_a_request(settings: Settings) -> None:
    send(settings, requested())


def run_a_worker_that_is_no_member(settings: Settings) -> StatusFile:
    send(settings, requested(), prompt_uploaded())
    status = StatusFile(settings.worker_dir)
    status.started(1_000)
    return status


def join_the_group_as_a_stranger(settings: Settings) -> Consumer:
    stranger = Consumer(
        {
            "bootstrap.servers": settings.bootstrap_servers,
            "group.id": settings.prep_group,
            "client.id": "console",
        }
    )
    stranger.subscribe([settings.topics.requests.name])
    until(lambda: stranger.poll(0.1) or stranger.assignment())
    return stranger


def put_a_file_in_the_place_of_the_data(settings: Settings) -> None:
    settings.data_dir.rmdir()
    settings.data_dir.write_text("")


def let_batches_wait_for_a_judge(settings: Settings) -> None:
    append_batches(settings, 3)
    batches = settings.partitions_of(settings.topics.batches)
    set_committed_offsets(settings, settings.judge_group, dict.fromkeys(batches, 0))


def leave_a_run_open(settings: Settings) -> None:
    judging = settings.topics.judging
    append(settings, [Record(judging.name, 1, b"run-1", CODEC.encode(opened()))])
    starts = dict.fromkeys(settings.partitions_of(judging), 0)
    set_committed_offsets(settings, settings.judge_group, starts)


IDLE = "it ends by itself after 30 s; if it does not, it hangs: kill it"
BAD_STATES = {
    "a topic is missing": BadState(
        delete_a_topic, "topics exist", ("cj.batches.v1", "`cjstream topics apply`")
    ),
    "a topic is configured otherwise": BadState(
        lambda settings: configure_topic(
            settings, settings.topics.batches.name, cleanup_policy="compact"
        ),
        "topics are as the catalogue says",
        ("cj.batches.v1", "cleanup.policy is compact, should be delete"),
    ),
    "no worker runs": BadState(
        send_a_request,
        "batch preparation",
        ("0 members, 1 record behind", "no worker runs; start one with `cjstream worker`"),
    ),
    "a worker runs, but is no member": BadState(
        run_a_worker_that_is_no_member,
        "batch preparation",
        ("0 members", "worker-default (process ", "runs, but is no member of the group", IDLE),
    ),
    "a worker's fold is no member": BadState(
        run_a_worker_that_is_no_member, "fold", ("runs, but is no member of the group", IDLE)
    ),
    "a worker runs, but owns nothing": BadState(
        run_a_worker_that_is_no_member,
        "last rebalance of worker-default",
        ("runs, but owns no request partition, although requests wait in", IDLE),
    ),
    "a stranger is in the group": BadState(
        join_the_group_as_a_stranger,
        "batch preparation",
        ("a member, but no worker: console at ", "it takes records away, stop it"),
    ),
    "batches wait, and no judge runs": BadState(
        let_batches_wait_for_a_judge,
        "judging",
        ("0 judges, 3 records behind", "start one with `cjstream judge`"),
    ),
    "a run is past its deadline": BadState(
        leave_a_run_open,
        "runs being judged",
        ("the oldest is run-1", "in doubt: 0.000000 USD", "1 are past their deadline, run-1 by"),
    ),
    "the data folder is no folder": BadState(
        put_a_file_in_the_place_of_the_data, "data folder is writable", ("File exists",)
    ),
}


@pytest.mark.parametrize("state", BAD_STATES.values(), ids=BAD_STATES)
def test_a_bad_state_is_named_with_its_remedy(settings: Settings, state: BadState) -> None:
    settings = settings.model_copy(update={"data_dir": settings.data_dir / "data"})
    settings.data_dir.mkdir()
    kept = state.arrange(settings)
    exit_code, report, _ = run_json(settings, "doctor")
    if isinstance(kept, Consumer):
        kept.close()
    checks = {check["name"].replace(settings.topic_prefix, ""): check for check in report["checks"]}
    assert exit_code == 3
    assert not checks[state.check]["ok"]
    for words in state.says:
        assert words in checks[state.check]["detail"]
    advised = "start one" in str(report)
    assert not (advised and isinstance(kept, StatusFile)), "it runs already"


def test_a_judge_that_is_not_known_is_named(settings: Settings) -> None:
    checks = checks_by_name(settings.model_copy(update={"judge": "nobody/none"}))
    assert not checks["models and prices"].ok
    assert "there is no nobody/none" in checks["models and prices"].detail
    assert checks["scores are computed as elsewhere"].ok
    assert (checks["judging"].detail, checks["runs being judged"].detail) == (
        "no judge has run",
        "none",
    )


def test_numerics_that_differ_are_named_with_their_remedy() -> None:
    assert numerics_check(9e-7).ok
    assert not numerics_check(2e-6).ok
    assert "install the locked numpy and scipy" in numerics_check(2e-6).detail


def test_the_content_store_is_written_and_read_and_its_credentials_are_not_shown(
    settings: Settings, tmp_path: Path
) -> None:
    assert checks_by_name(settings)["content store"].ok
    assert not [path for path in (settings.data_dir / "content").rglob("*") if path.is_file()]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "sha256").touch()  # nothing can be written
    for url, words in {
        "s3://user:s3cret@nobody/texts?token=s3cret#s3cret": "s3://nobody/texts: ",
        (tmp_path / "full").as_uri(): "/full: content store: cannot",
    }.items():
        check = checks_by_name(settings.model_copy(update={"content_url": url}))["content store"]
        assert not check.ok
        assert words in check.detail
        assert "s3cret" not in check.detail


def test_no_broker_ends_with_4_and_says_where_it_should_be(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"bootstrap_servers": "127.0.0.1:1"})
    exit_code, out, message = run_text(nowhere, "doctor")
    assert (exit_code, out) == (4, "")
    assert "127.0.0.1:1" in message


@pytest.mark.thorough
def test_a_worker_without_partitions_is_no_bad_state_while_another_owns_them(
    settings: Settings, start_worker: StartWorker
) -> None:
    send(settings, *assignment("a1"), requested(assignment_id="a1"))
    worker = start_worker("one")
    spare = StatusFile(settings.model_copy(update={"slot": "spare"}).worker_dir)
    spare.started(1_000)
    with Progress(settings) as progress:
        until(lambda: progress.total() == 1)
    worker.freeze()
    send(settings, requested(assignment_id="a1"))
    checks = checks_by_name(settings)
    assert checks["last rebalance of worker-spare"].ok
    assert checks["batch preparation"].detail.startswith("1 member, 1 record behind")


def test_a_broker_without_the_group_protocol_is_named(
    classic_broker: Broker, tmp_path: Path
) -> None:
    settings = installation(classic_broker, tmp_path)
    release = checks_by_name(settings)["broker release"]
    assert release.ok
    assert release.detail.startswith("Kafka 4.0 or later; group protocol consumer (KIP-848) is not")
    settings = settings.model_copy(update={"group_protocol": "consumer"})
    release = checks_by_name(settings)["broker release"]
    assert (release.ok, release.detail) == (False, NO_CONSUMER_PROTOCOL)
