"""Reads the models that may judge: those of this release, and those of the file that CJSTREAM_MODELS_FILE names."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

import schemas
from schemas.errors import Misconfigured
from schemas.judging_events import TokenPrices
from schemas.models import Catalogue, Model, Price, Provider

FOLDER = Path(schemas.__file__).parent
MODELS_FILE, PRICES_FILE = FOLDER / "models.json", FOLDER / "prices.json"
VARIABLE = "CJSTREAM_MODELS_FILE"
MAX_FILE_BYTES = 1024 * 1024
Tokens = Annotated[int, Field(ge=1, le=100_000_000)]
Pusd = Annotated[int, Field(ge=0, le=10**12)]
Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9._:-]{1,64}$")]
ModelName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9._:/@-]{1,128}$")]
Parameter = Literal["max_tokens", "temperature", "reasoning_effort", "output_verbosity"]
T = TypeVar("T", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Prices(_Strict):
    """Pico-dollars per token."""

    input: Pusd
    cache_write: Pusd
    cache_read: Pusd
    output: Pusd

    def as_event(self) -> TokenPrices:
        return TokenPrices(**self.model_dump())


class _Model(_Strict):
    model: ModelName
    display_name: str = ""
    context_window: Tokens
    max_output_tokens: Tokens
    answer_tokens: Tokens = 1_000
    answer_method: Literal["json_schema", "json_object", "tool"] = "json_schema"
    takes: tuple[Parameter, ...] = ("max_tokens", "temperature")
    efforts: tuple[str, ...] = ()
    deprecated_from: date | None = None
    retired_from: date | None = None
    unverified: tuple[str, ...] = ()
    prices: _Prices | None = None  # of a model that the price table does not have

    @model_validator(mode="after")
    def _fit(self) -> "_Model":
        if self.max_output_tokens >= self.context_window:
            raise ValueError("max_output_tokens must be less than context_window")
        if self.answer_tokens > self.max_output_tokens:
            raise ValueError("answer_tokens must not be more than max_output_tokens")
        return self


class _Provider(_Strict):
    name: Name
    adapter: Literal["openai_chat", "anthropic_messages"] = "openai_chat"
    base_url: Annotated[str, Field(pattern=r"^https?://[^\s?#]+$")]
    key_variable: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{0,63}$")] | None = None
    parameters: dict[Parameter, str] = Field(
        default={"max_tokens": "max_tokens", "temperature": "temperature"}
    )
    temperature_max: float = 2.0
    models: Annotated[tuple[_Model, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _fit(self) -> "_Provider":
        for model in self.models:
            if unnamed := {*model.takes} - {*self.parameters}:
                raise ValueError(f"parameters: {min(unnamed)} is missing, which a model takes")
            if "max_tokens" not in model.takes:
                raise ValueError("takes: max_tokens is missing, which bounds the cost of a call")
            if model.answer_method == "tool" and self.adapter != "anthropic_messages":
                raise ValueError("answer_method: tool is for anthropic_messages")
            if model.answer_method == "json_object" and self.adapter != "openai_chat":
                raise ValueError("answer_method: json_object is for openai_chat")
        return self


class _ModelsFile(_Strict):
    providers: tuple[_Provider, ...]


class _PriceRow(_Strict):
    price_id: str
    provider: str
    model: str
    valid_from: date | None = None
    valid_to: date | None = None
    prices: _Prices
    tier_tokens: Tokens | None = None
    source: str
    version: str

    def as_price(self) -> Price:
        return Price(
            provider=self.provider,
            model=self.model,
            prices=self.prices.as_event(),
            source=self.source,
            version=self.version,
            valid_from=self.valid_from.isoformat() if self.valid_from else None,
            valid_to=self.valid_to.isoformat() if self.valid_to else None,
            tier_tokens=self.tier_tokens,
        )


class _PricesFile(_Strict):
    prices: tuple[_PriceRow, ...]


def price_rows() -> tuple[Price, ...]:
    """Every row of the price table. Raises Misconfigured if a row was edited: its id is its checksum."""
    rows = _read(_PricesFile, PRICES_FILE, PRICES_FILE.name).prices
    prices = tuple(row.as_price() for row in rows)
    for row, price in zip(rows, prices, strict=True):
        if row.price_id != price.price_id:
            raise Misconfigured(
                f"{PRICES_FILE.name}: {price.provider}/{price.model}: price_id is not its checksum:"
                " write the file with `models prices --write`"
            )
    return prices


def read_catalogue(models_file: Path | None, today: date) -> Catalogue:
    """The providers and models of this release and of a file, with the prices of a day.

    Raises Misconfigured, which names the file and the member.
    """
    own = _read(_ModelsFile, MODELS_FILE, MODELS_FILE.name).providers
    further = _read(_ModelsFile, models_file, VARIABLE).providers if models_file else ()
    names = [provider.name for provider in (*own, *further)]
    if repeated := {name for name in names if names.count(name) > 1 or name == "simulated"}:
        raise Misconfigured(f"{VARIABLE}: the provider {min(repeated)} is known already: rename it")
    prices = [price for price in price_rows() if _is_valid(price, today)]
    return Catalogue(
        tuple(
            Provider(
                name=provider.name,
                adapter=provider.adapter,
                base_url=provider.base_url.rstrip("/"),
                key_variable=provider.key_variable,
            )
            for provider in (*own, *further)
        ),
        tuple(
            model for provider in (*own, *further) for model in _models_of(provider, prices, today)
        ),
    )


def _is_valid(price: Price, today: date) -> bool:
    day = today.isoformat()
    return (price.valid_from or day) <= day < (price.valid_to or "9999")


def _models_of(provider: _Provider, prices: list[Price], today: date) -> Iterator[Model]:
    for model in provider.models:
        takes: dict[str, str] = {name: provider.parameters[name] for name in model.takes}
        yield Model(
            provider=provider.name,
            model=model.model,
            adapter=provider.adapter,
            display_name=model.display_name or model.model,
            base_url=provider.base_url.rstrip("/"),
            answer_method=model.answer_method,
            context_window=model.context_window,
            max_output_tokens=model.max_output_tokens,
            answer_tokens=model.answer_tokens,
            parameters={takes["max_tokens"]: model.answer_tokens},
            takes=takes,
            efforts=model.efforts,
            temperature_max=provider.temperature_max,
            deprecated_from=model.deprecated_from.isoformat() if model.deprecated_from else None,
            retired_from=model.retired_from.isoformat() if model.retired_from else None,
            unverified=model.unverified,
            is_deprecated=model.retired_from
            is not None  # a day for that is only set for a deprecated one
            or (model.deprecated_from is not None and model.deprecated_from <= today),
            is_retired=model.retired_from is not None and model.retired_from <= today,
            price=_price_of(provider, model, prices),
        )


def _price_of(provider: _Provider, model: _Model, prices: list[Price]) -> Price | None:
    if model.prices is not None:
        return Price(
            provider=provider.name,
            model=model.model,
            prices=model.prices.as_event(),
            source="models-file",
        )
    mine = [p for p in prices if (p.provider, p.model) == (provider.name, model.model)]
    return mine[0] if mine else None


def _read(document: type[T], path: Path, what: str) -> T:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES)
        return document.model_validate(orjson.loads(content))
    except OSError as fault:
        raise Misconfigured(f"{what}: the file cannot be read: {fault.strerror}") from fault
    except orjson.JSONDecodeError as fault:
        raise Misconfigured(f"{what}: the file is not JSON, in line {fault.lineno}") from fault
    except ValidationError as fault:
        first = fault.errors(include_input=False, include_url=False)[0]
        member = ".".join(map(str, first["loc"]))
        text = first["msg"].removeprefix("Value error, ")
        raise Misconfigured(f"{what}: {member or 'the file'}: {text}") from fault
