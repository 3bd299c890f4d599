"""Installations in the environments of real people: paths, locales, addresses, terminals."""

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.run_command import ROOT
from tests.support.scraping import Scraped
from tests.support.until import until
from tools.api_address import FILE
from tools.broker import free_port

CLI = [sys.executable, "-P", "-m", "tools"]
HOSTILE = {
    "LC_ALL": "C",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "https_proxy": "no://proxy:at:all",
    "ALL_PROXY": "socks5://127.0.0.1:9",
    "SSL_CERT_FILE": "/no/such/file",
    "CJSTREAM_API_PORT": "tcp://10.0.0.1:9095",
    "PROMETHEUS_MULTIPROC_DIR": "/no/such/folder",
    "WEB_CONCURRENCY": "many",
    "WEB_PORT": "tcp://10.0.0.1:80",
}
TURKISH = "-XX:TieredStopAtLevel=1 -Duser.language=tr -Duser.country=TR"
HAS_IPV6 = socket.has_ipv6 and Path("/proc/net/if_inet6").exists()


@pytest.fixture(params=["å ä, b:c", "日本 語", "it's 50% \\ $HOME = !"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A data folder with the broker's jars."""
    folder = tmp_path / str(request.param)
    folder.mkdir()
    (folder / "kafka-libs").symlink_to(ROOT / ".cjstream" / "kafka-libs")
    return folder


def environment(folder: Path, **variables: str) -> dict[str, str]:
    foreign = ("CJSTREAM_", "CJ_", "JWT_")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(foreign) and k != "HOME"}
    own = {"PYTHONPATH": str(ROOT), "CJSTREAM_DATA_DIR": str(folder), "TMPDIR": str(folder)}
    return inherited | own | variables


def command(variables: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CLI, *arguments],
        env=variables,
        cwd=variables["CJSTREAM_DATA_DIR"],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


@pytest.mark.thorough
def test_a_broker_finds_its_data_again_in_any_folder_and_locale(folder: Path) -> None:
    own = environment(
        folder,
        LC_ALL="C",
        CJSTREAM_BOOTSTRAP_SERVERS=f"127.0.0.1:{free_port()}",
        JDK_JAVA_OPTIONS=TURKISH,
    )
    try:
        assert command(own, "broker", "start").returncode == 0
        # without the address: commands find the broker by the data folder
        assert command(environment(folder), "topics", "apply").returncode == 0
        assert (folder / "broker" / "data" / "meta.properties").exists()
        assert command(own, "broker", "stop").returncode == 0
        assert command(own, "broker", "start").returncode == 0
        listed = command(own, "topics", "list", "--json")
        assert listed.returncode == 0, listed.stderr
    finally:
        command(own, "broker", "stop")
    assert json.loads(command(own, "broker", "status", "--json").stdout)["running"] is False


@pytest.mark.thorough
@pytest.mark.parametrize("folder", ["å ä, b"], indirect=True)
def test_the_demo_runs_in_a_hostile_environment(folder: Path) -> None:
    done = command(environment(folder, **HOSTILE), "demo", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verified"] is True


@pytest.fixture
def terminal(folder: Path) -> Iterator[tuple[int, int, dict[str, str]]]:
    """`up` on a terminal: its process, the terminal and the environment of other commands."""
    host = "[::1]" if HAS_IPV6 else "127.0.0.1"
    own = environment(
        folder,
        **HOSTILE,
        HOME="/proc/nowhere",
        CJSTREAM_ENVIRONMENT="development",
        CJSTREAM_BOOTSTRAP_SERVERS=f"{host}:{free_port()}",
        CJ_ADMIN_TOKEN_PATH=str(folder / "token.json"),
    )
    address = {"CJSTREAM_API_HOST": host.strip("[]"), "CJSTREAM_API_PORT": str(free_port())}
    process, descriptor = pty.fork()
    if process == 0:
        os.chdir(folder)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # `nohup` for the tests must not reach it
        os.execve(CLI[0], [*CLI, "up"], {**own, **address})
    try:
        yield process, descriptor, own
    finally:
        command(own, "broker", "stop")
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(process, 9)
            os.waitpid(process, 0)


@pytest.mark.thorough
@pytest.mark.timeout(400)
@pytest.mark.parametrize("folder", ["å ä, b"], indirect=True)
@pytest.mark.parametrize("is_killed", [False, True])
def test_up_says_where_its_metrics_are_and_leaves_nothing_behind_after_a_closed_terminal_or_a_kill(
    folder: Path, terminal: tuple[int, int, dict[str, str]], is_killed: bool
) -> None:
    process, descriptor, own = terminal
    os.set_blocking(descriptor, False)
    shown = bytearray()

    def is_up() -> bool:
        with suppress(BlockingIOError):
            while piece := os.read(descriptor, 65_536):
                shown.extend(piece)
        # without the port: commands find the API by the data folder
        return (folder / FILE).exists() and not command(
            own, "admin", "whoami", "--check"
        ).returncode

    until(is_up, 120)
    for name in ("worker", "judge"):
        found = re.search(
            rf"the {name}'s metrics and health will be on http://(\S+)",
            shown.decode(errors="replace"),
        )
        assert found is not None
        Scraped(found[1]).wait_until_ready()
    second = command(own, "up")
    assert (second.returncode, "another `cjstream up` runs" in second.stderr) == (2, True)
    if is_killed:
        os.kill(process, signal.SIGKILL)
    else:
        os.close(descriptor)
    # each of its processes has 15 s for its end, and then the broker
    until(lambda: os.waitpid(process, os.WNOHANG)[0] == process, 120)
    if is_killed:  # else it has ended what it started
        until(lambda: not processes_of(folder), 60)
    assert json.loads(command(own, "broker", "status", "--json").stdout)["running"] is False
    assert processes_of(folder) == []


def processes_of(folder: Path) -> list[str]:
    """The ids of the processes that use this data folder."""
    return [
        path.parent.name
        for path in Path("/proc").glob("[0-9]*/environ")
        if _environment_of(path).get("CJSTREAM_DATA_DIR") == str(folder)
    ]


def _environment_of(path: Path) -> dict[str, str]:
    with suppress(OSError):
        variables = path.read_bytes().decode(errors="replace").split("\0")
        return dict(variable.split("=", 1) for variable in variables if "=" in variable)
    return {}
