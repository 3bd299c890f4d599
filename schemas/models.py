"""Judges that may be asked: provider and model, what the model takes, and its price. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from schemas.canonical_json import canonical_sha256
from schemas.judging_events import TokenPrices

PUSD_PER_USD = 10**12


def usd_of(pusd: int | None) -> str | None:
    """Pico-dollars as an exact text in US dollars, with all twelve decimals; None is unknown."""
    if pusd is None:
        return None
    dollars, rest = divmod(abs(pusd), PUSD_PER_USD)
    return f"{'-' if pusd < 0 else ''}{dollars}.{rest:012d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """The price of a model; its id is the sha256 of its row."""

    provider: str
    model: str
    prices: TokenPrices
    source: str

    @property
    def price_id(self) -> str:
        """The sha256 of the row, in hex."""
        classes = ("input", "cache_write", "cache_read", "output")
        return canonical_sha256(
            {
                "provider": self.provider,
                "model": self.model,
                "source": self.source,
                "prices": {name: getattr(self.prices, name) for name in classes},
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model of a provider. parameters: those that it takes, by the name that a request gives them."""

    provider: str
    model: str
    adapter: str
    base_url: str | None = None
    answer_method: str
    context_window: int  # tokens
    max_output_tokens: int
    parameters: Mapping[str, object] = field(default_factory=dict)  # the fixed ones
    takes: frozenset[str] = frozenset()
    is_deprecated: bool = False
    is_retired: bool = False
    price: Price | None = None

    @property
    def name(self) -> str:
        """provider/model, as the setting `judge` names it."""
        return f"{self.provider}/{self.model}"


@dataclass(frozen=True, slots=True)
class Models:
    """The known models, by provider and name."""

    all: tuple[Model, ...]

    def of(self, provider: str, model: str) -> Model | None:
        """The model of this provider; None if it is not known."""
        return next((one for one in self.providers(model) if one.provider == provider), None)

    def providers(self, model: str) -> tuple[Model, ...]:
        """The models with this name, one for each provider that has it."""
        return tuple(one for one in self.all if one.model == model)

    def has_provider(self, provider: str) -> bool:
        """Whether a model of this provider is known."""
        return any(one.provider == provider for one in self.all)
