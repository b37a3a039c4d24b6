"""Dashboards, alerts and the page on operations name what exists, and leave nothing out."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from api.metrics import LEDGER_GAUGES
from worker.observing import metrics
from worker.observing.registry import REGISTRY

ROOT = Path(__file__).parents[1]
DASHBOARDS = sorted((ROOT / "docker" / "grafana" / "dashboards").glob("*.json"))
ALERTS = ROOT / "docker" / "prometheus" / "alerts.yml"
PAGE = ROOT / "docs" / "operations.md"
NAME = re.compile(r"\bstillhouse_[a-z_]+\b")
SUFFIXES = re.compile(r"_(bucket|count|sum)$")
EVENT = re.compile(r'event="([a-z_.]+)"')


@pytest.fixture(scope="module")
def metric_names() -> set[str]:
    """As queries write them, histograms without their suffixes."""
    assert metrics.REGISTRY is REGISTRY
    ends = {"counter": "_total", "info": "_info"}
    own = {family.name + ends.get(family.type, "") for family in REGISTRY.collect()}
    return {name for name in own | LEDGER_GAUGES.keys() if name.startswith("stillhouse_")}


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_a_dashboard_names_metrics_that_exist(path: Path, metric_names: set[str]) -> None:
    queries = [expression for panel in panels(path) for expression in panel_queries(panel)]
    assert queries
    named = {name for query in queries for name in names(query)}
    assert named <= metric_names
    assert_well_formed(queries)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_panels_do_not_overlap(path: Path) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels(path):
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells
    numbers = [panel["id"] for panel in panels(path)]
    assert len(numbers) == len(set(numbers))


def test_alerts_name_metrics_that_exist(metric_names: set[str]) -> None:
    assert {name for rule in rules() for name in names(rule["expr"])} <= metric_names
    assert_well_formed([rule["expr"] for rule in rules()])


def test_every_alert_says_what_to_do() -> None:
    headings = {
        line.removeprefix("### ") for line in PAGE.read_text().splitlines() if line[:4] == "### "
    }
    assert {rule["alert"] for rule in rules()} == headings
    for rule in rules():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert (page, anchor) == ("docs/operations.md", rule["alert"].lower())


def test_log_events_that_are_watched_are_logged() -> None:
    queries = [rule["expr"] for rule in rules()]
    queries += [
        query for path in DASHBOARDS for each in panels(path) for query in panel_queries(each)
    ]
    watched = {name for query in queries for name in EVENT.findall(query)}
    told = set(re.findall(r"`([a-z]+\.[a-z]+)`", PAGE.read_text().partition("## Alerts")[2]))
    source = "".join(
        path.read_text() for part in ("api", "worker") for path in (ROOT / part).rglob("*.py")
    )
    assert watched
    for name in watched | told:
        assert f'"{name}"' in source, name


def test_the_page_lists_every_metric_with_its_labels(metric_names: set[str]) -> None:
    rows = re.findall(r"^\| `(stillhouse_\w+)` \| ([a-z, ]*?) ?\|", PAGE.read_text(), re.MULTILINE)
    listed = {name: tuple(labels.split(", ")) if labels else () for name, labels in rows}
    assert listed.keys() == metric_names
    for name, (_, labels) in LEDGER_GAUGES.items():
        assert listed[name] == labels


def panels(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text())["panels"]
    return found


def panel_queries(panel: dict[str, Any]) -> list[str]:
    return [target["expr"] for target in panel.get("targets", [])]


def rules() -> list[dict[str, Any]]:
    document = yaml.safe_load(ALERTS.read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def names(query: str) -> set[str]:
    return {SUFFIXES.sub("", name) for name in NAME.findall(query)}


def assert_well_formed(queries: list[str]) -> None:
    """As far as that is to be seen without Prometheus."""
    for query in queries:
        for opening, closing in ("()", "[]", "{}"):
            assert query.count(opening) == query.count(closing), query
        assert query.count('"') % 2 == 0, query
        assert "rate(" not in query or "[" in query, query
