"""Every setting, read from environment variables `CJSTREAM_<NAME>`."""

import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AliasChoices, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from processors.kafka_security import KafkaSecurity, security_variable
from processors.policy import Policy
from processors.registry_security import REGISTRY_VARIABLE, RegistrySecurity, registry_variable
from processors.s3_settings import SCHEMES, S3Settings, s3_variable
from processors.setting_sources import settings_of
from schemas.coordinates import Partition
from schemas.events import ROLES
from schemas.topics import Topic, Topics
from tables.content_location import ContentLocation

if TYPE_CHECKING:
    from tables.upload_record import UploadTopics

REGISTRY_URL = re.compile(
    r"https?://([^\s/?#@]*@)?(\[[\da-fA-F:.]+\]|[\w.-]+)(:(?P<port>\d{1,5}))?(/[^\s?#]*)?"
)
ORIGIN = re.compile(r"https?://[^\s/*?#@]+")
PORTS = ("api_port", "metrics_port")
BROKER_ADDRESS = (
    "broker.address"  # a file of the data folder: address and process of its embedded broker
)
SERVICE_LINK = re.compile(r"(tcp|udp|sctp)://")
ADDRESS = r"^((\[[0-9a-fA-F:.%\w]+\]|[\w.-]*):\d{1,5})?$"
NAME = r"^[a-zA-Z0-9._-]{0,50}$"
GROUPS: Mapping[
    str, Callable[[str], str]
] = {  # settings with variables of their own, which have secrets
    "kafka": security_variable,
    "registry": registry_variable,
    "s3": s3_variable,
}


