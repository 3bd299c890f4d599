"""Every knob, frozen, read from environment variables `CJSTREAM_<NAME>`."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from processors.policy import Policy
from schemas.coordinates import Partition
from schemas.errors import Misconfigured
from schemas.events import ROLES
from schemas.topics import Topics
from tables.upload_record import UploadTopics

SHARED = "SCHEMA_REGISTRY_URL"  # the name that other programs read it by, too
REGISTRY = re.compile(
    r"https?://([^\s/?#@]*@)?(\[[\da-fA-F:.]+\]|[\w.-]+)(:(?P<port>\d{1,5}))?(/[^\s?#]*)?"
)
ORIGIN = re.compile(r"https?://[^\s/*?#@]+")
NAME = r"^[a-zA-Z0-9._-]{0,50}$"


class Settings(BaseSettings):
    """Frozen settings of one process; `CJSTREAM_BOOTSTRAP_SERVERS=…` sets `bootstrap_servers`."""

    model_config = SettingsConfigDict(env_prefix="CJSTREAM_", frozen=True, extra="forbid")

    bootstrap_servers: str = "127.0.0.1:9092"
    topic_prefix: str = Field("", pattern=NAME, description="before every topic, group and id")
    partitions: int = Field(4, ge=1, le=1000, description="of each topic that is created")
    audit_horizon_days: int = Field(400, ge=1, le=36_500)
    data_dir: Path = Field(Path(".cjstream"), description="replica, Faust table, embedded broker")
    content_url: str = Field("", description="of the content store; empty: data_dir/content")
    slot: str = Field("", pattern=NAME, description="a worker's name that outlives restarts")
    group_protocol: Literal["classic", "consumer"] = "classic"
    session_timeout_s: int = Field(10, ge=6, le=300)
    transaction_timeout_s: int = Field(10, ge=2, le=900)
    batch_max: int = Field(5000, ge=1, le=50_000, description="requests in one transaction")
    required_roles: Annotated[tuple[str, ...], NoDecode] = ("instructions", "student_prompt")
    guests_allowed: bool = True
    patience_s: int = Field(
        900, ge=0, le=30 * 86_400, description="a request waits for its assignment; 0: not at all"
    )
    release_max: int = Field(
        1000, ge=1, le=50_000, description="parked requests in one transaction"
    )
    replica_cache_mb: int = Field(64, ge=8, le=65_536)
    environment: Literal["production", "development"] = "production"
    api_host: str = Field("127.0.0.1", min_length=1, description="where the admin API listens")
    api_port: int = Field(9095, ge=1, le=65_535)
    metrics_port: int | None = Field(None, ge=1, le=65_535, description="/metrics there alone")
    admin_enabled: bool = Field(True, description="false removes /admin/v1")
    require_if_match: bool = Field(False, description="writes without a condition are 428")
    fold_timeout_s: float = Field(5, ge=0.1, le=300, description="until the replica has caught up")
    write_timeout_s: float = Field(10, ge=1, le=300, description="until a write is committed")
    content_max_bytes: int = Field(1024 * 1024, ge=1, le=64 * 1024 * 1024)
    content_timeout_s: float = Field(10, ge=0.1, le=300, description="of one content store call")
    rate_limit_per_minute: int = Field(0, ge=0, le=1_000_000, description="per subject; 0 is off")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    registry_auth: bool = Field(False, description="the registry asks for a token")
    schema_registry_url: str = Field(
        "",
        validation_alias=AliasChoices(SHARED, "schema_registry_url"),
        description="of a registry elsewhere; the API serves none then. Read without prefix",
    )

    @field_validator("schema_registry_url")
    @classmethod
    def _registry(cls, url: str) -> str:
        found = REGISTRY.fullmatch(url)
        if url and (found is None or int(found["port"] or 0) > 65_535):
            raise ValueError("a URL that begins with http:// or https://")
        return url.rstrip("/")

    @field_validator("required_roles", mode="before")
    @classmethod
    def _split(cls, roles: object) -> object:
        if isinstance(roles, str):
            named = (role.strip() for role in roles.split(","))
            roles = tuple(dict.fromkeys(role for role in named if role))
        if isinstance(roles, tuple) and not set(roles) <= set(ROLES):
            raise ValueError(f"roles are {', '.join(ROLES)}")
        return roles

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _origins(cls, origins: object) -> object:
        if isinstance(origins, str):
            named = (origin.strip() for origin in origins.split(","))
            origins = tuple(dict.fromkeys(origin for origin in named if origin))
        if isinstance(origins, tuple) and not all(ORIGIN.fullmatch(str(one)) for one in origins):
            raise ValueError("exact origins with commas between them: https://admin.example")
        return origins

    @property
    def topics(self) -> Topics:
        """The catalogue under this installation's prefix."""
        return Topics().under(self.topic_prefix)

    @property
    def policy(self) -> Policy:
        """What an assignment must have before a batch may go."""
        return Policy(self.required_roles, self.guests_allowed, self.patience_s)

    @property
    def content(self) -> str:
        """The content store's URL."""
        return self.content_url or (self.data_dir / "content").resolve().as_uri()

    @property
    def worker_dir(self) -> Path:
        """The folder of this worker alone."""
        return self.data_dir / f"{self.topic_prefix}worker-{self.slot or 'default'}"

    @property
    def api_dir(self) -> Path:
        """The folder of this API process alone."""
        return self.data_dir / f"{self.topic_prefix}api-{self.slot or self.api_port}"

    @property
    def prep_group(self) -> str:
        """The consumer group of batch preparation."""
        return f"{self.topic_prefix}cjstream-prep"

    @property
    def fold_group(self) -> str:
        """The consumer group of the fold: the Faust app's id."""
        return f"{self.topic_prefix}cjstream-fold"


def variable_of(name: str) -> str:
    """The environment variable of a setting."""
    variable = name.upper()
    return variable if variable == SHARED else f"CJSTREAM_{variable}"


def settings_from_environment(**given: object) -> Settings:
    """The environment's settings, with those given on top.

    Raises Misconfigured, which names the variable and never repeats its value.
    """
    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as fault:
        first = fault.errors(include_input=False, include_url=False)[0]
        name = "_".join(str(part) for part in first["loc"][:1])
        raise Misconfigured(f"{variable_of(name)}: {first['msg']}") from fault


def upload_topics(settings: Settings) -> UploadTopics:
    """The upload topics as the fold wants to know them."""
    by_name = {topic.name: topic for topic in settings.topics.uploads}
    return UploadTopics(by_name, settings.partitions)


def upload_partitions(settings: Settings) -> list[Partition]:
    """Every partition of the three upload topics."""
    return [
        Partition(topic.name, partition)
        for topic in settings.topics.uploads
        for partition in range(settings.partitions)
    ]
