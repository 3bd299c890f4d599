"""`cjstream topics`: the catalogue compared with the cluster."""

from processors.kafka.bounded_wait import wait_until
from processors.kafka.clients import admin_client, common_config
from processors.kafka.topic_admin import (
    TopicState,
    apply_topics,
    count_brokers,
    metadata_answers,
    topic_states,
)
from processors.settings import Settings
from tools.progress import say, waiting_for


def list_topics(settings: Settings) -> list[TopicState]:
    """The state of every topic of the catalogue."""
    states = topic_states(admin_client(settings), settings)
    _warn(states)
    return states


def apply(settings: Settings, *, wait_s: float) -> list[TopicState]:
    """Create the missing topics and return the state of every topic; waits for a broker up to wait_s seconds."""
    if wait_s > 0:
        with waiting_for(f"a broker at {settings.bootstrap_servers}"):
            wait_until(
                lambda: metadata_answers(common_config(settings)),
                seconds=wait_s,
                what=f"a broker at {settings.bootstrap_servers}",
                every_s=1.0,
            )
    admin = admin_client(settings)
    count_brokers(admin, settings)
    _warn(topic_states(admin, settings))  # before a contradiction raises an error
    return apply_topics(admin, settings)


def _warn(states: list[TopicState]) -> None:
    for state in states:
        for warning in state.warnings:
            say(f"warning: audit horizon: {state.topic.name}: {warning}")
