"""The console: sessions, forms, roles, conflicts, hostile texts. The pages call the real routes of the API."""

import re
import time
from contextlib import ExitStack
from html import escape
from pathlib import Path

import pytest

from tests.contract.api.browsing import Browser, fields_of
from tests.contract.api.calling import ADMIN, SCALE, TASK, TEXT, WEIGHTS, Api, make_api
from tests.support.tokens import SECRET
from tools.api.app import REQUESTS_OF_SUBJECT
from tools.api.auth.authentication import Caller
from tools.api.console.pages import local_path
from tools.api.console.session import SESSION, Cookies, new_session

HOSTILE = [
    "<script>alert(1)</script> and ten more",
    '"><img src=x onerror=alert(1)> and ten more',
    "</textarea><script>alert(1)</script> more",
    "{{ 7 * 7 }} {% raw %} ${7*7} and ten more",
    "‮evil‬ מילה עברית right to left, ten more",
    "javascript:alert(1) &lt;b&gt; &amp; ten more",
]


@pytest.fixture
def api(tmp_path: Path) -> Api:
    """The API in development, where anybody may sign in."""
    return make_api(tmp_path, environment="development")


@pytest.fixture
def browser(api: Api) -> Browser:
    """A browser of an administrator."""
    return Browser(api).sign_in()


def new_form(browser: Browser, **changes: str) -> dict[str, str]:
    """The form for a new assignment, filled."""
    form = browser.form("/console/assignments/new")
    texts = {"instructions_text": TEXT, "prompt_text": TASK, "rubric_text": WEIGHTS}
    return {**form, "id": "a1", "grade_scale": SCALE, **texts, **changes}


def create(browser: Browser, **changes: str) -> None:
    response = browser.post("/console/assignments/new", new_form(browser, **changes))
    assert response.status_code == 303, response.text


def test_the_root_leads_to_the_console_and_a_stranger_to_the_page_for_signing_in(api: Api) -> None:
    browser = Browser(api)
    assert browser.get("/").headers["location"] == "/console/"
    wanted = browser.get("/console/assignments/a1?as_of=2030-01-15T09:30:00Z").headers["location"]
    assert wanted.startswith("/console/sign-in?next=%2Fassignments%2Fa1%3Fas_of")
    page = browser.get(wanted)
    assert page.status_code == 200
    signed_in = browser.post("/console/sign-in", {**fields_of(page.text), "role": "admin"})
    assert signed_in.headers["location"] == "/console/assignments/a1?as_of=2030-01-15T09:30:00Z"


@pytest.mark.parametrize(
    "elsewhere",
    ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:x", "", "/\n/x"],
)
def test_signing_in_leads_nowhere_else(elsewhere: str) -> None:
    assert local_path(elsewhere) == "/"


def test_an_assignment_is_created_read_changed_and_deleted(browser: Browser, api: Api) -> None:
    create(browser)
    page = browser.get("/console/assignments/a1?saved=saved").text
    assert all(text in page for text in (TEXT, TASK, WEIGHTS, ">ready<", "dev-admin"))
    assert ">a1</a>" in browser.get("/console/").text

    form = browser.form("/console/assignments/a1/edit")
    assert (form["instructions_text"], form["prompt_text"]) == (TEXT, TASK)
    saved = browser.post(
        "/console/assignments/a1/edit", {**form, "prompt_text": "Another task, as long."}
    )
    assert saved.headers["location"] == "/console/assignments/a1?saved=saved"
    assert "Another task, as long." in browser.get("/console/assignments/a1").text

    form = browser.form("/console/assignments/a1/instructions/delete")
    assert browser.post("/console/assignments/a1/instructions/delete", form).status_code == 303
    assert api("GET", f"{ADMIN}/assignments/a1").status_code == 404
    page = browser.get("/console/assignments/a1").text
    assert "Deleted with version 2" in page
    assert "Deleted with version 3" in page


