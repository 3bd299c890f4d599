"""The codec of an installation with a schema registry: its ids, the requests to it, and a registry that is down."""

import logging
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from pydantic import SecretStr

from processors.registry.id_lookup import CACHE_S, CALLS_A_MINUTE, IdLookup
from processors.registry.registry_codec import WAIT_S, codec_for
from processors.registry_security import RegistrySecurity
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
from tests.support.certificates import Authority
from tests.support.http_server import Tls, serving
from tests.support.run_command import run_process
from tests.support.until import until
from tools.broker import free_port

PASSWORD = "s3cret"
ALL = len(released())
FRAME_BYTES = FRAME.size


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


def with_id(schema_id: int, payload: bytes) -> bytes:
    """The same body with another schema id."""
    return FRAME.pack(0, schema_id) + payload[FRAME_BYTES:]


def test_without_a_registry_the_ids_are_the_fixed_ones() -> None:
    assert codec_for(Settings()).encode(requested()) == Codec().encode(requested())


def test_every_released_schema_is_registered_once_and_new_records_carry_its_id(
    registry: SmallRegistry, settings: Settings
) -> None:
    registry.register("somebody-else", '"string"')
    for _ in range(2):
        codec = codec_for(settings)
    # the first codec looks up, registers and looks up again; the second one only looks up
    assert registry.calls("POST /subjects/t1-") == (3 + 1) * ALL
    by_subject = {
        (version.subject, version.form): version for version in subject_versions(settings.topics)
    }
    assert len(registry.schemas) == len(by_subject) + 1 == ALL + 1
    for event in SAMPLES.values():
        payload = codec.encode(event)
        schema = orjson.loads(registry.schemas[id_of(payload) - 1])
        assert schema["name"] == type(event).__name__
        assert codec.decode(payload) == event


def test_records_with_a_fixed_id_stay_readable(settings: Settings) -> None:
    codec = codec_for(settings)
    for event in SAMPLES.values():
        assert codec.decode(Codec().encode(event)) == event


def test_a_read_only_registry_is_used_if_it_has_every_schema(
    registry: SmallRegistry, settings: Settings
) -> None:
    for version in subject_versions(settings.topics):
        registry.register(version.subject, version.schema)
    registry.is_read_only = True
    assert id_of(codec_for(settings).encode(requested())) in range(1, ALL + 1)


def test_the_error_names_the_first_schema_that_a_read_only_registry_lacks(
    registry: SmallRegistry, settings: Settings
) -> None:
    registry.is_read_only = True
    with pytest.raises(Misconfigured, match=r"^SCHEMA_REGISTRY_URL: .*version 1 of t1-.*HTTP 403"):
        codec_for(settings)


def test_a_looked_up_id_of_another_schema_is_refused(
    registry: SmallRegistry, settings: Settings
) -> None:
    registry.lookup_schema = '"string"'
    with pytest.raises(Misconfigured, match="does not accept"):
        codec_for(settings)


def test_a_schema_that_differs_only_in_its_doc_is_the_same_schema(
    registry: SmallRegistry, settings: Settings
) -> None:
    codec = codec_for(settings)
    (second,) = (schema for schema in released() if (schema.name, schema.version) == (REQUEST, 2))
    their_id = registry.register("java", orjson.dumps({**second.schema, "doc": "-"}).decode())
    payload = with_id(their_id, codec.encode(requested(due_at_ms=1_900_000_000_007)))
    for _ in range(3):
        assert codec.decode(payload) == requested(due_at_ms=1_900_000_000_007)
    assert codec.version_of(CJAssessmentRequested, payload) == 2
    assert registry.calls("GET /schemas/ids/") == 1


REQUEST = "CJAssessmentRequested"


