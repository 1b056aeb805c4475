"""The dashboard and the alert rules speak of what the daemon exports, and of all of it."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from reconciler.model.report import Report
from reconciler.model.status import Status
from reconciler.web.metrics import Metrics, Noted

MONITORING = Path(__file__).parents[2] / "docs" / "monitoring"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]
DASHBOARD: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text())
PANELS: list[str] = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
ASKED = [*PANELS, *(rule["expr"] for rule in RULES)]

LABELS = {"integration", "status", "outcome", "why", "version", "schema", "member"}
"""Every label there is: none of them can name a person."""


def exported() -> dict[str, set[str]]:
    """The names of what is scraped, after one of everything, with the labels of each."""
    metrics = Metrics()
    metrics.count_pass(Report("r", dry_run=False, failures=1, executed=1), timedelta(seconds=1), "commit", 1.0)
    metrics.count_request("tool", 200, 0.1)
    metrics.count_request("tool", None, 0.1)
    grants = Counter({("tool", Status.PRESENT): 1})
    text = metrics.text(Noted(grants, {"one": 1}, 0), timedelta(), None, {"tool": 1}).decode()
    families = list(text_string_to_metric_families(text))
    samples = [sample for family in families for sample in family.samples if not sample.name.endswith("_created")]
    found: dict[str, set[str]] = {}
    for sample in samples:
        found.setdefault(sample.name, set()).update(sample.labels)
    return found


def names(expressions: list[str]) -> set[str]:
    return {name for each in expressions for name in re.findall(r"\breconciler_\w+", each)}


def test_no_label_can_name_a_person() -> None:
    assert set[str]().union(*exported().values()) - {"le"} == LABELS


def test_queried_metrics_are_exported() -> None:
    variables = [each["definition"] for each in DASHBOARD["templating"]["list"] if "definition" in each]
    assert names([*ASKED, *variables]) - exported().keys() == set()


def test_exported_metrics_are_on_the_dashboard_or_alerted() -> None:
    def family(name: str) -> str:
        return re.sub(r"_(bucket|count|sum)$", "", name)

    assert {family(name) for name in exported()} - {family(name) for name in names(PANELS)} == set()


@pytest.mark.parametrize("expression", ASKED)
def test_expression_uses_labels_that_its_metrics_have(expression: str) -> None:
    has = set[str]().union(*(exported()[name] for name in names([expression])))
    grouped = {label.strip() for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(",")}
    matched = {
        label for labels in re.findall(r"\{([^}]*)\}", expression) for label in re.findall(r"(\w+)\s*[=!]", labels)
    }
    assert grouped | matched <= has
    assert expression.count("(") == expression.count(")")
    values = re.findall(r'status=~?"([^"]*)"', expression)
    assert {word for each in values for word in each.split("|")} <= set(Status)
    outcomes = {word for each in re.findall(r'outcome[=!]~?"([^"]*)"', expression) for word in each.split("|")}
    assert outcomes <= {"2xx", "3xx", "4xx", "5xx", "no_answer", "failed", "executed", "revoked", "done"}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_alert_rule_has_summary_and_valid_labels(rule: dict[str, Any]) -> None:
    assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in ("page", "ticket")
    texts = [rule["annotations"][key] for key in ("summary", "description")]
    named = {name for text in texts for name in re.findall(r"\$labels\.(\w+)", text)}
    left = {label.strip() for group in re.findall(r"by \(([^)]*)\)", rule["expr"]) for label in group.split(",")}
    assert named <= left - {"le"}
    assert re.fullmatch(r"\d+[smhd]", rule.get("for", "0s"))


def test_dashboard_stands_on_its_own() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    uids = {target["datasource"]["uid"] for panel in DASHBOARD["panels"] for target in panel["targets"]}
    assert uids == {"${datasource}"}
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    taken = [
        (x, y) for it in places for x in range(it["x"], it["x"] + it["w"]) for y in range(it["y"], it["y"] + it["h"])
    ]
    assert len(set(taken)) == len(taken)
    assert max(x for x, _ in taken) == 23