def test_a_save_that_changes_nothing_appends_nothing_whatever_line_ends_a_browser_sends(
    browser: Browser, api: Api
) -> None:
    text = "Judge the argument.\r\nThen judge the style."
    body = {"assignment_id": "a1", "instructions_text": text, "grade_scale": SCALE}
    assert api("POST", f"{ADMIN}/assignments", body).status_code == 200
    form = browser.form("/console/assignments/a1/edit")
    as_sent = {
        name: value.replace("\r\n", "\n").replace("\n", "\r\n") for name, value in form.items()
    }
    assert browser.post("/console/assignments/a1/edit", as_sent).status_code == 303
    assert api("GET", f"{ADMIN}/assignments/a1").json()["instructions"]["version"] == 1


def test_whoever_is_slower_sees_both_texts_and_decides(browser: Browser, api: Api) -> None:
    create(browser)
    slower = browser.form("/console/assignments/a1/edit")
    faster = {**slower, "rubric_text": "Theirs: weigh style twice."}
    assert browser.post("/console/assignments/a1/edit", faster).status_code == 303
    mine = {**slower, "rubric_text": "Mine: weigh content twice."}
    conflict = browser.post("/console/assignments/a1/edit", mine)
    assert conflict.status_code == 409
    assert "Somebody was faster" in conflict.text
    assert "Theirs" in conflict.text
    assert "<del>" in conflict.text
    again = fields_of(conflict.text)
    assert again["rubric_text"] == "Mine: weigh content twice."
    assert browser.post("/console/assignments/a1/edit", again).status_code == 303
    live = api("GET", f"{ADMIN}/assignments/a1").json()["judge_rubric"]
    assert (live["text"], live["version"]) == ("Mine: weigh content twice.", 3)


def test_a_second_assignment_with_the_same_id_is_a_conflict_not_a_replacement(
    browser: Browser, api: Api
) -> None:
    create(browser)
    answer = browser.post(
        "/console/assignments/new", new_form(browser, instructions_text="Other instructions.")
    )
    assert answer.status_code == 409
    assert "Other instructions." in answer.text
    assert api("GET", f"{ADMIN}/assignments/a1").json()["instructions"]["version"] == 1


@pytest.mark.parametrize(
    ("changes", "field", "sentence"),
    [
        ({"instructions_text": "short"}, "instructions_text", "10"),
        ({"id": "a/b"}, "id", "character"),
        ({"id": ""}, "id", ""),
        ({"prompt_text": "x" * 131_073}, "prompt_text", "131072"),
        ({"rubric_text": "a NUL \0 in a text"}, "rubric_text", "not allowed"),
    ],
)
def test_a_broken_rule_is_shown_at_its_field_and_nothing_typed_is_lost(
    browser: Browser, changes: dict[str, str], field: str, sentence: str
) -> None:
    form = new_form(browser, **changes)
    answer = browser.post("/console/assignments/new", form)
    assert answer.status_code == 422, answer.text
    assert f'id="e-{field}"' in answer.text
    assert sentence in answer.text
    kept = fields_of(answer.text)
    assert all(kept[name] == form[name] for name in ("instructions_text", "prompt_text"))


def test_an_emptied_text_is_not_silently_kept(browser: Browser) -> None:
    create(browser)
    form = browser.form("/console/assignments/a1/edit")
    answer = browser.post("/console/assignments/a1/edit", {**form, "prompt_text": ""})
    assert answer.status_code == 422
    assert 'id="e-prompt_text"' in answer.text


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_and_names_are_shown_as_text(browser: Browser, text: str) -> None:
    create(browser, instructions_text=text, rubric_text=text)
    for path in ("", "/edit"):
        page = browser.get(f"/console/assignments/a1{path}").text
        assert escape(text, quote=False) in page.replace("&#34;", '"').replace("&#39;", "'")
        assert "<script>alert" not in page
        assert "<img src=x" not in page
    assert browser.form("/console/assignments/a1/edit")["rubric_text"] == text


