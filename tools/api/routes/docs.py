"""/docs: the OpenAPI document as one page without scripts, so that it needs no internet."""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from fastapi import APIRouter, Request, Response

STYLE = "body{font-family:sans-serif;max-width:60em;margin:auto}td,th{text-align:left;padding-right:1em}"
routes = APIRouter(include_in_schema=False)


@routes.get("/docs")
async def docs(request: Request) -> Response:
    """Every route with its parameters, body and responses."""
    page = "\n".join(_page(request.app.openapi()))
    policy = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
    return Response(page, headers=policy, media_type="text/html; charset=utf-8")


def _page(document: Mapping[str, Any]) -> Iterator[str]:
    title = escape(document["info"]["title"])
    yield f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{STYLE}</style>"
    yield f"<h1>{title}</h1><p>{escape(document['info'].get('description', ''))}</p>"
    yield "<p>For programs: <a href=openapi.json>openapi.json</a></p>"
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield from _operation(f"{method.upper()} {path}", operation)
    for name, schema in document.get("components", {}).get("schemas", {}).items():
        yield f"<h3 id='{escape(name)}'>{escape(name)}</h3>"
        yield _rows((field, _type(each)) for field, each in schema.get("properties", {}).items())


def _operation(name: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"<h2><code>{escape(name)}</code></h2>"
    yield f"<p>{escape(operation.get('description') or operation.get('summary', ''))}</p>"
    parameters = operation.get("parameters", [])
    yield _rows((f"{each['in']} {each['name']}", _type(each["schema"])) for each in parameters)
    for media_type, body in operation.get("requestBody", {}).get("content", {}).items():
        yield f"<p>Body: <code>{escape(media_type)}</code> {_type(body.get('schema', {}))}</p>"
    responses = operation.get("responses", {})
    yield _rows((code, escape(each.get("description", ""))) for code, each in responses.items())


def _rows(rows: Iterator[tuple[str, str]]) -> str:
    cells = (f"<tr><th>{escape(name)}<td>{value}" for name, value in rows)
    return f"<table>{''.join(cells)}</table>"


def _type(schema: Mapping[str, Any]) -> str:
    """The type of a schema as HTML, with a link if it has a name."""
    if reference := schema.get("$ref"):
        name = escape(reference.rpartition("/")[2])
        return f"<a href='#{name}'>{name}</a>"
    if several := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(map(_type, several))
    if "items" in schema:
        return f"list of {_type(schema['items'])}"
    return escape(str(schema.get("const", schema.get("type", "any"))))
