"""The broker's jars: fetched by jgo into its cache, and checked against a checked-in list of sha256 sums.

The list also has the jars of Kafka Streams, which a benchmark runs, and of a schema registry and its Java
deserializer, which tests run. `python -m tools.jars
--write` recreates the list by resolving the dependencies.
"""

import csv
import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from schemas.errors import Misconfigured, Unreachable
from tools.progress import bar

LIST = Path(__file__).with_name("broker.jars.tsv")
KAFKA_VERSION = "4.4.0"
KAFKA = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}"
LOGGING = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.5"  # for slf4j 1.7: not slf4j2-impl
# Kafka 4.4.0 was published without its console tools; the last published ones need classes of their own version.
TOOLS = tuple(
    f"org.apache.kafka:{name}:4.3.1"
    for name in ("kafka-tools", "kafka-tools-api", "kafka-server-common", "kafka-clients")
)
# what `bench join` compares with, and the compiler of its program: a Java runtime has none
STREAMS = (f"org.apache.kafka:kafka-streams:{KAFKA_VERSION}", "org.eclipse.jdt:ecj:3.43.0")
REGISTRY = "io.apicurio:apicurio-registry-app:3.3.3:all:tar.gz"
SERDE = "io.apicurio:apicurio-registry-avro-serde-kafka:3.1.7"  # the newest release


@dataclass(frozen=True, slots=True)
class Jar:
    """One line of the list.

    Its part is "broker", "tools" for jars that only the Java console tools need, "streams" for those of the
    benchmark's Kafka Streams program, "registry" for the archive of the schema registry, or "serde" for jars that only
    the registry's deserializer needs.
    """

    coordinates: str  # group:artifact:version, and :classifier:type unless it is a plain jar
    file_name: str
    sha256: str  # hex
    part: str


Fetch = Callable[[Jar], Path]
Source = Callable[[], AbstractContextManager[Fetch]]


def listed_jars(part: str, path: Path = LIST) -> tuple[Jar, ...]:
    """The jars of a part in the checked-in list: tab-separated, one jar per line."""
    with path.open(encoding="utf-8", newline="") as lines:
        jars = (Jar(*row) for row in csv.reader(lines, delimiter="\t"))
        return tuple(jar for jar in jars if jar.part == part)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file; it is released at the latest when the process ends."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def jgo_cache() -> Iterator[Fetch]:
    """Fetch exactly the jar with these coordinates, without its dependencies, through jgo and its cache.

    The lock is needed because jgo writes directly into its cache and assumes that every file there is complete.
    """
    from jgo.maven import MavenContext  # the import takes 0.7 s, so only if a jar is missing

    context = MavenContext(timeout=60)
    context.repo_cache.mkdir(parents=True, exist_ok=True)
    with locked(context.repo_cache / ".cjstream.lock"):
        yield lambda jar: _resolve(context, jar.coordinates)


def _resolve(context: Any, coordinates: str) -> Path:
    group, artifact, version, *kind = coordinates.split(":")
    component = context.project(group, artifact).at_version(version)
    return Path(component.artifact(*kind or ("", "jar")).resolve())


def ensure_jars(folder: Path, jars: tuple[Jar, ...], source: Source = jgo_cache) -> Path:
    """The folder with all of these jars, each with the listed sum; only missing or damaged jars are fetched.

    Raises Unreachable if a jar cannot be fetched, Misconfigured if its sum is wrong.
    """
    missing = [jar for jar in jars if not _is_intact(folder / jar.file_name, jar)]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        with source() as fetch:
            _copy_all(missing, folder, fetch)
    return folder


def _copy_all(jars: list[Jar], folder: Path, fetch: Fetch) -> None:
    def copy(jar: Jar) -> None:
        partial = folder / f".{jar.file_name}.{os.getpid()}"
        shutil.copyfile(_fetched(jar, fetch), partial)
        partial.replace(folder / jar.file_name)

    with ThreadPoolExecutor(max_workers=8) as pool:
        for _ in bar(pool.map(copy, jars), "fetching Kafka", total=len(jars)):
            pass


def _fetched(jar: Jar, fetch: Fetch) -> Path:
    """The jar's file; a file that an interrupted download left in the cache is fetched again, once."""
    path = _try(jar, fetch)
    if not _is_intact(path, jar):
        path.unlink(missing_ok=True)
        path = _try(jar, fetch)
    if not _is_intact(path, jar):
        raise Misconfigured(
            f"{jar.coordinates} refused: its sha256 is {_sha256(path)}, not {jar.sha256} as listed"
        )
    return path


def _try(jar: Jar, fetch: Fetch) -> Path:
    try:
        return fetch(jar)
    except (OSError, RuntimeError, AssertionError) as fault:
        raise Unreachable(f"{jar.coordinates} cannot be fetched: {type(fault).__name__}") from fault


def _is_intact(path: Path, jar: Jar) -> bool:
    return path.is_file() and _sha256(path) == jar.sha256


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _resolved() -> Iterator[Jar]:
    """The jars that Kafka, its logging, the tools, the registry and its deserializer need at run time.

    Kafka is resolved separately: if everything is resolved at once, jgo 3.2 applies log4j's pinned versions to Kafka.
    """
    from jgo.maven import MavenContext

    context = MavenContext(timeout=60)
    kafka, needed = context.resolver.resolve([context.create_dependency(KAFKA)])
    serde, needed_by_serde = context.resolver.resolve([context.create_dependency(SERDE)])
    parts = {
        "broker": [*kafka, *needed, context.create_dependency(LOGGING)],
        "tools": [context.create_dependency(coordinates) for coordinates in TOOLS],
        "streams": [context.create_dependency(coordinates) for coordinates in STREAMS],
        "serde": [*serde, *needed_by_serde],
    }
    listed = set[str]()
    for part, found in parts.items():
        for artifact in (dependency.artifact for dependency in found):
            name = f"{artifact.groupId}:{artifact.artifactId}"
            if part == "serde" and name in listed:
                continue
            listed.add(name)
            path = Path(artifact.resolve())
            yield Jar(f"{name}:{artifact.version}", artifact.filename, _sha256(path), part)
    archive = _resolve(context, REGISTRY)
    yield Jar(REGISTRY, archive.name, _sha256(archive), "registry")


def write_list(path: Path = LIST) -> None:
    """Resolve Kafka again and write the list; the diff shows what changed upstream."""
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, delimiter="\t", lineterminator="\n")
        rows.writerows(sorted(astuple(jar) for jar in _resolved()))


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python -m tools.jars --write")
    write_list()