def test_anchors_are_listed_by_scale_and_their_texts_are_one_click_away(
    browser: Browser, api: Api
) -> None:
    create(browser)
    assert "There are none." in browser.get("/console/assignments/a1").text
    texts = {"b-2": HOSTILE[0] * 5, "a-1": "An essay that got a good grade. " * 5}
    grades = {"b-2": "C+", "a-1": "C"}
    anchors = [
        {"anchor_id": name, "grade": grades[name], "essay_text": text}
        for name, text in texts.items()
    ]
    path = f"{ADMIN}/anchors/assignment/a1?grade_scale={SCALE}"
    assert api("PUT", path, {"anchors": anchors}).status_code == 201
    page = browser.get("/console/assignments/a1").text
    links = [one.replace("&amp;", "&") for one in re.findall(r'href="([^"]*/anchor\?[^"]*)"', page)]
    assert len(links) == 2
    for link, (name, text) in zip(links, texts.items(), strict=True):  # the best grade first
        anchor = browser.get(link).text
        assert escape(text.strip(), quote=False) in anchor
        assert f"Grade <strong>{grades[name]}</strong>" in anchor
    assert browser.get(links[1].replace("a-1", "none")).status_code == 404
    form = browser.form("/console/assignments/a1/edit")
    assert form["instructions_text"] == TEXT


def test_versions_are_compared_word_by_word(browser: Browser) -> None:
    create(browser)
    form = browser.form("/console/assignments/a1/edit")
    changed = {**form, "instructions_text": TEXT.replace("clearly", "well")}
    assert browser.post("/console/assignments/a1/edit", changed).status_code == 303
    page = browser.get("/console/assignments/a1").text
    [link] = {
        part.split('"')[0] for part in page.split('href="')[1:] if "/diff?" in part.split('"')[0]
    }
    diff = browser.get(link.replace("&amp;", "&")).text
    assert "<del>clearly</del>" in diff
    assert "<ins>well</ins>" in diff


def test_many_versions_are_paged(browser: Browser, api: Api) -> None:
    for number in range(101):
        text = f"{TEXT} {number}"
        body = {"assignment_id": "a1", "instructions_text": text, "grade_scale": SCALE}
        assert api("POST", f"{ADMIN}/assignments", body).status_code == 200
    first = browser.get("/console/assignments/a1").text
    assert "Page 1 of 2" in first
    assert "Instructions 101<" in first
    assert "Instructions 1<" in browser.get("/console/assignments/a1?page=2").text


def test_a_list_of_many_is_paged_and_searched_by_the_beginning_of_the_id(
    browser: Browser, api: Api
) -> None:
    for number in range(60):
        body = {"assignment_id": f"eng{number:02}", "instructions_text": TEXT, "grade_scale": SCALE}
        assert api("POST", f"{ADMIN}/assignments", body).status_code == 200
    first, second = browser.get("/console/").text, browser.get("/console/?page=2").text
    assert ("60 with instructions" in first, "Page 1 of 2" in first) == (True, True)
    assert first.count('scope="row"') == 50
    assert second.count('scope="row"') == 10
    found = browser.get("/console/?q=eng5").text
    assert found.count('scope="row"') == 10
    assert found.index("eng50") < found.index("eng59")
    for odd in ("?page=0", "?page=x", "?page=999999999999", "?q=a/b", "?scale=none"):
        assert browser.get(f"/console/{odd}").status_code == 200


def test_what_is_deleted_is_found_by_its_whole_id(browser: Browser) -> None:
    create(browser)
    form = browser.form("/console/assignments/a1/instructions/delete")
    assert browser.post("/console/assignments/a1/instructions/delete", form).status_code == 303
    for others in (0, 1):  # that match, too
        if others:
            create(browser, id="a10")
        [path, _] = re.findall(r'href="([^"]+/a1)"', browser.get("/console/?q=a1").text)
        assert "Deleted with version" in browser.get(path).text


# Sessions, forms and roles


