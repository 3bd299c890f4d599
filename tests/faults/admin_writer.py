"""An instance of the API's log as a process: one JSON line in, one out, on `api_port`."""

import asyncio
import os
from typing import Any

import orjson

from processors.admin import AdminLog
from processors.app import build_admin
from processors.settings import settings_from_environment
from schemas.errors import CJStreamError, VersionConflict
from schemas.events import AssignmentContext
from tables.changes import Change, NewInstructions, TextRef, Writing
from tables.context import live
from tables.tags import Condition, tag_of
from tests.builders import sha256_of

Said = dict[str, Any]
WRITING = Writing(actor="admin", correlation_id="c-9", occurred_at_ms=1_800_000_000_000)


def give_up(fault: BaseException) -> None:
    """What cannot go on ends."""
    os._exit(1)


def change(said: Said) -> Change:
    """New instructions of an assignment, if it is at the tag that was seen."""
    sha256 = sha256_of(said["text"])
    text = TextRef(storage_id=sha256, sha256=sha256, media_type="text/plain", size_bytes=1)
    return Change(
        assignment_id=said["assignment"],
        course_id=None,
        instructions=NewInstructions(text=text, grade_scale="swedish_8_anchor"),
        condition_on="instructions",
        condition=Condition(if_match=(said["seen"],)) if said["seen"] else Condition(),
    )


def told(context: AssignmentContext | None) -> Said:
    """Tag and text of what lives."""
    component = live(context, "instructions")
    return {"tag": str(tag_of(component)), "sha256": component and component.sha256}


async def answer(log: AdminLog, said: Said) -> Said:
    """What became of one line."""
    match said["do"]:
        case "ready":
            return {"ready": all(log.ready().values())}
        case "fenced":
            return {"fenced": log.fenced}
        case "read":
            return told((await log.read(f"assignment:{said['assignment']}")).context)
    try:
        written = await log.write(change(said), WRITING)
    except VersionConflict as refusal:
        return {"refused": refusal.current_tag}
    return told(written.context)


async def serve(log: AdminLog, port: int) -> None:
    """Answer line by line until the process is ended."""

    async def heard(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            try:
                said = await answer(log, orjson.loads(line))
            except CJStreamError as fault:
                said = {"fault": type(fault).__name__}
            writer.write(orjson.dumps(said) + b"\n")
            await writer.drain()

    async with await asyncio.start_server(heard, "127.0.0.1", port) as server:
        await server.serve_forever()


async def main() -> None:
    """Run one instance."""
    settings = settings_from_environment()
    log = build_admin(settings, give_up)
    await log.start()
    await serve(log, settings.api_port)


if __name__ == "__main__":
    asyncio.run(main())
