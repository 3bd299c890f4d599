"""Whatever a research run lacks is found before anything is sent: one line says what, where, and what to do."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer

from processors.kafka.offsets import high_watermarks_when_reachable
from processors.settings import Settings
from tests.end_to_end.serving import Serving, ready_api
from tests.support.installations import installation
from tests.support.judge_server import KEY, judge_server
from tests.support.research_inputs import SCALE, research_inputs, write_files
from tests.support.run_command import environment_of, run_main
from tests.support.tokens import hs256
from tests.support.until import until
from tools.broker import Broker, free_port

NEW = "assignment-of-the-run"
OTHER = "assignment-of-another-scale"
UNPRICED: dict[str, list[dict[str, Any]]] = {
    "providers": [
        {
            "name": "school",
            "base_url": "http://127.0.0.1:1/v1",
            "key_variable": "SCHOOL_KEY",
            "models": [
                {"model": "unpriced", "context_window": 9_000, "max_output_tokens": 4_000},
                {
                    "model": "priced",
                    "context_window": 9_000,
                    "max_output_tokens": 4_000,
                    "prices": dict.fromkeys(("input", "cache_write", "cache_read", "output"), 1),
                },
            ],
        }
    ]
}


@dataclass(frozen=True)
class Installed:
    """An installation with its API; nobody is a member of its groups but the test's own consumers."""

    settings: Settings
    api: Serving


@pytest.fixture(scope="module")
def installed(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """The API requires every role, so that a rubric may be missing; one assignment has another scale."""
    folder = tmp_path_factory.mktemp("preflight")
    required = ("instructions", "student_prompt", "judge_rubric")
    settings = installation(broker, folder, patience_s=0, required_roles=required)
    (folder / "models.json").write_text(json.dumps(UNPRICED))
    with ready_api(settings) as api:
        other = {"instructions_text": "Judge the argument.", "grade_scale": "eng5_np_legacy_9_step"}
        route = f"/admin/v1/assessment-instructions/assignment/{OTHER}"
        api("PUT", route, other).raise_for_status()
        yield Installed(settings, api)


@pytest.fixture(scope="module")
def members(installed: Installed) -> Iterator[None]:
    """A member of the group of the worker, and one of the group of the judge."""
    settings = installed.settings
    with ExitStack() as joined:
        joined.enter_context(member(settings, settings.prep_group, settings.topics.requests.name))
        joined.enter_context(member(settings, settings.judge_group, settings.topics.batches.name))
        yield


@contextmanager
def member(settings: Settings, group: str, topic: str) -> Iterator[None]:
    consumer = Consumer({"bootstrap.servers": settings.bootstrap_servers, "group.id": group})
    consumer.subscribe([topic])
    with closing(consumer):
        until(lambda: consumer.poll(0.1) or consumer.assignment())
        yield


@dataclass(frozen=True)
class Fault:
    """A planted fault: how a run is given otherwise, its exit code, and what its only line begins with and advises."""

    exit_code: int
    says: str
    remedy: str
    options: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)
    plant: Callable[[Path], object] = lambda root: None
    is_probed: bool = False


def remove(name: str) -> Callable[[Path], object]:
    return lambda root: (root / name).unlink()


def keep(folder: str, count: int) -> Callable[[Path], object]:
    """Leave only the first files of a folder of inputs, with their grades."""

    def plant(root: Path) -> None:
        for file in sorted((root / folder).iterdir())[count:]:
            file.unlink()
        if folder == "anchors":
            rows = (root / "grades.csv").read_text().splitlines(keepends=True)
            (root / "grades.csv").write_text("".join(rows[: count + 1]))

    return plant