def test_the_cookie_is_encrypted_bound_to_its_name_and_ends(tmp_path: Path) -> None:
    api = make_api(tmp_path, environment="development")
    browser = Browser(api).sign_in()
    cookie = browser.cookies[SESSION]
    assert "dev-admin" not in cookie
    other = Browser(make_api(tmp_path, environment="development"))  # another key
    other.cookies.set(SESSION, cookie)
    assert other.get("/console/flow").status_code == 303
    browser.cookies.set(SESSION, cookie[:-4] + "AAA=")
    assert browser.get("/console/flow").status_code == 303


@pytest.mark.parametrize(
    ("environment", "is_secure"), [("development", False), ("production", True)]
)
def test_the_cookie_is_out_of_reach_of_scripts_and_outside_development_secure(
    environment: str, is_secure: bool
) -> None:
    from starlette.requests import Request
    from starlette.responses import Response

    request = Request({"type": "http", "root_path": "/console", "headers": []})
    response = Response()
    cookies = Cookies(SECRET.encode(), time.time, secure=environment == "production")
    caller = Caller("anna", frozenset({"admin"}))
    cookies.start(request, response, new_session(caller, time.time() + 60))
    header = response.headers["set-cookie"]
    assert "HttpOnly" in header
    assert "SameSite=lax" in header
    assert "Path=/console" in header
    assert ("Secure" in header) == is_secure


def test_a_session_ends_when_its_token_would() -> None:
    from starlette.requests import Request
    from starlette.responses import Response

    now_s = 1000.0
    cookies = Cookies(SECRET.encode(), lambda: now_s, secure=True)
    request = Request({"type": "http", "root_path": "/console", "headers": []})
    response = Response()
    cookies.start(request, response, new_session(Caller("anna", frozenset({"admin"})), 1060.0))
    value = response.headers["set-cookie"].partition(";")[0]
    back = Request(
        {"type": "http", "root_path": "/console", "headers": [(b"cookie", value.encode())]}
    )
    session = cookies.session_of(back)
    assert session is not None
    assert session.subject == "anna"
    now_s = 1060.0
    assert cookies.session_of(back) is None


def test_a_form_of_another_site_is_refused(browser: Browser) -> None:
    form = new_form(browser)
    for headers in (
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ):
        assert browser.post("/console/assignments/new", form, **headers).status_code == 403


def test_a_form_without_the_sessions_own_field_changes_nothing(browser: Browser, api: Api) -> None:
    form = new_form(browser)
    answer = browser.post("/console/assignments/new", {**form, "csrf": "another"})
    assert answer.status_code == 409
    assert fields_of(answer.text)["instructions_text"] == TEXT
    create(browser)
    answer = browser.post("/console/assignments/a1/instructions/delete", {"csrf": "x", "tag": "*"})
    assert answer.status_code == 403
    assert browser.post("/console/dead-letters/redrive", {"csrf": ""}).status_code == 403
    assert api("GET", f"{ADMIN}/assignments/a1").json()["instructions"]["version"] == 1


def test_a_form_after_the_end_of_the_session_says_so(browser: Browser) -> None:
    form = new_form(browser)
    browser.cookies.clear()
    answer = browser.post("/console/assignments/new", form)
    assert answer.status_code == 401
    assert "Your session has ended" in answer.text


def test_a_stream_after_the_end_of_the_session_is_401(api: Api) -> None:
    answer = Browser(api).get("/console/flow/events", accept="text/event-stream")
    assert (answer.status_code, answer.content) == (401, b"")


@pytest.mark.parametrize("path", ["/", "/parked", "/dead-letters", "/batches?q=x", "/judging"])
def test_every_page_counts_once_against_the_rate_limit(tmp_path: Path, path: str) -> None:
    browser = Browser(make_api(tmp_path, environment="development", rate_limit_per_minute=1))
    browser.sign_in()
    assert browser.get("/console/flow").status_code == 200
    refused = browser.get(f"/console{path}")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
    assert "Wait 60 s, then reload this page" in refused.text


def test_a_page_and_the_routes_that_it_calls_are_one_request_in_progress(
    browser: Browser, api: Api
) -> None:
    create(browser)
    in_progress = api.app.state.dependencies.requests
    with ExitStack() as others:
        for _ in range(REQUESTS_OF_SUBJECT - 1):
            others.enter_context(in_progress.one("dev-admin"))
        assert browser.get("/console/assignments/a1").status_code == 200
        others.enter_context(in_progress.one("dev-admin"))
        refused = browser.get("/console/assignments/a1")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert in_progress.total == 0