def test_ids_of_unreleased_and_of_missing_schemas_are_unknown(
    registry: SmallRegistry, settings: Settings
) -> None:
    codec = codec_for(settings)
    unreleased = registry.register("java", '{"type": "record", "name": "Other", "fields": []}')
    for schema_id in (unreleased, 4711):
        for _ in range(3):
            with pytest.raises(UnknownSchema, match=str(schema_id)):
                codec.decode(with_id(schema_id, codec.encode(requested())))
    assert registry.calls("GET /schemas/ids/") == 2


def test_damaged_records_do_not_cause_one_call_each(
    registry: SmallRegistry, settings: Settings
) -> None:
    codec = codec_for(settings)
    payload = codec.encode(requested())
    for number in range(200):
        with pytest.raises(UnknownSchema):
            codec.decode(with_id(1_000_000 + number, payload))
    assert registry.calls("GET /schemas/ids/") == CALLS_A_MINUTE


def test_known_schemas_work_while_the_registry_is_down(
    registry: SmallRegistry, settings: Settings
) -> None:
    codec = codec_for(settings)
    registry.is_down = True
    for event in SAMPLES.values():
        assert codec.decode(codec.encode(event)) == event
    for _ in range(3):
        with pytest.raises(UnknownSchema):
            codec.decode(with_id(4711, codec.encode(requested())))
    assert registry.calls("GET /schemas/ids/") == 1