class Settings(BaseSettings):
    """The frozen settings of one process; `CJSTREAM_BOOTSTRAP_SERVERS=…` sets `bootstrap_servers`."""

    model_config = SettingsConfigDict(env_prefix="CJSTREAM_", frozen=True, extra="forbid")

    bootstrap_servers: str = Field(
        "127.0.0.1:9092",
        description="host:port of one or more Kafka brokers; if it is unset while the embedded broker of the data"
        " folder runs, that one's",
    )
    topic_prefix: str = Field(
        "", pattern=NAME, description="prefix of every topic, group and transactional id"
    )
    partitions: int = Field(
        4,
        ge=1,
        le=1000,
        description="partitions of every topic; a topic with another number is refused",
    )
    audit_horizon_days: int = Field(
        400, ge=1, le=36_500, description="how long every version of every upload is kept"
    )
    data_dir: Path = Field(
        Path(".cjstream"), description="folder of the replica, Faust table and embedded broker"
    )
    content_url: str = Field(
        "", description="URL of the content store; if empty, the folder data_dir/content"
    )
    slot: str = Field(
        "",
        pattern=NAME,
        description="name of a worker, or of an API process, that it keeps across restarts",
    )
    group_protocol: Literal["classic", "consumer"] = Field(
        "classic", description="Kafka's group protocol; consumer is that of KIP-848"
    )
    session_timeout_s: int = Field(
        10, ge=6, le=300, description="after this time without a heartbeat, a worker is replaced"
    )
    transaction_timeout_s: int = Field(
        10, ge=2, le=900, description="after this time the broker aborts an open transaction"
    )
    batch_max: int = Field(
        10_000, ge=1, le=50_000, description="maximum number of requests in one transaction"
    )
    required_roles: Annotated[tuple[str, ...], NoDecode] = Field(
        ("instructions", "student_prompt"),
        description="texts that an assignment needs before its requests are prepared",
    )
    guests_allowed: bool = Field(
        True, description="if true, a request without any known context is prepared as guest"
    )
    patience_s: int = Field(
        900,
        ge=0,
        le=30 * 86_400,
        description="how long a request waits for its context; 0: it does not wait",
    )
    release_max: int = Field(
        1000,
        ge=1,
        le=50_000,
        description="maximum number of parked requests in one transaction",
    )
    replica_cache_mb: int = Field(
        64, ge=8, le=65_536, description="block cache of the replica's store, MiB"
    )
    prepared_contexts_mb: int = Field(
        64,
        ge=1,
        le=65_536,
        description="memory for contexts in the form that outcomes have, MiB; the contexts in use should fit",
    )
    scan_engine: Literal["auto", "numba", "plain"] = Field(
        "auto",
        description="what checks records: functions compiled by numba, or plain Python; "
        "auto is plain where numba cannot be loaded",
    )
    environment: Literal["production", "development"] = Field(
        "production", description="development: a known signing key, and /docs"
    )
    api_host: str = Field("127.0.0.1", min_length=1, description="address of the admin API")
    api_port: int = Field(9095, ge=1, le=65_535, description="port of the admin API")
    root_path: str = Field(
        "",
        pattern=r"^(/[A-Za-z0-9._~-]+)*$",
        description="path prefix of the API behind a proxy, such as /cjstream; the proxy may remove it or pass it on",
    )
    api_keep_alive_s: float = Field(
        75,
        ge=1,
        le=3600,
        description="how long an unused connection stays open: longer than a load balancer's idle timeout",
    )
    metrics_port: int | None = Field(
        None, ge=1, le=65_535, description="port of /metrics, which is then served only there"
    )
    worker_metrics_address: str = Field(
        "",
        pattern=ADDRESS,
        description="host:port of a worker's /metrics, /healthz and /readyz; if empty, it has none",
    )
    judge_metrics_address: str = Field(
        "",
        pattern=ADDRESS,
        description="host:port of a judge's /metrics, /healthz and /readyz; if empty, it has none",
    )
    admin_enabled: bool = Field(True, description="if false, the API has no /admin/v1")
    require_if_match: bool = Field(
        False, description="if true, a write without a precondition gets 428"
    )
    fold_timeout_s: float = Field(
        5, ge=0.1, le=300, description="maximum wait for the replica to catch up"
    )
    write_timeout_s: float = Field(
        10, ge=1, le=300, description="maximum wait for the commit of a write"
    )
    content_max_bytes: int = Field(
        1024 * 1024, ge=1, le=64 * 1024 * 1024, description="maximum size of one text"
    )
    content_timeout_s: float = Field(
        10, ge=0.1, le=300, description="timeout of one call of the content store"
    )
    rate_limit_per_minute: int = Field(
        0, ge=0, le=1_000_000, description="requests per token subject; 0: no limit"
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="origins whose pages may call the API, such as https://admin.example"
    )
    registry_auth: bool = Field(
        False,
        description="if true, the schema registry and /asyncapi.json of the API require a token",
    )
    schema_registry_url: str = Field(
        "",
        validation_alias=AliasChoices(REGISTRY_VARIABLE, "schema_registry_url"),
        description="URL of an external registry; the API then serves none. The variable has no prefix",
    )

    kafka: KafkaSecurity = Field(
        default_factory=lambda: settings_of(KafkaSecurity, security_variable, {}),
        description="how every client of Kafka encrypts and signs in",
    )
    registry: RegistrySecurity = Field(
        default_factory=lambda: settings_of(RegistrySecurity, registry_variable, {}),
        description="how the client of an external schema registry encrypts and signs in",
    )
    s3: S3Settings = Field(
        default_factory=lambda: settings_of(S3Settings, s3_variable, {}),
        description="the S3 service of the content store",
    )
    judge: str = Field(
        "",
        pattern=r"^([a-zA-Z0-9._:-]+/[a-zA-Z0-9._:/-]+)?$",
        description="provider/model that judges; in development simulated/sim-1 if empty",
    )
    models_file: Path | None = Field(
        None,
        description="JSON file with further providers and models that may judge; see the reference page judges",
    )
    judge_first_start: Literal["end", "beginning"] = Field(
        "end", description="where the first judge starts; end: older batches are not judged"
    )
    judge_max_cost_usd: float | None = Field(
        5.0, ge=0, le=1_000_000, description="money limit of the judging of one batch"
    )
    judge_concurrency_max: int = Field(
        32, ge=1, le=1000, description="maximum number of calls of one model at a time"
    )
    judge_runs_max: int = Field(16, ge=1, le=1000, description="batches judged at a time")
    judge_items_max: int = Field(
        1000, ge=2, le=1000, description="a batch with more essays is not judged"
    )
    judge_timeout_s: int = Field(
        3600, ge=1, le=30 * 86_400, description="maximum duration of the judging of one batch"
    )
    judge_drain_s: float = Field(
        5, ge=0, le=300, description="how long a judge that stops waits for calls in flight"
    )
    call_timeout_s: float = Field(
        120, ge=0.1, le=3600, description="timeout of one call of a judge"
    )
    judge_keep_responses: bool = Field(
        True, description="if true, the responses of judges are kept in the content store"
    )
    judge_guests: bool = Field(True, description="if true, batches of guests are judged")
    simulated_judge: str = Field(
        "{}", description="members of the simulated judge as a JSON object, such as its seed"
    )

    @field_validator("schema_registry_url")
    @classmethod
    def _registry(cls, url: str) -> str:
        match = REGISTRY_URL.fullmatch(url)
        if url and (match is None or int(match["port"] or 0) > 65_535):
            raise ValueError("must be a URL that starts with http:// or https://")
        return url.rstrip("/")

    @model_validator(mode="before")
    @classmethod
    def _as_meant(cls, values: dict[str, object]) -> dict[str, object]:
        """Values without blanks and line breaks at their ends, which files and manifests leave there.

        What Kubernetes sets for a Service named cjstream-api, a port such as tcp://10.0.0.1:80, counts as not set.
        """
        return {
            name: value.strip() if isinstance(value, str) else value
            for name, value in values.items()
            if not (name in PORTS and isinstance(value, str) and SERVICE_LINK.match(value))
        }

    @field_validator("required_roles", mode="before")
    @classmethod
    def _split(cls, roles: object) -> object:
        roles = _names_in(roles)
        if isinstance(roles, tuple) and not set(roles) <= set(ROLES):
            raise ValueError(f"the roles are {', '.join(ROLES)}")
        return roles

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _origins(cls, origins: object) -> object:
        origins = _names_in(origins)
        if isinstance(origins, tuple) and not all(
            ORIGIN.fullmatch(str(origin)) for origin in origins
        ):
            raise ValueError("must be exact origins, separated by commas: https://admin.example")
        return origins

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        self.registry.check_fits(self.schema_registry_url)
        self.s3.check_fits(self.content_url)
        return self

    @property
    def topics(self) -> Topics:
        """The topic catalogue with this installation's prefix."""
        return Topics().under(self.topic_prefix)

    def partitions_of(self, *topics: Topic) -> list[Partition]:
        """Every partition of these topics."""
        return [
            Partition(topic.name, number) for topic in topics for number in range(self.partitions)
        ]

    @property
    def upload_partitions(self) -> list[Partition]:
        """Every partition of the upload topics."""
        return self.partitions_of(*self.topics.uploads)

    def upload_partitions_with(self, number: int) -> list[Partition]:
        """The partition with this number of each upload topic."""
        return [Partition(topic.name, number) for topic in self.topics.uploads]

    @property
    def administered_partitions(self) -> list[Partition]:
        """Every partition of the topics that administrators write."""
        return self.partitions_of(*self.topics.administered)

    def administered_partitions_with(self, number: int) -> list[Partition]:
        """The partition with this number of each topic that administrators write."""
        return [Partition(topic.name, number) for topic in self.topics.administered]

    @property
    def policy(self) -> Policy:
        """The policy that these settings describe."""
        return Policy(self.required_roles, self.guests_allowed, self.patience_s)

    @property
    def content(self) -> ContentLocation:
        """Where the content store is."""
        url = self.content_url or (self.data_dir / "content").resolve().as_uri()
        return ContentLocation(url, self.s3.options(url) if url.startswith(SCHEMES) else {})

    @property
    def worker_dir(self) -> Path:
        """The folder that only this worker uses."""
        return self.data_dir / f"{self.topic_prefix}worker-{self.slot or 'default'}"

    @property
    def api_dir(self) -> Path:
        """The folder that only this API process uses."""
        return self.data_dir / f"{self.topic_prefix}api-{self.slot or self.api_port}"

    @property
    def prep_group(self) -> str:
        """The consumer group of batch preparation."""
        return f"{self.topic_prefix}cjstream-prep"

    @property
    def judge_group(self) -> str:
        """The consumer group of the judges."""
        return f"{self.topic_prefix}cjstream-judge"

    @property
    def results_group(self) -> str:
        """The consumer group whose position `results tail` continues by default."""
        return f"{self.topic_prefix}cjstream-results"

    @property
    def fold_group(self) -> str:
        """The consumer group of the fold, which is the id of the Faust app."""
        return f"{self.topic_prefix}cjstream-fold"


