"""The Faust app: its settings and its Kafka clients.

Building an app connects to nothing and starts no thread.
"""

import logging
from typing import Any, cast

import faust
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.transport.drivers import aiokafka as driver
from faust.types import AppT
from faust.types.auth import CredentialsT
from faust.types.transports import ConsumerT, ProducerT, TransportT
from yarl import URL

from processors.fold.tracked_consumer import PatientProducer, TrackedConsumer
from processors.kafka.security import aiokafka_security
from processors.kafka_security import KafkaSecurity
from processors.settings import Settings

LOG_LEVELS = {
    # they warn of rebalances, of a full buffer and of a commit that takes a second: all healthy
    "faust": logging.ERROR,
    "mode": logging.ERROR,
    "processors": logging.ERROR,  # Faust names a subclass's logger after its module
    "aiokafka": logging.CRITICAL,  # else fifty lines a second while the broker is away
}
FETCHED_RECORDS = 2000
BUFFERED_RECORDS = 4096


class PatientRecovery(Recovery):
    """Faust's recovery of the table; while brokers are away, it waits.

    By default it ends when the time of a request is up, and nothing starts it again.
    """

    async def _wait(self, coro: Any, timeout: Any = None) -> None:  # noqa: ASYNC109
        await super()._wait(coro)


class PatientTables(TableManager):
    """Faust's tables with `PatientRecovery`."""

    @property
    def recovery(self) -> Recovery:
        """The recovery, made when it is first needed."""
        if self._recovery is None:
            self._recovery = PatientRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery


class TrackedTransport(driver.Transport):
    """Faust's aiokafka transport with `TrackedConsumer` and `PatientProducer`."""

    Consumer = cast(type[ConsumerT], TrackedConsumer)
    Producer = cast(type[ProducerT], PatientProducer)


class CJStreamApp(faust.App):
    """A Faust app on `TrackedTransport`."""

    settings: Settings

    @property
    def tracked_consumer(self) -> TrackedConsumer | None:
        """The consumer; None before it exists. Reading Faust's own `consumer` would create it."""
        return cast(TrackedConsumer | None, self._consumer)

    def _new_transport(self) -> TransportT:
        return TrackedTransport(self.conf.broker_consumer, cast(AppT, self))

    def _new_producer_transport(self) -> TransportT:
        return TrackedTransport(self.conf.broker_producer, cast(AppT, self))

    def _create_directories(self) -> None:
        self.conf.datadir.mkdir(parents=True, exist_ok=True)
        super()._create_directories()


def build_app(settings: Settings) -> CJStreamApp:
    """The Faust app of one worker: its id is the fold's consumer group."""
    for library, level in LOG_LEVELS.items():
        logging.getLogger(library).setLevel(level)
    app = CJStreamApp(
        settings.fold_group,
        broker=[URL(f"kafka://{host.strip()}") for host in settings.bootstrap_servers.split(",")],
        broker_credentials=_credentials(settings.kafka),
        broker_client_id=f"{settings.topic_prefix}cjstream-{settings.slot or 'worker'}",
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=1,
        broker_rebalance_timeout=settings.session_timeout_s,
        broker_request_timeout=settings.session_timeout_s + 5,  # must exceed the session timeout
        broker_max_poll_records=FETCHED_RECORDS,
        broker_commit_interval=1,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=f"{settings.fold_group}-{settings.slot}"
        if settings.slot
        else None,
        processing_guarantee="at_least_once",
        TableManager=PatientTables,
        store="rocksdb://",
        datadir=settings.worker_dir / "faust",
        key_serializer="raw",
        value_serializer="raw",
        stream_buffer_maxsize=BUFFERED_RECORDS,
        stream_wait_empty=False,
        table_standby_replicas=0,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        worker_redirect_stdouts=False,
        env={},  # Faust prefers an environment variable such as APP_DATADIR or WEB_PORT to what is passed here
    )
    app.settings = settings
    app.finalize()
    return app


def _credentials(security: KafkaSecurity) -> CredentialsT | None:
    """What the security settings are to Faust; None without TLS and sign-in."""
    arguments = aiokafka_security(security)
    context, mechanism = arguments.get("ssl_context"), security.sasl_mechanism
    if mechanism == "OAUTHBEARER":
        return faust.OAuthCredentials(
            oauth_cb=arguments["sasl_oauth_token_provider"], ssl_context=context
        )
    if mechanism is not None:
        return faust.SASLCredentials(
            username=arguments["sasl_plain_username"],
            password=arguments["sasl_plain_password"],
            mechanism=mechanism,
            ssl_context=context,
        )
    return faust.SSLCredentials(context) if context is not None else None
