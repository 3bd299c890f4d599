"""A real schema registry, Apicurio, as a process on loopback: it keeps everything in memory."""

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
    """Its address while the block lasts; data_dir is where its archive is kept, so that it is fetched once.

    Raises Unreachable where it cannot be fetched, or does not come up.
    """
    (archive,) = listed_jars("registry")
    kept = ensure_jars(data_dir.resolve() / "registry", (archive,)) / archive.file_name
    with tempfile.TemporaryDirectory(prefix="cjstream-registry-") as folder:
        with tarfile.open(kept) as packed:
            packed.extractall(folder, filter="data")
        url = f"http://127.0.0.1:{free_port()}"
        said = Path(folder) / "registry.log"
        with said.open("wb") as log:
            process = subprocess.Popen(
                [
                    find_java(os.environ, min_version=OLDEST_JAVA),
                    "-Xmx384m",
                    *(
                        "-XX:TieredStopAtLevel=1",
                        "-XX:+UseSerialGC",
                    ),  # it is to start soon, not to run long
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
            wait_until(lambda: _answers(url, process, said), seconds=START_S, what="the registry")
            yield url
        finally:
            process.kill()
            process.wait()


def _answers(url: str, process: "subprocess.Popen[bytes]", said: Path) -> bool:
    if process.poll() is not None:
        last = said.read_text(errors="replace").splitlines()[-3:]
        raise Unreachable(f"the registry ended by itself: {' '.join(last)[:300]}")
    try:
        return httpx.get(f"{url}{CONFLUENT}/subjects", timeout=5).is_success
    except httpx.TransportError:
        return False
