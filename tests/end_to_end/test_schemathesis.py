"""Schemathesis tests an API process with a real broker against its own OpenAPI document.

The API must accept requests that match the document, and refuse all others as the document says.
"""

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from processors.settings import Settings
from tests.contract.api.calling import TASK
from tests.end_to_end.serving import ready_api
from tests.support.tokens import hs256

SEED = "20300115"
CONFIG = """
hooks = {hooks}
seed = {seed}
request-timeout = 10.0
generation.max-examples = {examples}

[checks]
# a condition can fail (412), and If-Match is filled with etags that are not in our format (400)
positive_data_acceptance.expected-statuses = ["2xx", "400", "404", "409", "412"]

[[operations]]  # a moment can be in the future or name a record that does not exist (422)
include-path-regex = "^(/audit/v1/.*|/admin/v1/assignments/[^/]+)$"
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "404", "422"]

[[operations]]  # which grades there are depends on the scale, which can be that of the assignment (422)
include-path-regex = "^/admin/v1/anchors.*$"
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "404", "409", "412", "422"]

[[operations]]  # some bytes are no text (415), or a text without anything visible (422)
include-path-regex = "^/v1/content$"
checks.positive_data_acceptance.expected-statuses = ["2xx", "415", "422"]

[phases]
stateful.enabled = false
coverage.unexpected-methods = ["patch", "trace"]
"""
HOOKS = """
import re, schemathesis

@schemathesis.hook
def map_body(context, body):  # replace every well-formed storage id by that of a stored text
    if isinstance(body, dict):
        for role, text in (("student_prompt", "prompt_text"), ("judge_rubric", "rubric_text")):
            storage_id = f"{role}_storage_id"
            if re.fullmatch("[0-9a-f]{64}", str(body.get(storage_id)).strip()):
                body[storage_id] = "STORED"
                if text in body:  # both are accepted only if they are the same text
                    del body[storage_id]
    return body
"""


def stored(url: str) -> str:
    """Store a text; returns its storage id."""
    headers = {"Authorization": f"Bearer {hs256()}"}
    response = httpx.post(f"{url}/v1/content", content=TASK.encode(), headers=headers)
    storage_id: str = response.json()["storage_id"]
    return storage_id


@pytest.mark.thorough
@pytest.mark.timeout(600)  # half a minute of work, but several minutes on a busy machine
def test_the_api_behaves_as_its_document_says(settings: Settings, tmp_path: Path) -> None:
    config = tmp_path / "schemathesis.toml"
    hooks = tmp_path / "hooks.py"
    config.write_text(CONFIG.format(seed=SEED, examples=5, hooks=json.dumps(str(hooks))))
    with ready_api(settings, environment="development") as api:
        url = api.url
        hooks.write_text(HOOKS.replace("STORED", stored(url)))
        command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run"]
        command += [f"{url}/openapi.json", "--header", f"Authorization: Bearer {hs256()}"]
        command += ["--checks", "all"]
        run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-4000:]
