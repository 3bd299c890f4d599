"""`cjstream topics acls`: the rights that each process needs, as `kafka-acls.sh` takes them."""

import shlex
from collections.abc import Iterator

from processors.kafka.rights import PROCESSES, Process, Right, rights_of
from processors.settings import Settings
from schemas.errors import Misconfigured
from tools.printing import print_json, print_line

OPTIONS = {"topic": "--topic", "group": "--group", "transactional-id": "--transactional-id"}


def show(settings: Settings, process: str | None, principal: str | None, *, as_json: bool) -> None:
    """Print the rights of one process, or of all."""
    chosen = [name for name in PROCESSES if process in (None, name)]
    if not chosen:
        raise Misconfigured(f"--process: one of {', '.join(PROCESSES)}")
    rights = {name: rights_of(name, settings) for name in chosen}
    if as_json:
        print_json(
            {
                "acls": [
                    {
                        "process": name,
                        "resource": right.kind,
                        "name": right.name,
                        "pattern": "prefixed" if right.is_prefix else "literal",
                        "operations": right.operations,
                    }
                    for name in chosen
                    for right in rights[name]
                ]
            }
        )
        return
    for name in chosen:
        user = principal or f"User:cjstream-{name}"
        for line in commands_of(name, rights[name], user, settings):
            print_line(line)


def commands_of(
    process: Process, rights: list[Right], principal: str, settings: Settings
) -> Iterator[str]:
    """One command of Kafka for each resource, for a shell."""
    yield f"# {process}: {PROCESSES[process]}"
    for right in rights:
        words = ["kafka-acls.sh", "--bootstrap-server", settings.bootstrap_servers]
        words += ["--add", "--allow-principal", principal]
        for operation in right.operations:
            words += ["--operation", "".join(word.title() for word in operation.split("_"))]
        words += ["--cluster"] if right.kind == "cluster" else [OPTIONS[right.kind], right.name]
        if right.is_prefix:
            words += ["--resource-pattern-type", "prefixed"]
        yield shlex.join(words)
