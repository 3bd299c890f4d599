"""The fold of a long log takes little memory: few chunks of uploads wait for their agent."""

import asyncio
from pathlib import Path
from typing import Any, cast

from processors.fold.faust_app import build_app
from processors.fold.fold_agents import WAITING_CHUNKS, add_folding
from processors.settings import Settings
from schemas.codec import Codec
from schemas.topics import Topics
from tables.replica import ContextReplica
from tables.store import MemoryStore
from tables.upload_record import UploadTopics


async def refuse(*_: Any) -> None:
    raise AssertionError("nothing is folded")


def test_few_chunks_of_an_upload_topic_wait(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, bootstrap_servers="127.0.0.1:1")
    topics = UploadTopics({topic.name: topic for topic in Topics().uploads}, settings.partitions)
    replica = ContextReplica(MemoryStore(), Codec(), topics)

    async def waiting() -> list[int]:
        app = build_app(settings)
        add_folding(app, settings, Codec(), replica, refuse, print, refuse)
        streams = [agent.channel.clone(is_iterator=True) for agent in app.agents.values()]
        return [cast(Any, stream).queue.maxsize for stream in streams]

    assert asyncio.run(waiting()) == [WAITING_CHUNKS] * len(topics.by_name)