def _names_in(value: object) -> object:
    """The names in a text, separated by commas, without duplicates; another value as it is."""
    if not isinstance(value, str):
        return value
    return tuple(dict.fromkeys(filter(None, map(str.strip, value.split(",")))))


def variable_of(name: str) -> str:
    """The environment variable of a setting."""
    variable = name.upper()
    return variable if variable == REGISTRY_VARIABLE else f"CJSTREAM_{variable}"


def settings_from_environment(**overrides: object) -> Settings:
    """The settings of the environment, replaced by the overrides.

    If they name no broker, it is the embedded one of the data folder, if that runs: else commands might reach another
    installation's. Raises Misconfigured, which names the variable and never contains its value.
    """
    settings = settings_of(Settings, variable_of, overrides)
    if "bootstrap_servers" in settings.model_fields_set:
        return settings
    with suppress(OSError, ValueError):  # there is none, or its process has ended
        address, process = (settings.data_dir / BROKER_ADDRESS).read_text("ascii").split()
        os.kill(int(process), 0)
        return settings_of(Settings, variable_of, {**overrides, "bootstrap_servers": address})
    return settings


def upload_topics(settings: Settings) -> "UploadTopics":
    """The upload topics by name, with their partition count, as the fold takes them."""
    from tables.upload_record import UploadTopics  # imports the codec, which few commands need

    by_name = {topic.name: topic for topic in settings.topics.uploads}
    return UploadTopics(by_name, settings.partitions)


def administered_topics(settings: Settings) -> "UploadTopics":
    """The topics of every role, also of those that batch preparation does not read."""
    from tables.upload_record import UploadTopics

    by_name = {topic.name: topic for topic in settings.topics.administered}
    return UploadTopics(by_name, settings.partitions)
