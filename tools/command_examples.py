"""An example of each command, which its --help ends with."""

import typer
from typer.main import get_command_name

from schemas.topics import Topics

TOPICS = Topics()
EXAMPLES = {
    "worker": "CJSTREAM_SLOT=one cjstream worker",
    "judge": "CJSTREAM_JUDGE=simulated/sim-1 cjstream judge",
    "api": "CJSTREAM_API_PORT=9095 cjstream api",
    "doctor": "cjstream doctor --json",
    "up": "cjstream up",
    "demo": "cjstream demo",
    "broker start": "cjstream broker start",
    "broker stop": "cjstream broker stop",
    "broker status": "cjstream broker status --json",
    "topics list": "cjstream topics list",
    "topics apply": "cjstream topics apply --wait 60",
    "topics acls": "cjstream topics acls --process worker --principal User:cjstream",
    "topics abort-transaction": f"cjstream topics abort-transaction {TOPICS.requests.name}/2 --producer-id 7 --yes",
    "uploads send": "cjstream uploads send uploads.jsonl --dry-run",
    "uploads set-aside": f"cjstream uploads set-aside {TOPICS.instructions.name}/1@17 --yes",
    "requests send": "cjstream requests send requests.jsonl",
    "requests reset-offsets": "cjstream requests reset-offsets --yes",
    "batches tail": "cjstream batches tail --all --limit 20",
    "batches reset-offsets": "cjstream batches reset-offsets --yes",
    "content sweep": "cjstream content sweep --grace 30d",
    "admin login": "cjstream admin login --email ada@example.org",
    "admin logout": "cjstream admin logout",
    "admin whoami": "cjstream admin whoami --check",
    "admin token dev": "cjstream admin token dev --role admin --ttl 1h",
    "admin import": "cjstream admin import assignments.csv --dry-run",
    "admin export": "cjstream admin export assignments.jsonl",
    "admin instructions create": "cjstream admin instructions create --assignment-id essay-1"
    " --grade-scale eng5_np_legacy_9_step --instructions-file criteria.txt --prompt-file task.docx",
    "admin instructions list": "cjstream admin instructions list --page-size 50",
    "admin instructions get": "cjstream admin instructions get essay-1",
    "admin instructions update": "cjstream admin instructions update --assignment-id essay-1"
    " --instructions-file criteria.txt --if-version 3-41",
    "admin instructions delete": "cjstream admin instructions delete --assignment-id essay-1 --yes",
    "admin prompts upload": "cjstream admin prompts upload --assignment-id essay-1 --prompt-file task.docx",
    "admin prompts get": "cjstream admin prompts get essay-1 --output-file task.txt",
    "admin prompts delete": "cjstream admin prompts delete essay-1 --yes",
    "admin rubrics upload": "cjstream admin rubrics upload --assignment-id essay-1 --rubric-file rubric.txt",
    "admin rubrics get": "cjstream admin rubrics get essay-1",
    "admin rubrics delete": "cjstream admin rubrics delete essay-1 --yes",
    "admin anchors upload": "cjstream admin anchors upload --assignment-id essay-1 --anchor-id anchor-7 --grade C+"
    " --essay-file anchor-7.docx",
    "admin anchors import": "cjstream admin anchors import --assignment-id essay-1 --dir anchors --grades grades.csv",
    "admin anchors list": "cjstream admin anchors list essay-1",
    "admin anchors delete": "cjstream admin anchors delete essay-1 --anchor-id anchor-7 --yes",
    "admin assignments show": "cjstream admin assignments show essay-1 --require-ready",
    "admin assignments history": "cjstream admin assignments history essay-1",
    "admin scales list": "cjstream admin scales list",
    "parked list": "cjstream parked list",
    "parked restore": f"cjstream parked restore {TOPICS.requests.name}/1@12 --yes",
    "dlq list": "cjstream dlq list --topic requests --since 2h",
    "dlq show": f"cjstream dlq show {TOPICS.requests_dlq.name}/1@3 --value-file record.bin",
    "dlq redrive": "cjstream dlq redrive --reason UnknownSchema --yes",
    "results list": "cjstream results list --limit 20",
    "results show": "cjstream results show batch-1",
    "results explain": "cjstream results explain batch-1 essay-7",
    "results tail": "cjstream results tail --follow",
    "models list": "cjstream models list",
    "models show": "cjstream models show simulated/sim-1",
    "models prices": "cjstream models prices",
    "models check": "cjstream models check overrides.json",
    "run plan": "cjstream run plan --root essays --scale swedish_8_anchor",
    "run preflight": "cjstream run preflight --root essays --scale swedish_8_anchor --judge simulated/sim-1",
    "run dry-run": "cjstream run dry-run --root essays --scale swedish_8_anchor --folder dry",
    "run execute": "cjstream run execute --root essays --scale swedish_8_anchor --label spring-1 --max-cost 2.50",
    "run resume": "cjstream run resume .cjstream/runs/spring-1-0a1b2c3d",
    "run report": "cjstream run report spring-1-0a1b2c3d --folder copy",
    "audit replay": "cjstream audit replay --compare",
    "audit as-of": "cjstream audit as-of assignment:essay-1 --at 2026-03-01T08:00:00Z",
    "audit history": "cjstream audit history assignment:essay-1 --uses",
    "audit batch": "cjstream audit batch batch-1 --texts",
    "audit verify": "cjstream audit verify --from 2026-03-01T00:00:00Z --texts",
    "audit run": "cjstream audit run run-1",
    "audit seal-key": "cjstream audit seal-key --out seal.key",
    "audit seal": "cjstream audit seal --key seal.key --out march.seal",
    "audit erase": "cjstream audit erase assignment:essay-1 --actor ada@example.org --reason-code request",
    "bench join": "cjstream bench join --only cjstream --only copy --rounds 3",
    "bench latency": "cjstream bench latency --rate 100 --seconds 30",
    "bench fold": "cjstream bench fold --rounds 2",
    "bench growth": "cjstream bench growth --max-contexts 100000",
    "bench replica": "cjstream bench replica --times 3",
    "bench release": "cjstream bench release",
    "bench rebalance": "cjstream bench rebalance --times 3",
    "bench recovery": "cjstream bench recovery --times 3",
    "bench api": "cjstream bench api --processes 2",
    "bench audit": "cjstream bench audit",
    "bench judging": "cjstream bench judging --runs 8 --rounds 3",
    "bench report": "cjstream bench report --quick",
}


def add_examples(app: typer.Typer, words: tuple[str, ...] = ()) -> None:
    """Let the --help of each command of the app end with its example."""
    for command in app.registered_commands:
        if command.callback is not None:
            name = command.name or get_command_name(command.callback.__name__)
            example = EXAMPLES.get(" ".join((*words, name)))
            command.epilog = example and f"Example: {example}"
    for group in app.registered_groups:
        if group.typer_instance is not None:
            own = (
                (group.name,) if group.name else ()
            )  # without a name, its commands are the group's
            add_examples(group.typer_instance, (*words, *own))
