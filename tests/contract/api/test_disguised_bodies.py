"""Bodies that are not what they say: the content route stores bytes as they are, or refuses them with the reason."""

import gzip
from typing import Any

import httpx
import pytest

from tests.contract.api.calling import A1, ADMIN, SCALE, TEXT, Api, new

CONTENT = "/v1/content"
PLAIN = {"content_type": "text/plain; charset=utf-8"}
ENVELOPE = b'--b0\r\nContent-Disposition: form-data; name="file"\r\n\r\nWrite about.\r\n--b0--\r\n'
REFUSED: dict[str, tuple[bytes, dict[str, str]]] = {
    "multipart/form-data": (ENVELOPE, {"content_type": "multipart/form-data; boundary=b0"}),
    "application/x-www-form-urlencoded": (
        b"Write+about",
        {"content_type": "application/x-www-form-urlencoded"},
    ),
    "message/rfc822": (b"Subject: x\r\n\r\nWrite.", {"content_type": "message/rfc822"}),
    "Content-Encoding": (gzip.compress(b"Write."), {**PLAIN, "content_encoding": "gzip"}),
    "this coding": (b"Write.", {**PLAIN, "content_encoding": "identity, br"}),
    "Content-Transfer-Encoding": (b"V3JpdGU=", {**PLAIN, "content_transfer_encoding": "base64"}),
    "not in UTF-8": ("Skriv å".encode("latin-1"), {"content_type": "text/plain; charset=latin1"}),
    "a multipart form": (ENVELOPE, PLAIN),
    "a PDF document": (b"%PDF-1.7 ...", PLAIN),
    "an RTF document": (b"{\\rtf1 Write.}", {"content_type": "application/octet-stream"}),
    "gzip data": (gzip.compress(b"Write."), PLAIN),
    "UTF-16 text": ("Write.".encode("utf-16"), PLAIN),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_wrapped_encoded_or_foreign_body_is_refused_with_the_reason(
    api: Api, reason: str
) -> None:
    content, headers = REFUSED[reason]
    response = api("POST", CONTENT, content=content, **headers)
    assert (response.status_code, response.json()["type"]) == (
        415,
        "urn:cjstream:problem:unsupported-media-type",
    )
    assert reason in response.json()["detail"]
    assert not [path for path in api.folder.rglob("*") if path.is_file()]


def test_a_form_as_curl_and_browsers_send_it_is_refused(api: Api) -> None:
    request = httpx.Request("POST", "http://api", files={"file": ("task.txt", b"Write about.")})
    content, content_type = request.read(), request.headers["content-type"]
    assert api("POST", CONTENT, content=content, content_type=content_type).status_code == 415


@pytest.mark.parametrize(
    "headers",
    [PLAIN, {**PLAIN, "content_encoding": "identity"}, {"content_type": "text/plain"}],
)
def test_plain_bytes_are_stored_as_they_are(api: Api, headers: dict[str, str]) -> None:
    content = b"  Skriv om en regel.\r\n"
    stored = api("POST", CONTENT, content=content, **headers)
    assert stored.status_code == 201
    assert api("GET", stored.headers["location"]).content == content


def test_a_declared_document_is_stored_but_is_no_prompt(api: Api) -> None:
    api.create_assignment()
    pdf = api("POST", CONTENT, content=b"%PDF-1.7 ...........", content_type="application/pdf")
    assert pdf.status_code == 201
    body = {"student_prompt_storage_id": pdf.json()["storage_id"]}
    (fault,) = api("PATCH", A1, body).json()["errors"]
    assert fault["code"] == "invalid_content"
    assert "a PDF document" in fault["message"]


def fault_of(api: Api, path: str, **body: Any) -> tuple[str, str]:
    response = api("POST", f"{ADMIN}/{path}", body)
    assert response.status_code == 422, response.text
    (fault,) = response.json()["errors"]
    return fault["code"], fault["message"]


RTF = "{\\rtf1\\ansi Write about a rule.}"


def test_a_text_in_another_format_is_refused_and_the_format_is_named(api: Api) -> None:
    in_instructions = new("a1", instructions_text=RTF)
    for path, body in {
        "assessment-instructions": in_instructions,
        "student-prompts": {"assignment_id": "a1", "prompt_text": RTF},
        "judge-rubrics": {"assignment_id": "a1", "rubric_text": ENVELOPE.decode()},
        "assignments": {
            "assignment_id": "a1",
            "instructions_text": TEXT,
            "grade_scale": SCALE,
            "prompt_text": "data:text/plain;base64,V3JpdGUgYWJvdXQ=",
        },
    }.items():
        code, message = fault_of(api, path, **body)
        assert code == "not_plain_text"
        assert message.startswith(("is an RTF document: ", "is a multipart form: ", "is a data"))


def test_a_text_with_nothing_visible_is_blank(api: Api) -> None:
    body = new("a1", instructions_text="\u200b" * 20)
    assert fault_of(api, "assessment-instructions", **body)[0] == "blank"