AWAY = f"127.0.0.1:{free_port()}"
OWN_MODELS = {"CJSTREAM_MODELS_FILE": "{data}/models.json"}
PRICED = ("--judge", "school/priced", "--max-cost", "1")
FAULTS = {
    "a topic is missing": Fault(
        3,
        "topics: other-assessment.instructions.v1 is missing",
        "run `cjstream topics apply`",
        variables={"CJSTREAM_TOPIC_PREFIX": "other-"},
    ),
    "the API is down": Fault(
        4, f"API: cannot reach http://{AWAY}", "`cjstream api`", ("--base-url", f"http://{AWAY}")
    ),
    "nobody is signed in": Fault(
        1,
        "role: look at the anchors: 401",
        "`cjstream admin login`",
        (),
        {"CJ_ADMIN_TOKEN": "nobody"},
    ),
    "the role may not write": Fault(
        1,
        "role: look at the anchors: 403",
        "as administrator",
        variables={"CJ_ADMIN_TOKEN": hs256(roles=["auditor"])},
    ),
    "a required text is missing": Fault(
        3, f"readiness: {NEW} would have no judge_rubric", "give the", plant=remove("rubric.txt")
    ),
    "the assignment has another scale": Fault(
        3,
        f"scale: {OTHER} has the scale eng5_np_legacy_9_step, the run {SCALE}",
        "--scale",
        ("--assignment-id", OTHER),
    ),
    "too few anchors": Fault(
        3, "anchors: 2 anchors of 2 grades", "give 3 to 200", plant=keep("anchors", 2)
    ),
    "too few pupils": Fault(
        3, "students: 1 texts of students, 2 are needed", "needed", plant=keep("students", 1)
    ),
    "too many texts": Fault(
        3,
        "the judge refuses the batch: too_many_items",
        "CJSTREAM_JUDGE_ITEMS_MAX",
        variables={"CJSTREAM_JUDGE_ITEMS_MAX": "5"},
    ),
    "the model is unknown": Fault(
        2,
        "llm_config_overrides.model_override: unknown_model",
        "`cjstream models list`",
        ("--judge", "openai/gpt-1", "--max-cost", "1"),
    ),
    "the price is missing": Fault(
        2,
        "llm_config_overrides.judging.max_cost_usd: price_unknown",
        "`cjstream models prices`",
        ("--judge", "school/unpriced", "--max-cost", "1"),
        OWN_MODELS,
    ),
    "no limit of cost": Fault(
        2,
        "--max-cost: school/priced is paid for",
        "say how many US dollars",
        ("--judge", "school/priced"),
        OWN_MODELS,
    ),
    "the assignment id is none": Fault(
        2, "--assignment-id: not an id", "a slash", ("--assignment-id", "a/b")
    ),
    "the scale is unknown": Fault(
        2, "--scale: unknown grade scale", "the scales are eng5_np", ("--scale", "ninths")
    ),
    "the key is missing": Fault(
        2, "key: SCHOOL_KEY is not set", "set it", PRICED, OWN_MODELS, is_probed=True
    ),
    "the folder cannot be written": Fault(
        1, "folder: ", "name another folder", ("--folder", "{data}/models.json/run")
    ),
}
SLOW_FAULTS = {  # which is only found after seconds
    "the broker is away": Fault(
        4,
        f"broker: no Kafka broker answers at {AWAY}",
        "start Kafka",
        variables={"CJSTREAM_BOOTSTRAP_SERVERS": AWAY},
    ),
}


def checked(
    installed: Installed, folder: Path, fault: Fault, command: str = "preflight"
) -> tuple[int, list[str], str]:
    """Exit code, lines about faults and stdout of a command on inputs with this fault."""
    root, settings = folder / "inputs", installed.settings
    write_files(root, research_inputs(4, 6)[0])
    fault.plant(root)

    def filled(value: str) -> str:
        return value.replace("{data}", str(settings.data_dir))

    variables = {
        "CJ_ADMIN_TOKEN": hs256(),
        "CJ_ADMIN_BASE_URL": installed.api.url,
        "CJSTREAM_JUDGE": "simulated/sim-1",
        **{name: filled(value) for name, value in fault.variables.items()},
    }
    options = ("--root", str(root), "--scale", SCALE, "--label", NEW)
    given = (*options, "--folder", str(folder / "run"), *map(filled, fault.options))
    probe = ("--probe",) if fault.is_probed else ()
    code, shown, messages = run_main(
        environment_of(settings, **variables), "run", command, *given, *probe
    )
    lines = [
        line.removeprefix("cjstream: ")
        for line in messages.splitlines()
        if line.startswith("cjstream: ")
    ]
    return code, lines, shown


