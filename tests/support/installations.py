"""Installations of tests on a running broker: their topics, and changes to the configuration of one."""

from pathlib import Path
from typing import Any
from uuid import uuid4

from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from processors.kafka.clients import admin_client
from processors.kafka.topic_admin import apply_topics
from processors.settings import Settings
from tools.broker import Broker


def installation(broker: Broker, folder: Path, **overrides: Any) -> Settings:
    """A new installation with its topics, apart from all others on the broker by its prefix."""
    settings = Settings(
        bootstrap_servers=broker.bootstrap,
        topic_prefix=f"{uuid4().hex[:8]}-",
        data_dir=folder,
        **overrides,
    )
    apply_topics(admin_client(settings), settings)
    return settings


def configure_topic(settings: Settings, topic: str, **config: object) -> None:
    """Change the configuration of a topic away from the catalogue's; names have _ for the dot."""
    entries = [
        ConfigEntry(name.replace("_", "."), str(value), incremental_operation=AlterConfigOpType.SET)
        for name, value in config.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    admin = admin_client(settings)  # must stay alive until it has answered
    (future,) = admin.incremental_alter_configs([resource]).values()
    future.result(30)


def allow_compressed_batches(settings: Settings) -> None:
    """Configure the topics as earlier releases did: batches are stored as they come, of any decompressed size."""
    for topic in settings.topics.all:
        configure_topic(settings, topic.name, compression_type="producer")
