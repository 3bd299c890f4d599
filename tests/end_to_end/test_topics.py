"""Creating the catalogue's topics on a cluster."""

import pytest

from processors.kafka.clients import admin_client
from processors.kafka.topic_admin import create_topics, topic_states
from processors.settings import Settings
from schemas.errors import Unreachable


def test_a_replication_factor_above_the_number_of_brokers_is_a_one_line_error(
    settings: Settings,
) -> None:
    elsewhere = settings.model_copy(update={"topic_prefix": f"{settings.topic_prefix}more-"})
    admin, requests = admin_client(elsewhere), elsewhere.topics.requests
    with pytest.raises(Unreachable, match=rf"{requests.name} was not created: .*fewer brokers"):
        create_topics(admin, elsewhere, [requests], 3)
    assert not any(state.topic_id for state in topic_states(admin, elsewhere))
