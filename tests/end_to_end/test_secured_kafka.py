"""Every client on a cluster with TLS and sign-in: commands, worker, API's upload log, audit; and what refusals say."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Any
from uuid import uuid4

import jwt
import orjson
import pytest
from cryptography.x509 import DNSName
from fastapi import FastAPI, Request
from pydantic import SecretStr

from processors.kafka.records import Record
from processors.kafka.rights import PROCESSES, Right, rights_of
from processors.kafka_security import KafkaSecurity
from processors.settings import Settings
from processors.upload_log.upload_log import UploadLog
from tests.end_to_end.test_admin_log import METADATA, instructions, run_scenario
from tests.faults.load import ANY, append
from tests.faults.running import Process
from tests.support.certificates import Authority
from tests.support.http_server import serving
from tests.support.run_command import run_json, run_text
from tests.support.secured_broker import SecuredBroker, secured_broker
from tests.support.tokens import RSA_KEY
from tests.support.until import until

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(300)]
PASSWORD = "a secret that no output may show"
UPLOADS = [
    {
        "type": "instructions",
        "assignment_id": "a1",
        "text": "Judge the argument.",
        "grade_scale": "swedish_8_anchor",
    },
    {"type": "student_prompt", "assignment_id": "a1", "text": "Argue for it.", "language": "en"},
]
ESSAYS = [{"essay_id": f"e-{n}", "text_storage_id": f"t-{n}"} for n in range(2)]


@dataclass(frozen=True)
class Secured:
    """The broker of this module, and the token endpoint that it trusts."""

    at: SecuredBroker
    token_url: str


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with (
        serving(token_endpoint()) as url,
        secured_broker(tmp_path_factory.mktemp("secured"), f"{url}/jwks") as at,
    ):
        at.set_password("scram", PASSWORD)
        yield Secured(at, f"{url}/token")


def token_endpoint() -> FastAPI:
    """Issues tokens for the client credentials grant, and serves the key that signs them."""
    app = FastAPI()

    @app.post("/token")
    async def token(request: Request) -> dict[str, object]:
        assert (await request.body()).startswith(b"grant_type=client_credentials")
        assert request.headers["authorization"].startswith("Basic ")
        now = int(time())
        claims = {
            "iss": "tests",
            "sub": "client",
            "aud": "kafka",
            "iat": now,
            "exp": now + 300,
            "scope": "kafka",
        }
        encoded = jwt.encode(claims, RSA_KEY, "RS256", headers={"kid": "one"})
        return {"access_token": encoded, "token_type": "Bearer", "expires_in": 300}

    @app.get("/jwks")
    def jwks() -> dict[str, object]:
        key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(RSA_KEY.public_key()))
        return {"keys": [{**key, "kid": "one", "use": "sig", "alg": "RS256"}]}

    return app


def tls_settings(secured: Secured) -> tuple[str, KafkaSecurity]:
    certificate, key = secured.at.authority.issue("client", "password of the key")
    return secured.at.ssl, KafkaSecurity(
        security_protocol="SSL",
        ssl_ca_file=secured.at.authority.file,
        ssl_certificate_file=certificate,
        ssl_key_file=key,
        ssl_key_password=SecretStr("password of the key"),
    )


def scram_settings(secured: Secured) -> tuple[str, KafkaSecurity]:
    return secured.at.sasl_ssl, KafkaSecurity(
        security_protocol="SASL_SSL",
        ssl_ca_file=secured.at.authority.file,
        sasl_mechanism="SCRAM-SHA-512",
        sasl_username="scram",
        sasl_password=SecretStr(PASSWORD),
    )


def scram_256_settings(secured: Secured) -> tuple[str, KafkaSecurity]:
    at, security = scram_settings(secured)
    return at, security.model_copy(update={"sasl_mechanism": "SCRAM-SHA-256"})


def plain_settings(secured: Secured) -> tuple[str, KafkaSecurity]:
    return secured.at.sasl_plaintext, KafkaSecurity(
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="PLAIN",
        sasl_username="plain",
        sasl_password=SecretStr("plain-secret"),
    )


def oauth_settings(secured: Secured) -> tuple[str, KafkaSecurity]:
    return secured.at.sasl_ssl, KafkaSecurity(
        security_protocol="SASL_SSL",
        ssl_ca_file=secured.at.authority.file,
        sasl_mechanism="OAUTHBEARER",
        oauth_token_url=secured.token_url,
        oauth_client_id="client",
        oauth_client_secret=SecretStr(PASSWORD),
    )


def installation(secured: Secured, address: str, security: KafkaSecurity, folder: Path) -> Settings:
    """An installation that reaches its broker only in this way; every right is granted to every user."""
    return Settings(
        bootstrap_servers=address,
        kafka=security,
        topic_prefix=f"{uuid4().hex[:8]}-",
        data_dir=folder,
        patience_s=0,
        slot="one",
    )


def succeeds(settings: Settings, *command: str) -> object:
    """The JSON document of a command, which must succeed and show no secret."""
    exit_code, document, stderr = run_json(settings, *command)
    assert exit_code == 0, (document, stderr)
    assert PASSWORD not in f"{document}{stderr}"
    return document


@pytest.mark.parametrize(
    "reached_by", [tls_settings, scram_settings, scram_256_settings, plain_settings, oauth_settings]
)
def test_uploads_a_request_and_the_audit_go_through_a_secured_listener(
    secured: Secured,
    reached_by: Callable[[Secured], tuple[str, KafkaSecurity]],
    tmp_path: Path,
) -> None:
    settings = installation(secured, *reached_by(secured), tmp_path)
    succeeds(settings, "topics", "apply")
    uploads, requests = tmp_path / "uploads.jsonl", tmp_path / "requests.jsonl"
    uploads.write_bytes(b"\n".join(map(orjson.dumps, UPLOADS)))
    fields = {"course_code": "ENG5", "language": "en", "essays": ESSAYS, "assignment_id": "a1"}
    requests.write_bytes(orjson.dumps({**fields, "batch_id": "b-1"}))
    succeeds(settings, "uploads", "send", str(uploads))
    succeeds(settings, "requests", "send", str(requests))
    worker = Process(settings, tmp_path / "worker.log")
    worker.start()
    try:
        worker.wait_until_it_runs(60)
        tail = ("batches", "tail", "--from-beginning", "--follow", "--limit", "1")
        assert "b-1" in run_text(settings, *tail)[1]
        # both aiokafka clients: that of transactions and Faust's, whose row must come
        until(lambda: run_json(settings, "doctor")[0] == 0, seconds=60)
        assert worker.stop() == 0
    finally:
        worker.end()
    succeeds(settings, "audit", "verify")
    assert PASSWORD not in worker.log.read_text()


def test_a_refusal_names_the_setting_to_check(secured: Secured, tmp_path: Path) -> None:
    address, security = scram_settings(secured)
    other = Authority(tmp_path, "other")
    plain = KafkaSecurity()
    wrong = {
        "SASL_PASSWORD": security.model_copy(update={"sasl_password": SecretStr("wrong")}),
        "SASL_USERNAME": security.model_copy(update={"sasl_username": "nobody"}),
        "SSL_CA_FILE": security.model_copy(update={"ssl_ca_file": other.file}),
        "SECURITY_PROTOCOL": plain,
    }
    for name, changed in wrong.items():
        settings = installation(secured, address, changed, tmp_path)
        exit_code, document, stderr = run_json(settings, "doctor")
        assert exit_code == 4, (name, document, stderr)
        assert f"CJSTREAM_KAFKA_{name}" in f"{document}{stderr}", (name, document, stderr)
        assert PASSWORD not in f"{document}{stderr}"


def test_a_certificate_for_another_host_is_refused_unless_told_otherwise(tmp_path: Path) -> None:
    with secured_broker(tmp_path, hosts=(DNSName("another.example"),)) as at:
        at.set_password("scram", PASSWORD)
        _, security = scram_settings(Secured(at, ""))
        settings = installation(Secured(at, ""), at.sasl_ssl, security, tmp_path)
        exit_code, _, stderr = run_json(settings, "topics", "apply")
        assert exit_code == 4
        assert "CJSTREAM_KAFKA_SSL_CHECK_HOSTNAME" in stderr
        unchecked = security.model_copy(update={"ssl_check_hostname": False})
        settings = settings.model_copy(update={"kafka": unchecked})
        assert run_json(settings, "topics", "apply")[0] == 0


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredBroker]:
    """A broker on which a user has only the rights that are granted."""
    denies = {"allow.everyone.if.no.acl.found": "false"}
    with secured_broker(tmp_path_factory.mktemp("guarded"), properties=denies) as at:
        for user in ("worker", "auditor", "producer", "operator", "api", "nobody"):
            at.set_password(user, PASSWORD)
        yield at


def as_user(settings: Settings, at: SecuredBroker, user: str) -> Settings:
    """The installation as this user reaches it."""
    _, security = scram_settings(Secured(at, ""))
    own = security.model_copy(update={"sasl_username": user})
    return settings.model_copy(update={"bootstrap_servers": at.sasl_ssl, "kafka": own})


@pytest.fixture
def open_settings(guarded: SecuredBroker, tmp_path: Path) -> Settings:
    """An installation with its topics and ACLs, with every right."""
    settings = Settings(
        bootstrap_servers=guarded.broker.bootstrap,
        topic_prefix=f"{uuid4().hex[:8]}-",
        data_dir=tmp_path,
        patience_s=0,
        slot="one",
    )
    guarded.grant("operator", rights_of("operator", settings))
    succeeds(as_user(settings, guarded, "operator"), "topics", "apply")
    for process in PROCESSES:
        guarded.grant(process, rights_of(process, settings))
    return settings


def test_each_process_works_with_its_own_rights(
    guarded: SecuredBroker, open_settings: Settings, tmp_path: Path
) -> None:
    producer, auditor = (as_user(open_settings, guarded, user) for user in ("producer", "auditor"))
    uploads, requests = tmp_path / "uploads.jsonl", tmp_path / "requests.jsonl"
    uploads.write_bytes(b"\n".join(map(orjson.dumps, UPLOADS)))
    fields = {"course_code": "ENG5", "language": "en", "essays": ESSAYS, "assignment_id": "a1"}
    requests.write_bytes(orjson.dumps({**fields, "batch_id": "b-1"}))
    succeeds(producer, "uploads", "send", str(uploads))
    succeeds(producer, "requests", "send", str(requests))
    # garbage under a live key: the worker appends the good upload anew, and writes a dead letter
    topic = open_settings.topics.instructions.name
    append(open_settings, [Record(topic, ANY, b"assignment:a1", b"garbage")])
    worker = Process(as_user(open_settings, guarded, "worker"), tmp_path / "worker.log")
    worker.start()
    try:
        worker.wait_until_it_runs(60)
        tail = ("batches", "tail", "--from-beginning", "--follow", "--limit", "1")
        assert "b-1" in run_text(auditor, *tail)[1]
        until(lambda: run_json(auditor, "doctor")[0] == 0, seconds=60)
        assert worker.stop() == 0
    finally:
        worker.end()
    for command in (("audit", "verify"), ("parked", "list"), ("topics", "list")):
        succeeds(auditor, *command)
    operator = as_user(open_settings, guarded, "operator")
    for command in (("dlq", "list"), ("requests", "reset-offsets")):
        succeeds(operator, *command)


def test_the_admin_api_works_with_its_own_rights(
    guarded: SecuredBroker, open_settings: Settings
) -> None:
    async def write(log: UploadLog) -> None:
        assert (await log.write(instructions("Judge clarity."), METADATA)).folded

    run_scenario(as_user(open_settings, guarded, "api"), write, instances=1)


def test_a_missing_right_is_named(
    guarded: SecuredBroker, open_settings: Settings, tmp_path: Path
) -> None:
    topics = open_settings.topics
    lacking = {
        "READ on group": Right("group", open_settings.fold_group, ("READ",)),
        f"WRITE on topic {topics.batches.name}": Right("topic", topics.batches.name, ("WRITE",)),
        f"READ on topic {topics.instructions.name}": Right(
            "topic", topics.instructions.name, ("READ",)
        ),
        "WRITE on the transactional id is missing": Right(
            "transactional-id", f"{open_settings.prep_group}-one", ("WRITE", "DESCRIBE")
        ),
    }
    for number, (named, right) in enumerate(lacking.items()):
        guarded.revoke("worker", [right])
        own = as_user(open_settings, guarded, "worker")
        worker = Process(own, tmp_path / f"{number}.log")
        worker.start()
        try:
            assert worker.wait_for_exit(90) != 0
        finally:
            worker.end()
        printed = worker.log.read_text()
        assert named in printed, printed[-2000:]
        assert "Traceback" not in printed
        guarded.grant("worker", [right])
    nobody = as_user(open_settings, guarded, "nobody")
    exit_code, _, stderr = run_json(nobody, "topics", "list")
    assert exit_code == 4
    assert "cjstream topics acls" in stderr


def test_doctor_names_the_rights_of_its_user_and_one_that_is_missing(
    guarded: SecuredBroker, open_settings: Settings
) -> None:
    auditor = as_user(open_settings, guarded, "auditor")
    until(lambda: doctors_check(auditor, "rights")["ok"], 60)
    assert "auditor" in doctors_check(auditor, "rights")["detail"]
    topic = open_settings.topics.unresolved.name
    guarded.revoke("auditor", [Right("topic", topic, ("READ",))])
    until(lambda: not doctors_check(auditor, "rights")["ok"], 60)
    found = doctors_check(auditor, "rights")
    assert f"as auditor, the user lacks READ on topic {topic}. " in found["detail"]
    assert "cjstream topics acls" in found["detail"]
    nobody = doctors_check(as_user(open_settings, guarded, "nobody"), "rights")
    assert (nobody["ok"], "cjstream topics acls" in nobody["detail"]) == (False, True)


def test_doctor_names_a_certificate_that_ends_soon(secured: Secured, tmp_path: Path) -> None:
    address, security = tls_settings(secured)
    settings = installation(secured, address, security, tmp_path)
    found = doctors_check(settings, "certificates")
    assert (found["ok"], found["detail"][:11]) == (True, "the first: "), found
    certificate, key = secured.at.authority.issue("ending", days=3)
    changes = {
        "ssl_certificate_file": certificate,
        "ssl_key_file": key,
        "ssl_key_password": None,
    }
    ending = settings.model_copy(update={"kafka": security.model_copy(update=changes)})
    found = doctors_check(ending, "certificates")
    assert not found["ok"]
    assert found["detail"].startswith("CJSTREAM_KAFKA_SSL_CERTIFICATE_FILE ends on 20")
    assert found["detail"].endswith(
        "(in 2 days): replace the file, then restart the processes one by one"
    )


def test_doctor_names_a_brokers_certificate_that_ends_soon(tmp_path: Path) -> None:
    with secured_broker(tmp_path, days=5) as at:
        at.set_password("scram", PASSWORD)
        _, security = scram_settings(Secured(at, ""))
        settings = installation(Secured(at, ""), at.sasl_ssl, security, tmp_path)
        found = doctors_check(settings, "certificates")
        named = f"the certificate of the broker at {at.sasl_ssl} ends on 20"
        assert (found["ok"], named in found["detail"]) == (False, True), found


def doctors_check(settings: Settings, name: str) -> dict[str, Any]:
    """A check of doctor by its name."""
    _, document, stderr = run_json(settings, "doctor")
    assert document, stderr
    [check] = [check for check in document["checks"] if check["name"] == name]
    return dict(check)
