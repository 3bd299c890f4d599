"""Writes `schemas/models.json` and `schemas/prices.json` from the known models and from genai-prices.

Only `cjstream models prices --write` and a test of it run this: prices are never fetched while cjstream runs.
"""

import importlib.metadata
from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise
from typing import Any

import orjson

from schemas.errors import Discrepancy, Misconfigured
from schemas.models import price_id_of
from tools.models.known_models import MODELS, PROVIDERS, KnownModel, KnownProvider

SOURCE = "genai-prices"
PUSD_PER_TOKEN = 10**6  # of 1 USD per million tokens
CLASSES = {  # ours, theirs, and which stands in for one that is not priced apart
    "input": ("input_mtok", "input_mtok"),
    "cache_write": ("cache_write_mtok", "input_mtok"),
    "cache_read": ("cache_read_mtok", "input_mtok"),
    "output": ("output_mtok", "output_mtok"),
}


def documents() -> tuple[bytes, bytes]:
    """The bytes of models.json and of prices.json. Raises Discrepancy; Misconfigured without genai-prices."""
    listed = _listed_models()
    providers = [_provider(provider, listed) for provider in PROVIDERS]
    rows = [row for known in MODELS for row in _rows(known, listed[known.provider, known.model])]
    return _file({"providers": providers}), _file({"prices": rows})


def _listed_models() -> dict[tuple[str, str], Any]:
    """The known models as genai-prices lists them."""
    try:
        from genai_prices import data_snapshot  # a tool of development, not of an installation
    except ImportError as fault:
        raise Misconfigured(f"{SOURCE} is not installed: run this in a checkout") from fault
    snapshot = data_snapshot.get_snapshot()
    found = {}
    for known in MODELS:
        _, listed = snapshot.find_provider_model(known.model, None, known.provider, None)
        if listed.id != known.model or not listed.context_window:
            raise Discrepancy(f"{SOURCE} has no context window of {known.provider}/{known.model}")
        found[known.provider, known.model] = listed
    return found


def _provider(provider: KnownProvider, listed: dict[tuple[str, str], Any]) -> dict[str, Any]:
    return {
        "name": provider.name,
        "adapter": provider.adapter,
        "base_url": provider.base_url,
        "key_variable": provider.key_variable,
        "parameters": provider.parameters,
        "temperature_max": provider.temperature_max,
        "models": [
            _without_none(
                {
                    "model": known.model,
                    "display_name": listed[known.provider, known.model].name or known.model,
                    "context_window": listed[known.provider, known.model].context_window,
                    "max_output_tokens": known.max_output_tokens,
                    "answer_tokens": known.answer_tokens,
                    "answer_method": known.answer_method,
                    "takes": ["max_tokens", *known.takes],
                    "efforts": list(known.efforts) or None,
                    "deprecated_from": known.deprecated_from,
                    "retired_from": known.retired_from,
                    "unverified": list(known.unverified) or None,
                }
            )
            for known in MODELS
            if known.provider == provider.name
        ],
    }


def _rows(known: KnownModel, listed: Any) -> Iterator[dict[str, Any]]:
    """The price rows of a model, oldest first: each ends where the next one begins."""
    conditional = listed.prices if isinstance(listed.prices, list) else None
    periods: list[tuple[str | None, Any]] = (
        [(None, listed.prices)]
        if conditional is None
        else [(_start_of(known, one.constraint), one.prices) for one in conditional]
    )
    for (start, prices), (end, _) in pairwise([*periods, (None, None)]):
        row = _without_none(
            {
                "provider": known.provider,
                "model": known.model,
                "valid_from": start,
                "valid_to": end,
                **_prices(known, prices),
                "source": SOURCE,
                "version": importlib.metadata.version(SOURCE),
            }
        )
        yield {"price_id": price_id_of(row), **row}


def _start_of(known: KnownModel, constraint: Any) -> str | None:
    if constraint is None:
        return None
    if not hasattr(constraint, "start_date"):
        raise Discrepancy(f"{known.provider}/{known.model}: its price depends on the time of day")
    return str(constraint.start_date.isoformat())


def _prices(known: KnownModel, prices: Any) -> dict[str, Any]:
    """The prices of the four classes, and the input tokens up to which they hold."""
    of_class, tiers = {}, set[int]()
    for name, (theirs, stand_in) in CLASSES.items():
        price = getattr(prices, theirs)
        price = getattr(prices, stand_in) if price is None else price
        if hasattr(price, "base"):  # dearer for long requests: those are not sent
            tiers |= {tier.start for tier in price.tiers}
            price = price.base
        of_class[name] = _pusd(f"{known.provider}/{known.model}, {name}", price)
    return {"prices": of_class, "tier_tokens": min(tiers, default=None)}


def _pusd(what: str, usd_per_million: Decimal | None) -> int:
    """Pico-dollars per token. Raises Discrepancy if there is no price, or none in whole pico-dollars."""
    if usd_per_million is None:
        raise Discrepancy(f"{what}: {SOURCE} has no price")
    pusd = usd_per_million * PUSD_PER_TOKEN
    if pusd != int(pusd):
        raise Discrepancy(f"{what}: no whole number of pico-dollars per token")
    return int(pusd)


def _without_none(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if value is not None}


def _file(document: dict[str, Any]) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
