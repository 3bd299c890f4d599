"""`cjstream topics`: the catalogue against the cluster."""

from processors.clients import admin_client
from processors.cluster import TopicState, apply_topics, reach, topic_states
from processors.settings import Settings
from processors.waiting import metadata_answers, wait_until
from tools.progress import waiting_for


def listed(settings: Settings) -> list[TopicState]:
    """Every topic as it is."""
    return topic_states(admin_client(settings), settings)


def applied(settings: Settings, *, wait_s: float) -> list[TopicState]:
    """Every topic, those that were missing created; waits for a broker up to wait_s seconds."""
    if wait_s > 0:
        with waiting_for(f"a broker at {settings.bootstrap_servers}"):
            wait_until(
                lambda: metadata_answers(settings.bootstrap_servers),
                seconds=wait_s,
                what=f"a broker at {settings.bootstrap_servers}",
                every_s=1.0,
            )
    admin = admin_client(settings)
    reach(admin, settings)
    return apply_topics(admin, settings)
