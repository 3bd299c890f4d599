"""A real schema registry, Apicurio, as a process on loopback that keeps its data in memory."""

import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from processors.kafka.bounded_wait import wait_until
from schemas.errors import Unreachable
from tools.broker import free_port
from tools.jars import ensure_jars, listed_jars
from tools.java import find_java

CONFLUENT = "/apis/ccompat/v7"
OWN = "/apis/registry/v3"
OLDEST_JAVA = 21
START_S = 240


@contextmanager
def apicurio(data_dir: Path) -> Iterator[str]:
    """Run a registry and yield its address; its archive is downloaded once and cached in data_dir.

    Raises Unreachable if the archive cannot be downloaded or the registry does not start.
    """
    (archive,) = listed_jars("registry")
    archive_path = ensure_jars(data_dir.resolve() / "registry", (archive,)) / archive.file_name
    with tempfile.TemporaryDirectory(prefix="cjstream-registry-") as folder:
        with tarfile.open(archive_path) as packed:
            packed.extractall(folder, filter="data")
        url = f"http://127.0.0.1:{free_port()}"
        log_path = Path(folder) / "registry.log"
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                [
                    find_java(os.environ, min_version=OLDEST_JAVA),
                    "-Xmx384m",
                    # for a fast start, not for a long run
                    *("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"),
                    "-Dquarkus.http.host=127.0.0.1",
                    f"-Dquarkus.http.port={httpx.URL(url).port}",
                    *("-jar", "quarkus-run.jar"),
                ],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            wait_until(
                lambda: _is_ready(url, process, log_path), seconds=START_S, what="the registry"
            )
            yield url
        finally:
            process.kill()
            process.wait()


def _is_ready(url: str, process: "subprocess.Popen[bytes]", log_path: Path) -> bool:
    if process.poll() is not None:
        last_lines = log_path.read_text(errors="replace").splitlines()[-3:]
        raise Unreachable(f"the registry process ended: {' '.join(last_lines)[:300]}")
    try:
        return httpx.get(f"{url}{CONFLUENT}/subjects", timeout=5).is_success
    except httpx.TransportError:
        return False
