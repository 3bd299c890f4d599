"""`cjstream models …`: the models that may judge, their prices, and a check of overrides."""

import sys
from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from processors.settings import settings_from_environment
from schemas.errors import Malformed
from schemas.models import CLASSES, Model, Price
from tools.options import Json
from tools.printing import print_fields, print_json, print_table
from tools.progress import say

models_app = typer.Typer(help="The models that may judge, and their prices.", no_args_is_help=True)
PUSD_PER_TOKEN = 1_000_000  # of 1 USD per million tokens


@models_app.command("list")
def list_models(as_json: Json = False) -> None:
    """List the models that may judge, with their prices in USD per million tokens."""
    from tools.models.override_check import installed_models

    models = installed_models(settings_from_environment(), _today()).all
    if as_json:
        print_json({"models": [document_of(model) for model in models]})
        return
    rows = [
        (
            model.name,
            model.context_window,
            model.max_output_tokens,
            " ".join(sorted(model.takes)),
            *(_usd(model.price, name) for name in CLASSES),
            _state(model),
        )
        for model in models
    ]
    columns = ("model", "context", "output", "takes", *(f"{name} $" for name in CLASSES), "")
    print_table("Models", columns, rows)


@models_app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="MODEL", help="provider/model")],
    as_json: Json = False,
) -> None:
    """Show everything that is known of a model."""
    from tools.models.override_check import installed_models

    model = installed_models(settings_from_environment(), _today()).named(name)
    if model is None:
        raise Malformed(f"there is no {name}: `models list` shows the known ones")
    print_fields(model.name, document_of(model), as_json=as_json)


@models_app.command()
def prices(
    write: Annotated[
        bool,
        typer.Option(
            "--write",
            help="Write schemas/models.json and schemas/prices.json anew, in a checkout.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the price table in USD per million tokens, with past and future rows."""
    from tools.models import catalogue

    if write:
        from tools.models.price_table import documents

        for file, document in zip(
            (catalogue.MODELS_FILE, catalogue.PRICES_FILE), documents(), strict=True
        ):
            file.write_bytes(document)
            say(f"wrote {file.name}")
    rows = catalogue.price_rows()
    if as_json:
        print_json({"prices": [{**asdict(row), "price_id": row.price_id} for row in rows]})
        return
    cells = [
        (
            f"{row.provider}/{row.model}",
            row.valid_from or "",
            row.valid_to or "",
            *(_usd(row, name) for name in CLASSES),
            row.tier_tokens or "",
            f"{row.source} {row.version}",
        )
        for row in rows
    ]
    columns = ("model", "from", "to", *(f"{name} $" for name in CLASSES), "up to tokens", "source")
    print_table("Prices", columns, cells)


@models_app.command()
def check(
    file: Annotated[str, typer.Argument(help="A file with llm_config_overrides; - is stdin.")],
    context_origin: Annotated[
        str, typer.Option(help="The context origin of the assignment's instructions.")
    ] = "research_experiment",
    as_json: Json = False,
) -> None:
    """Check overrides as a judge will; every fault at once; exit 2 if there is one."""
    from tools.models.override_check import OverrideCheck

    content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    text = content.decode(errors="replace")
    found = OverrideCheck.of(settings_from_environment(), _today()).check(text, context_origin)
    if as_json:
        print_json(found)
    elif found["ok"]:
        print_fields("Accepted", {**found, "faults": "none"}, as_json=False)
    else:
        rows = [(fault["path"], fault["code"]) for fault in found["faults"]]
        print_table("Refused", ("where", "why"), rows)
    if not found["ok"]:
        raise typer.Exit(2)


def document_of(model: Model) -> dict[str, Any]:
    """A model as JSON; prices in pico-dollars per token, None where none is known."""
    price = model.price
    return {
        "provider": model.provider,
        "model": model.model,
        "display_name": model.display_name,
        "adapter": model.adapter,
        "context_window": model.context_window,
        "input_tokens_max": model.input_tokens_max,
        "max_output_tokens": model.max_output_tokens,
        "answer_tokens": model.output_tokens,
        "answer_method": model.answer_method,
        "takes": sorted(model.takes),
        "efforts": list(model.efforts),
        "deprecated_from": model.deprecated_from,
        "retired_from": model.retired_from,
        "unverified": list(model.unverified),
        "price_id": price.price_id if price else None,
        "prices": asdict(price.prices) if price else None,
    }


def _today() -> date:
    return datetime.now(UTC).date()


def _usd(price: Price | None, name: str) -> str:
    """USD per million tokens; a question mark where the price is not known."""
    if price is None:
        return "?"
    pusd: int = getattr(price.prices, name)
    whole, rest = divmod(pusd, PUSD_PER_TOKEN)
    return f"{whole}.{rest:06d}".rstrip("0").rstrip(".")


def _state(model: Model) -> str:
    if model.is_retired:
        return f"retired {model.retired_from}"
    return (
        f"deprecated, until {model.retired_from or 'further notice'}" if model.is_deprecated else ""
    )