def test_signing_out_ends_the_session_in_the_browser(browser: Browser) -> None:
    assert browser.post("/console/sign-out", {}).headers["location"] == "/console/sign-in"
    assert browser.get("/console/").status_code == 303


def test_an_auditor_reads_and_the_server_refuses_the_rest(browser: Browser, api: Api) -> None:
    create(browser)
    auditor = Browser(api).sign_in("auditor")
    page = auditor.get("/console/assignments/a1").text
    assert TEXT in page
    assert "/edit" not in page
    assert "Delete" not in page
    found = auditor.get("/console/?q=a").text
    assert ('href="/console/assignments/a1"' in found, "/new" in found) == (True, False)
    assert auditor.get("/console/assignments/new").status_code == 403
    own = {"csrf": fields_of(auditor.get("/console/assignments/a1").text).get("csrf", "")}
    form = new_form(browser)
    assert auditor.post("/console/assignments/new", {**form, **own}).status_code in (403, 409)
    assert api("GET", f"{ADMIN}/assignments/a1").json()["instructions"]["version"] == 1


def test_development_sign_in_does_not_exist_in_production(tmp_path: Path) -> None:
    browser = Browser(make_api(tmp_path))
    assert "anybody" not in browser.get("/console/sign-in").text
    assert "No way to sign in is configured" in browser.get("/console/sign-in").text
    assert browser.post("/console/sign-in", {"role": "admin"}).status_code == 400
    assert browser.get("/console/flow").status_code == 303


@pytest.mark.parametrize("path", ["/sign-in", "/static/console.css", "/nowhere", "/static/nowhere"])
def test_every_response_has_the_security_headers(api: Api, path: str) -> None:
    headers = Browser(api).get(f"/console{path}").headers
    assert "unsafe" not in headers["content-security-policy"]
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["referrer-policy"] == "same-origin"
    assert headers["x-content-type-options"] == "nosniff"


def test_a_page_that_does_not_exist_has_the_menu_of_whoever_asks(
    browser: Browser, api: Api
) -> None:
    page = browser.get("/console/nowhere")
    assert page.status_code == 404
    assert "Dead letters</a>" in page.text
    assert "Dead letters</a>" not in Browser(api).get("/console/nowhere").text


def test_a_new_assignment_shows_at_once_how_to_send_a_request(browser: Browser) -> None:
    create(browser)
    saved = browser.get("/console/assignments/a1?saved=saved").text
    assert "<details open><summary>Send a request for it" in saved


def test_pages_have_no_inline_script_style_or_foreign_address(browser: Browser) -> None:
    create(browser)
    paths = [
        "/",
        "/assignments/a1",
        "/assignments/a1/edit",
        "/assignments/new",
        "/flow",
        "/batches",
    ]
    for page in (browser.get(f"/console{path}").text for path in (*paths, "/sign-in")):
        assert "<style" not in page
        assert " style=" not in page
        assert " onclick" not in page
        assert "https://" not in page
        assert "<script>" not in page


def test_the_first_page_with_its_files_is_small(browser: Browser) -> None:
    create(browser)
    files = ("", "static/console.css", "static/console.js", "static/icon.svg")
    assert sum(len(browser.get(f"/console/{file}").content) for file in files) < 100_000


def test_a_body_that_is_no_form_is_refused(browser: Browser) -> None:
    answer = browser.post("/console/assignments/new", {}, content_type="application/json")
    assert answer.status_code == 415
    large = {"instructions_text": "x" * 1_600_000}
    assert browser.post("/console/assignments/new", large).status_code == 413


def test_behind_a_proxy_with_a_prefix_links_lead_below_it(browser: Browser) -> None:
    create(browser)
    page = browser.get("/console/").text
    assert 'href="/console/assignments/a1"' in page