def assert_nothing_was_sent(installed: Installed, folder: Path) -> None:
    settings = installed.settings
    requests = settings.partitions_of(settings.topics.requests)
    assert set(high_watermarks_when_reachable(settings, requests).values()) == {0}
    route = f"/admin/v1/assessment-instructions/assignment/{NEW}"
    assert installed.api("GET", route).status_code == 404
    assert not (folder / "run").exists()


@pytest.mark.usefixtures("members")
def test_an_installation_that_lacks_nothing_passes(installed: Installed, tmp_path: Path) -> None:
    code, lines, shown = checked(installed, tmp_path, Fault(0, "", ""))
    assert (code, lines, "NOT OK" in shown) == (0, [], False)
    names = ("broker", "topics", "worker", "judge", "API", "role", "content", "readiness", "scale")
    assert all(name in shown for name in (*names, "anchors", "price", "folder"))
    assert_nothing_was_sent(installed, tmp_path)


def check_fault(installed: Installed, folder: Path, fault: Fault) -> None:
    code, lines, _ = checked(installed, folder, fault)
    (line,) = lines
    assert (code, line.startswith(fault.says), fault.remedy in line) == (
        fault.exit_code,
        True,
        True,
    ), line
    if not fault.is_probed:
        assert checked(installed, folder, fault, "execute")[:2] == (code, lines)
    assert_nothing_was_sent(installed, folder)


@pytest.mark.usefixtures("members")
@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_named_with_its_remedy_before_anything_is_sent(
    installed: Installed, tmp_path: Path, name: str
) -> None:
    check_fault(installed, tmp_path, FAULTS[name])


@pytest.mark.usefixtures("members")
@pytest.mark.parametrize("adapter", ["openai_chat", "anthropic_messages"])
def test_the_probe_asks_the_judge_and_says_what_it_cost(
    installed: Installed, tmp_path: Path, adapter: str
) -> None:
    with judge_server() as server:
        (provider,) = UNPRICED["providers"]
        base_url = f"{server.url}/v1" if adapter == "openai_chat" else server.url
        own = {**provider, "adapter": adapter, "base_url": base_url}
        models = tmp_path / "models.json"
        models.write_text(json.dumps({"providers": [own]}))
        variables = {"CJSTREAM_MODELS_FILE": str(models), "SCHOOL_KEY": KEY}
        probed = Fault(0, "", "", PRICED, variables, is_probed=True)
        code, lines, shown = checked(installed, tmp_path, probed)
        assert (code, lines, len(server.requests)) == (0, [], 5)  # all of the first wave
        assert "5 of 5 answered, 0.0000" in shown
        wrong = Fault(1, "", "", PRICED, {**variables, "SCHOOL_KEY": "wrong"}, is_probed=True)
        code, lines, _ = checked(installed, tmp_path, wrong)
        (line,) = lines
        assert line.startswith("probe: 0 of 5 answered, 0.000000000000 USD; 5 provider_refused: ")
        assert (code, "a wrong key" in line) == (1, True)
    assert_nothing_was_sent(installed, tmp_path)


@pytest.mark.thorough
@pytest.mark.usefixtures("members")
@pytest.mark.parametrize("name", SLOW_FAULTS)
def test_so_is_one_that_is_only_found_after_seconds(
    installed: Installed, tmp_path: Path, name: str
) -> None:
    check_fault(installed, tmp_path, SLOW_FAULTS[name])


@pytest.mark.thorough
@pytest.mark.usefixtures("members")
def test_a_content_store_that_is_gone_is_named(installed: Installed, tmp_path: Path) -> None:
    content = installed.settings.data_dir / "content"
    content.rename(content.with_name("elsewhere"))
    try:
        check_fault(installed, tmp_path, Fault(4, "content: POST ", "`cjstream doctor`"))
    finally:
        content.with_name("elsewhere").rename(content)


def test_without_worker_and_judge_both_are_named(broker: Broker, tmp_path: Path) -> None:
    settings = installation(broker, tmp_path / "data", patience_s=0)
    with ready_api(settings) as api:
        code, lines, _ = checked(Installed(settings, api), tmp_path, Fault(4, "", ""))
    assert (code, [line.split(":")[0] for line in lines]) == (4, ["worker", "judge"])
    for line, command in zip(lines, ("worker", "judge"), strict=True):
        assert "has no member" in line
        assert f"start one: `cjstream {command}`" in line
