"""The files under tools/monitoring as data: alerts, dashboards, and the queries in them."""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML

FOLDER = Path(__file__).parents[2] / "tools" / "monitoring"
METRIC = re.compile(r"\b(?:(?:cj|content|process|huleedu)_\w+|up\b|ALERTS\b)")
TEXT = re.compile(r'"[^"]*"')


class Query(NamedTuple):
    """A query and where it stands: dashboard and panel, or alert."""

    name: str
    expression: str

    @property
    def metrics(self) -> set[str]:
        """The names of the series that it reads."""
        return set(METRIC.findall(TEXT.sub("", self.expression)))


def yaml_file(name: str) -> Any:
    """The document in a YAML file."""
    return YAML(typ="safe").load(FOLDER / name)


def alerts() -> list[Query]:
    """Every alert."""
    groups = yaml_file("rules.yml")["groups"]
    return [Query(rule["alert"], rule["expr"]) for group in groups for rule in group["rules"]]


def dashboards() -> dict[str, Any]:
    """Every dashboard by the name of its file."""
    paths = sorted((FOLDER / "grafana" / "dashboards").glob("*.json"))
    return {path.stem: json.loads(path.read_text()) for path in paths}


def panel_queries(datasource: str) -> list[Query]:
    """Every query of a panel to this kind of data source."""
    return [
        Query(f"{name}: {panel['title']}", target["expr"])
        for name, dashboard in dashboards().items()
        for panel in dashboard["panels"]
        for target in panel["targets"]
        if target["datasource"]["type"] == datasource
    ]
