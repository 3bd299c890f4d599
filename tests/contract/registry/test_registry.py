"""The codec of an installation with a registry: its ids, what is asked of it, and what when it is away."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from processors.registry.id_lookup import CALLS_A_MINUTE, KEPT_S, IdLookup
from processors.registry.registry_codec import WAIT_S, codec_for
from processors.settings import Settings
from schemas.codec import FRAME, Codec
from schemas.errors import Misconfigured, UnknownSchema, Unreachable
from schemas.events import CJAssessmentRequested
from schemas.released_schemas import released
from schemas.subjects import subject_versions
from tests.contract.registry.small_registry import SmallRegistry
from tests.contract.schemas.samples import SAMPLES
from tests.faults.running import Process
from tests.support.builders import prompt_uploaded, requested
from tests.support.http_server import serving
from tests.support.run_command import told
from tests.support.until import until
from tools.broker import free_port

PASSWORD = "s3cret"
ALL = len(released())
BARE = FRAME.size


@pytest.fixture
def registry() -> SmallRegistry:
    return SmallRegistry()


@pytest.fixture
def settings(registry: SmallRegistry) -> Iterator[Settings]:
    with serving(registry.app) as url:
        yield Settings(topic_prefix="t1-", schema_registry_url=url)


def id_of(payload: bytes) -> int:
    schema_id: int = FRAME.unpack_from(payload)[1]
    return schema_id


def under(schema_id: int, payload: bytes) -> bytes:
    """The same body under another id."""
    return FRAME.pack(0, schema_id) + payload[BARE:]


def test_without_a_registry_the_ids_are_the_fixed_ones() -> None:
    assert codec_for(Settings()).encode(requested()) == Codec().encode(requested())


def test_every_released_schema_is_registered_once_and_new_records_bear_its_id(
    registry: SmallRegistry, settings: Settings
) -> None:
    registry.register("somebody-else", '"string"')
    for _ in range(2):
        codec = codec_for(settings)
    assert (
        registry.calls("POST /subjects/t1-") == (3 + 1) * ALL
    )  # look, register, look; later look alone
    by_subject = {(one.subject, one.form): one for one in subject_versions(settings.topics)}
    assert len(registry.schemas) == len(by_subject) + 1 == ALL + 1
    for event in SAMPLES.values():
        payload = codec.encode(event)
        said = orjson.loads(registry.schemas[id_of(payload) - 1])
        assert said["name"] == type(event).__name__
        assert codec.decode(payload) == event


def test_what_bears_a_fixed_id_stays_readable(settings: Settings) -> None:
    codec = codec_for(settings)
    for event in SAMPLES.values():
        assert codec.decode(Codec().encode(event)) == event


def test_where_registering_is_refused_the_schemas_that_are_there_are_used(
    registry: SmallRegistry, settings: Settings
) -> None:
    for one in subject_versions(settings.topics):
        registry.register(one.subject, one.schema)
    registry.is_read_only = True
    assert id_of(codec_for(settings).encode(requested())) in range(1, ALL + 1)


def test_a_schema_that_is_neither_there_nor_taken_is_named(
    registry: SmallRegistry, settings: Settings
) -> None:
    registry.is_read_only = True
    with pytest.raises(Misconfigured, match=r"^SCHEMA_REGISTRY_URL: .*version 1 of t1-.*HTTP 403"):
        codec_for(settings)


def test_an_id_of_another_schema_than_the_one_asked_for_is_not_taken(
    registry: SmallRegistry, settings: Settings
) -> None:
    registry.instead = '"string"'
    with pytest.raises(Misconfigured, match="does not take"):
        codec_for(settings)


def test_a_schema_of_other_words_under_an_id_of_its_own_is_the_same_schema(
    registry: SmallRegistry, settings: Settings
) -> None:
    codec = codec_for(settings)
    (second,) = (one for one in released() if (one.name, one.version) == (REQUEST, 2))
    theirs = registry.register("java", orjson.dumps({**second.schema, "doc": "-"}).decode())
    payload = under(theirs, codec.encode(requested(due_at_ms=7)))
    for _ in range(3):
        assert codec.decode(payload) == requested(due_at_ms=7)
    assert codec.version_of(CJAssessmentRequested, payload) == 2
    assert registry.calls("GET /schemas/ids/") == 1


REQUEST = "CJAssessmentRequested"


def test_a_schema_that_is_not_released_and_one_that_is_not_there_are_unknown(
    registry: SmallRegistry, settings: Settings
) -> None:
    codec = codec_for(settings)
    stranger = registry.register("java", '{"type": "record", "name": "Other", "fields": []}')
    for schema_id in (stranger, 4711):
        for _ in range(3):
            with pytest.raises(UnknownSchema, match=str(schema_id)):
                codec.decode(under(schema_id, codec.encode(requested())))
    assert registry.calls("GET /schemas/ids/") == 2


def test_damaged_records_do_not_cause_a_call_each(
    registry: SmallRegistry, settings: Settings
) -> None:
    codec = codec_for(settings)
    payload = codec.encode(requested())
    for number in range(200):
        with pytest.raises(UnknownSchema):
            codec.decode(under(1_000_000 + number, payload))
    assert registry.calls("GET /schemas/ids/") == CALLS_A_MINUTE


def test_a_registry_that_goes_away_later_stops_nothing_that_is_known(
    registry: SmallRegistry, settings: Settings
) -> None:
    codec = codec_for(settings)
    registry.is_away = True
    for event in SAMPLES.values():
        assert codec.decode(codec.encode(event)) == event
    for _ in range(3):
        with pytest.raises(UnknownSchema):
            codec.decode(under(4711, codec.encode(requested())))
    assert registry.calls("GET /schemas/ids/") == 1


def test_a_registry_that_is_away_at_the_start_is_waited_for_and_then_given_up(
    registry: SmallRegistry, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    registry.is_away = True
    with pytest.raises(Unreachable, match="the schema registry"):
        codec_for(settings, wait_s=0.1)
    assert [record.message for record in caplog.records].count(WAITING) == 1


WAITING = "waiting for the schema registry"


def test_who_waits_stops_when_nothing_is_to_go_on() -> None:
    nobody = Settings(schema_registry_url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(Unreachable, match="ConnectError"):
        codec_for(nobody, wait_s=60, goes_on=lambda: False)


def test_a_registry_that_comes_while_it_is_waited_for_is_used(
    registry: SmallRegistry, settings: Settings
) -> None:
    registry.is_away = True

    def comes() -> bool:
        registry.is_away = False
        return True

    assert id_of(codec_for(settings, goes_on=comes).encode(prompt_uploaded())) <= ALL


def test_user_and_password_are_sent_and_never_told(
    registry: SmallRegistry, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    url = settings.schema_registry_url.replace("//", f"//user:{PASSWORD}@")
    named = Settings(schema_registry_url=url)
    codec_for(named)
    assert registry.authorizations == {"Basic dXNlcjpzM2NyZXQ="}
    registry.is_away = True
    with pytest.raises(Unreachable) as told:
        codec_for(named, wait_s=0)
    assert PASSWORD not in f"{caplog.text}{told.value}{told.value.__cause__}"


@pytest.fixture
def nobody_there(tmp_path: Path) -> Settings:
    """An installation whose registry is away."""
    url = f"http://127.0.0.1:{free_port()}"
    return Settings(schema_registry_url=url, data_dir=tmp_path)


def test_a_command_waits_a_while_and_exits_with_4(nobody_there: Settings, tmp_path: Path) -> None:
    given = tmp_path / "request.json"
    essays = [{"essay_id": f"e-{n}", "text_storage_id": "t"} for n in range(2)]
    asked = {"batch_id": "b", "course_code": "ENG5", "language": "en", "essays": essays}
    given.write_bytes(orjson.dumps(asked))
    exit_code, _, said = told(nobody_there, "requests", "send", str(given))
    assert exit_code == 4
    assert said.splitlines() == [WAITING, f"cjstream: waited {WAIT_S:g} s for the schema registry"]


@pytest.mark.parametrize("command", ["worker", "api"])
def test_what_runs_for_long_can_be_stopped_while_it_waits(
    nobody_there: Settings, tmp_path: Path, command: str
) -> None:
    own = nobody_there.model_copy(update={"environment": "development", "api_port": free_port()})
    waiting = Process(own, tmp_path / "said.log", ("-m", "tools.cli", command))
    waiting.start()
    try:
        until(lambda: waiting.said(WAITING) or not waiting.is_alive, seconds=150)
        assert waiting.stop() == 0, waiting.last_words()
    finally:
        if waiting.is_alive:
            waiting.kill()


class Clocked:
    """Schemas by id under a clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.calls: list[int] = []
        self.schemas: dict[int, str] = {}

    def schema(self, schema_id: int) -> str | None:
        self.calls.append(schema_id)
        return self.schemas.get(schema_id)


def test_an_id_that_is_registered_later_is_found_a_minute_later() -> None:
    clocked = Clocked()
    unknown = IdLookup(clocked.schema, lambda: clocked.now_s)
    assert unknown.form_of(1) is None
    clocked.schemas[1] = '"string"'
    clocked.now_s = KEPT_S - 1
    assert unknown.form_of(1) is None
    clocked.now_s = KEPT_S
    assert unknown.form_of(1) == '"string"'
    assert clocked.calls == [1, 1]


def test_after_a_storm_of_unknown_ids_others_are_asked_for_again() -> None:
    clocked = Clocked()
    unknown = IdLookup(clocked.schema, lambda: clocked.now_s)
    told: list[Any] = [unknown.form_of(number) for number in range(50)]
    assert (len(clocked.calls), set(told)) == (CALLS_A_MINUTE, {None})
    clocked.schemas[99] = '"string"'
    assert unknown.form_of(99) is None
    clocked.now_s = KEPT_S
    assert unknown.form_of(99) == '"string"'
