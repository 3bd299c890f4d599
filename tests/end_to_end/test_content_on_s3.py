"""An API whose texts are on an S3 service over TLS: upload, doctor and sweep; its secret is shown nowhere."""

import json
from pathlib import Path

import pytest

from processors.settings import Settings
from tests.end_to_end.serving import serving
from tests.support.installations import installation
from tests.support.run_command import environment_of, run_main
from tests.support.s3_server import S3Service, s3_service
from tests.support.until import until
from tools.broker import Broker, free_port

A1 = "/admin/v1/assessment-instructions/assignment/a1"
INSTRUCTIONS = {"instructions_text": "Judge the argument.", "grade_scale": "swedish_8_anchor"}
pytestmark = pytest.mark.thorough


def run(settings: Settings, service: S3Service, *command: str, exit_code: int = 0) -> str:
    """The JSON document of a command, and everything else that it printed."""
    trusted = environment_of(settings, SSL_CERT_FILE=str(service.authority))
    ended, out, err = run_main(trusted, *command, "--json")
    assert ended == exit_code, out + err
    return out + err


def test_texts_are_stored_read_and_swept_and_no_process_shows_the_secret(
    broker: Broker, tmp_path: Path
) -> None:
    with s3_service(tmp_path) as service:
        settings = installation(
            broker,
            tmp_path,
            api_port=free_port(),
            content_url=f"s3://{service.bucket}/texts",
            s3=service.settings(endpoint=service.https),
        )
        with serving(settings, SSL_CERT_FILE=str(service.authority)) as api:
            until(api.is_ready, 60)
            stored = api("PUT", A1, INSTRUCTIONS).json()
            read = api("GET", f"/v1/content/{stored['storage_id']}")
            assert (read.status_code, read.text) == (200, INSTRUCTIONS["instructions_text"])
            assert api("POST", "/v1/content", "nothing names this").status_code == 201
            command_line = Path(f"/proc/{api.pid}/cmdline").read_text()
            log = api.log.read_text()
        assert any(key.endswith(stored["storage_id"]) for key in service.object_keys())
        report = run(settings, service, "doctor", exit_code=3)  # no worker runs
        (check,) = (
            check for check in json.loads(report)["checks"] if check["name"] == "content store"
        )
        assert check["ok"], check
        swept = run(settings, service, "content", "sweep", "--grace", "1h")
        assert service.secret_access_key not in command_line + log + report + swept
        assert "API runs" in log