def test_codec_for_waits_for_a_registry_that_is_down_and_then_gives_up(
    registry: SmallRegistry, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    registry.is_down = True
    with pytest.raises(Unreachable, match="the schema registry"):
        codec_for(settings, wait_s=0.1)
    assert [record.message for record in caplog.records].count(WAITING) == 1


WAITING = "waiting for the schema registry"


def test_codec_for_stops_waiting_when_it_may_not_wait() -> None:
    unreachable = Settings(schema_registry_url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(Unreachable, match="ConnectError"):
        codec_for(unreachable, wait_s=60, may_wait=lambda: False)


def test_a_registry_that_starts_during_the_wait_is_used(
    registry: SmallRegistry, settings: Settings
) -> None:
    registry.is_down = True

    def starts() -> bool:
        registry.is_down = False
        return True

    assert id_of(codec_for(settings, may_wait=starts).encode(prompt_uploaded())) <= ALL


def test_user_and_password_are_sent_and_never_logged(
    registry: SmallRegistry, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    url = settings.schema_registry_url.replace("//", f"//user:{PASSWORD}@")
    with_password = Settings(schema_registry_url=url)
    codec_for(with_password)
    assert registry.authorizations == {"Basic dXNlcjpzM2NyZXQ="}
    registry.is_down = True
    with pytest.raises(Unreachable) as raised:
        codec_for(with_password, wait_s=0)
    assert PASSWORD not in f"{caplog.text}{raised.value}{raised.value.__cause__}"


def test_a_registry_over_tls_gets_user_and_password_and_the_clients_certificate(
    registry: SmallRegistry, tmp_path: Path
) -> None:
    registry.only_authorization = "Basic dXNlcjpzM2NyZXQ="
    authority = Authority(tmp_path)
    certificate, key = authority.issue("client", "of the key")
    right = RegistrySecurity(
        username="user",
        password=SecretStr(PASSWORD),
        ssl_ca_file=authority.file,
        ssl_certificate_file=certificate,
        ssl_key_file=key,
        ssl_key_password=SecretStr("of the key"),
    )
    login = RegistrySecurity(username="user", password=SecretStr(PASSWORD))
    wrong = {
        "TLS with the schema registry failed: self-signed certificate": login,
        "is SCHEMA_REGISTRY_USERNAME and its password right": right.model_copy(
            update={"password": SecretStr("s3cret, but wrong")}
        ),
    }
    with serving(registry.app, Tls(*authority.issue("registry"), authority.file)) as url:
        settings = Settings(schema_registry_url=url, registry=right)
        codec = codec_for(settings)
        assert id_of(codec.encode(prompt_uploaded())) <= ALL
        for cause, security in wrong.items():
            with pytest.raises(Misconfigured, match=cause) as refusal:
                codec_for(settings.model_copy(update={"registry": security}))
            assert "s3cret" not in str(refusal.value)
        without_certificate = right.model_copy(
            update={"ssl_certificate_file": None, "ssl_key_file": None}
        )
        with pytest.raises(Unreachable):
            codec_for(settings.model_copy(update={"registry": without_certificate}), wait_s=0)


def test_a_registry_that_refuses_to_answer_proves_no_id_unknown(
    registry: SmallRegistry, settings: Settings
) -> None:
    codec = codec_for(settings)
    registry.only_authorization = "somebody else"
    with pytest.raises(UnknownSchema) as raised:
        codec.decode(with_id(ALL + 1, codec.encode(requested())))
    assert raised.value.may_be_later


@pytest.fixture
def without_registry(tmp_path: Path) -> Settings:
    """An installation whose registry is down."""
    url = f"http://127.0.0.1:{free_port()}"
    return Settings(schema_registry_url=url, data_dir=tmp_path)


@pytest.mark.thorough
def test_a_command_waits_a_while_and_exits_with_4(
    without_registry: Settings, tmp_path: Path
) -> None:
    request_file = tmp_path / "request.json"
    essays = [{"essay_id": f"e-{n}", "text_storage_id": f"t-{n}"} for n in range(2)]
    request = {"batch_id": "b", "course_code": "ENG5", "language": "en", "essays": essays}
    request_file.write_bytes(orjson.dumps(request))
    exit_code, _, stderr = run_process(without_registry, "requests", "send", str(request_file))
    assert exit_code == 4
    assert stderr.splitlines() == [
        WAITING,
        f"cjstream: waited {WAIT_S:g} s for the schema registry",
    ]


@pytest.mark.parametrize("command", ["worker", "api"])
def test_a_worker_or_api_can_be_stopped_while_it_waits(
    without_registry: Settings, tmp_path: Path, command: str
) -> None:
    settings = without_registry.model_copy(
        update={"environment": "development", "api_port": free_port()}
    )
    waiting = Process(settings, tmp_path / "said.log", ("-m", "tools", command))
    waiting.start()
    try:
        until(lambda: waiting.log_count(WAITING) or not waiting.is_alive, seconds=150)
        assert waiting.stop() == 0, waiting.log_tail()
    finally:
        if waiting.is_alive:
            waiting.kill()


class Clocked:
    """Schemas by id, and a clock that the test sets."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.calls: list[int] = []
        self.schemas: dict[int, str] = {}

    def schema(self, schema_id: int) -> str | None:
        self.calls.append(schema_id)
        return self.schemas.get(schema_id)


def test_an_id_that_is_registered_later_is_found_a_minute_later() -> None:
    clocked = Clocked()
    lookup = IdLookup(clocked.schema, lambda: clocked.now_s)
    assert lookup.form_of(1) is None
    clocked.schemas[1] = '"string"'
    clocked.now_s = CACHE_S - 1
    assert lookup.form_of(1) is None
    clocked.now_s = CACHE_S
    assert lookup.form_of(1) == '"string"'
    assert clocked.calls == [1, 1]


def test_ids_are_looked_up_again_a_minute_after_too_many_unknown_ones() -> None:
    clocked = Clocked()
    lookup = IdLookup(clocked.schema, lambda: clocked.now_s)
    assert {lookup.form_of(number) for number in range(CALLS_A_MINUTE)} == {None}
    clocked.schemas[99] = '"string"'
    for number in (*range(CALLS_A_MINUTE, 50), 99):
        with pytest.raises(Unreachable, match="too many unknown schema ids"):
            lookup.form_of(number)
    assert len(clocked.calls) == CALLS_A_MINUTE
    assert lookup.form_of(0) is None  # cached
    clocked.now_s = CACHE_S
    assert lookup.form_of(99) == '"string"'
