"""Judges that may be asked: provider and model, what the model takes, and its price. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.canonical_json import canonical_sha256
from schemas.judging_events import TokenPrices

PUSD_PER_USD = 10**12
CLASSES = ("input", "cache_write", "cache_read", "output")


def price_id_of(row: Mapping[str, Any]) -> str:
    """The id of a price: the sha256 of its row without the members that it does not have, in hex. Raises Malformed."""
    return canonical_sha256(
        {name: value for name, value in row.items() if value is not None and name != "price_id"}
    )


def usd_of(pusd: int | None) -> str | None:
    """Pico-dollars as an exact text in US dollars, with all twelve decimals; None is unknown."""
    if pusd is None:
        return None
    dollars, rest = divmod(abs(pusd), PUSD_PER_USD)
    return f"{'-' if pusd < 0 else ''}{dollars}.{rest:012d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """The price of a model: valid from a day (inclusive) to another (exclusive), and up to so many input tokens."""

    provider: str
    model: str
    prices: TokenPrices
    source: str
    version: str | None = None  # of the source
    valid_from: str | None = None
    valid_to: str | None = None
    tier_tokens: int | None = None

    @property
    def price_id(self) -> str:
        """The sha256 of the row, in hex."""
        return price_id_of(
            {
                "provider": self.provider,
                "model": self.model,
                "valid_from": self.valid_from,
                "valid_to": self.valid_to,
                "prices": {name: getattr(self.prices, name) for name in CLASSES},
                "tier_tokens": self.tier_tokens,
                "source": self.source,
                "version": self.version,
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model of a provider.

    takes: what a request may set, and what each is called in the model's API; a dot is one level down.
    answer_tokens: how many tokens an answer may have unless a request wants another number; None: max_output_tokens.
    unverified: the fields whose values no source has confirmed.
    """

    provider: str
    model: str
    adapter: str
    display_name: str = ""
    base_url: str | None = None
    answer_method: str
    context_window: int  # tokens
    max_output_tokens: int
    answer_tokens: int | None = None
    parameters: Mapping[str, object] = field(default_factory=dict)  # the fixed ones
    takes: Mapping[str, str] = field(default_factory=dict)
    efforts: tuple[str, ...] = ()
    temperature_max: float = 2.0
    deprecated_from: str | None = None
    retired_from: str | None = None
    unverified: tuple[str, ...] = ()
    is_deprecated: bool = False
    is_retired: bool = False
    price: Price | None = None

    @property
    def name(self) -> str:
        """provider/model, as the setting `judge` names it."""
        return f"{self.provider}/{self.model}"

    @property
    def output_tokens(self) -> int:
        """The most tokens of an answer to a request that sets no number."""
        return self.max_output_tokens if self.answer_tokens is None else self.answer_tokens

    @property
    def input_tokens_max(self) -> int:
        """The longest request: it fits beside the longest answer, and its price is the known one."""
        fitting = self.context_window - self.max_output_tokens
        tier = self.price.tier_tokens if self.price else None
        return fitting if tier is None else min(fitting, tier)


@dataclass(frozen=True, slots=True)
class Models:
    """The known models, by provider and name."""

    all: tuple[Model, ...]

    def of(self, provider: str, model: str) -> Model | None:
        """The model of this provider; None if it is not known."""
        return next((one for one in self.providers(model) if one.provider == provider), None)

    def named(self, name: str) -> Model | None:
        """The model with this name, provider/model; None if it is not known."""
        return self.of(*name.partition("/")[::2])

    def providers(self, model: str) -> tuple[Model, ...]:
        """The models with this name, one for each provider that has it."""
        return tuple(one for one in self.all if one.model == model)

    def has_provider(self, provider: str) -> bool:
        """Whether a model of this provider is known."""
        return any(one.provider == provider for one in self.all)


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """Who serves models. base_url may have a user; key_variable: the variable of its key, None: it takes none."""

    name: str
    adapter: str
    base_url: str
    key_variable: str | None = None


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Every provider and model that may be asked over a network."""

    providers: tuple[Provider, ...] = ()
    models: tuple[Model, ...] = ()
