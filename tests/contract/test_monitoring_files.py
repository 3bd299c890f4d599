"""Alerts and dashboards: the alerts' own tests, a paragraph for each, and every metric drawn."""

import re
import shutil
import subprocess
from itertools import chain

import pytest

from tests.contract.test_metric_names import JUDGE, WORKER
from tests.support.monitoring_files import FOLDER, alerts, dashboards, panel_queries, yaml_file
from tools.api.services.metrics import Metrics

NEEDS_PROMTOOL = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool is missing: install Debian's package prometheus",
)
RUNBOOK = FOLDER.parent / "reference" / "monitoring.md"
API = {one.name for one in Metrics(lambda: 0).registry.collect()}
LOKI_LABEL = re.compile(r'(\w+)=~?"')
BOUNDED = {"service", "level"}


@NEEDS_PROMTOOL
@pytest.mark.parametrize(
    "command", [["check", "rules", "rules.yml"], ["test", "rules", "rules.test.yml"]]
)
def test_rules_are_valid_and_fire_on_their_condition_alone(command: list[str]) -> None:
    done = subprocess.run(["promtool", *command], cwd=FOLDER, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_a_test_that_makes_it_fire_and_one_in_which_it_does_not() -> None:
    tests = [
        (test["alertname"], bool(test["exp_alerts"]))
        for case in yaml_file("rules.test.yml")["tests"]
        for test in case["alert_rule_test"]
    ]
    for fires in (True, False):
        assert {name for name, expected in tests if expected is fires} == {
            alert.name for alert in alerts()
        }


def test_each_alert_has_a_paragraph_that_says_what_to_do() -> None:
    headings = re.findall(r"^### (Cjstream\w+)$", RUNBOOK.read_text(), re.MULTILINE)
    assert sorted(headings) == sorted(alert.name for alert in alerts())


def test_each_metric_is_drawn_and_nothing_else_is() -> None:
    queries = [*alerts(), *panel_queries("prometheus")]
    read = set(chain.from_iterable(query.metrics for query in queries))
    ours = {re.sub(r"_(total|bucket|sum)$", "", name) for name in read}
    others = {name for name in ours if name.startswith("process_")} | {"up", "ALERTS"}
    assert ours - others == WORKER | JUDGE | API


def test_panels_have_ids_of_their_own_and_the_provisioned_data_sources() -> None:
    provisioned = yaml_file("grafana/provisioning/datasources/cjstream.yml")["datasources"]
    uids = {source["uid"] for source in provisioned}
    for dashboard in dashboards().values():
        numbers = [panel["id"] for panel in dashboard["panels"]]
        assert len(set(numbers)) == len(numbers)
        assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} <= uids
    assert len({dashboard["uid"] for dashboard in dashboards().values()}) == len(dashboards())


def test_log_queries_select_by_bounded_labels_alone() -> None:
    queries = panel_queries("loki")
    assert queries
    for query in queries:
        selector = query.expression[query.expression.index("{") : query.expression.index("}")]
        assert set(LOKI_LABEL.findall(selector)) <= BOUNDED
    kept = re.search(
        r"stage.label_keep \{\s+values = \[(.*?)\]", (FOLDER / "alloy.config").read_text()
    )
    assert kept is not None
    assert set(re.findall(r'"(\w+)"', kept[1])) == BOUNDED
