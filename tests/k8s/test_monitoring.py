"""Scrapes find what is there, alerts and panels speak of metrics that exist, alerts fire when they should.

promtool is of Debian's package prometheus (`make system`). Without it these tests fail: unread rules are no
rules.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.dashboard import __main__ as dashboard
from service.metric_catalogue import NOT_THE_SERVERS
from tests.k8s.metric_names import catalogue, mistakes, recorded
from tests.k8s.rendered import APPLIED, K8S, ROOT, Object, of_kind, pod_labels, selects, workloads

ALERT_TESTS = sorted(Path(__file__).parent.glob("rules*_test.yaml"))
GROUPS: list[dict[str, Any]] = yaml.safe_load(
    (K8S / "monitoring" / "rules.yaml").read_text(encoding="utf-8")
)["spec"]["groups"]
RULES = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = [rule for rule in RULES if "alert" in rule]
PANELS = [panel for panel in json.loads(dashboard.written())["panels"] if panel["type"] != "row"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]


@pytest.fixture(scope="module")
def known() -> Mapping[str, frozenset[str]]:
    return {**catalogue(), **recorded(GROUPS)}


def promtool(*arguments: str, folder: Path) -> None:
    found = shutil.which("promtool")
    assert found, "promtool is missing: run `make system` or install Debian's package prometheus"
    done = subprocess.run([found, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def write_rules(folder: Path, groups: object) -> None:
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}), encoding="utf-8")


# -- alerts


@pytest.mark.parametrize("file", ALERT_TESTS, ids=lambda file: file.stem)
def test_alerts_fire_when_they_should_and_only_then(file: Path, tmp_path: Path) -> None:
    write_rules(tmp_path, GROUPS)
    shutil.copy(file, tmp_path)
    promtool("check", "rules", "rules.yaml", folder=tmp_path)
    promtool("test", "rules", file.name, folder=tmp_path)


def test_each_alert_is_tested_firing() -> None:
    tests = [
        test for file in ALERT_TESTS for test in yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]
    ]
    fired = {
        one["alertname"] for test in tests for one in test.get("alert_rule_test", ()) if one["exp_alerts"]
    }
    assert fired == {rule["alert"] for rule in ALERTS}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_rules_speak_of_metrics_that_exist(
    rule: Mapping[str, Any], known: Mapping[str, frozenset[str]]
) -> None:
    assert list(mistakes(rule["expr"], known)) == []


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_is_wrong_and_how_bad(rule: Mapping[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"].keys() == {"summary", "description"}
    kept = re.search(r"(?:max|sum) by \(([^)]*)\)", rule["expr"])
    known_here = set(re.split(r",\s*", kept[1])) if kept else {"namespace", "policy"}
    used = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
    assert used <= known_here


def test_what_clients_did_wrong_spends_no_budget() -> None:
    reasons = "|".join(NOT_THE_SERVERS)
    texts = [rule["expr"] for rule in RULES] + EXPRESSIONS
    left_out = [found for text in texts for found in re.findall(r'reason!~"([^"]*)"', text)]
    assert left_out
    assert set(left_out) == {reasons}


# -- the dashboard


def test_the_dashboard_is_fresh() -> None:
    assert dashboard.FILE.read_text(encoding="utf-8") == dashboard.written(), "python -m scripts.dashboard"


def test_panels_speak_of_metrics_that_exist(known: Mapping[str, frozenset[str]]) -> None:
    for expr in EXPRESSIONS:
        assert list(mistakes(expr, known)) == [], expr


def test_legends_and_groups_agree() -> None:
    """A label in a legend is one that the expression keeps."""
    for panel in PANELS:
        for target in panel["targets"]:
            kept = set()
            for group in re.findall(r"\bby\s*\(([^)]*)\)", target["expr"]):
                kept |= set(re.split(r",\s*", group))
            if not kept:  # no aggregation: all labels are there
                kept = {"namespace", "policy", "pod"}
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= kept, panel["title"]


def test_every_metric_of_a_policy_is_chosen_by_the_dashboards_variables() -> None:
    for expr in EXPRESSIONS:
        for name, matchers in re.findall(r"\b(minwatt\w*(?::\w+)*)(\{[^}]*\})?", expr):
            if name.startswith("minwatt_agent") or name in (
                "minwatt_scaler_leader",
                "minwatt_scaler_api_errors_total",
            ):
                continue
            assert 'namespace=~"$namespace"' in matchers, expr
            assert 'policy=~"$policy"' in matchers, expr


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panels_unit_is_that_of_its_metrics(panel: Mapping[str, Any]) -> None:
    unit = panel["fieldConfig"]["defaults"]["unit"]
    for target in panel["targets"]:
        expr = target["expr"]
        if " / " in expr or expr.startswith("1 -"):
            continue  # a ratio
        rated = "rate(" in expr and "increase(" not in expr and "histogram_quantile" not in expr
        if "_seconds_bucket" in expr or (not rated and re.search(r"_seconds\b", expr)):
            assert unit == "s", panel["title"]
        if "_watts" in expr or (rated and "joules_total" in expr):
            assert unit == "watt", panel["title"]
        if "_hertz" in expr:
            assert unit == "hertz", panel["title"]
        if "_ratio" in expr or (rated and "_seconds_total" in expr):
            assert unit == "percentunit", panel["title"]


def test_prometheus_can_read_every_expression(tmp_path: Path) -> None:
    groups = [
        {
            "name": "dashboard",
            "rules": [
                {"record": f"panel:{number}:expr", "expr": expr.replace("$__rate_interval", "5m")}
                for number, expr in enumerate(EXPRESSIONS)
            ],
        }
    ]
    write_rules(tmp_path, groups)
    promtool("check", "rules", "rules.yaml", folder=tmp_path)


def test_panels_lie_beside_one_another() -> None:
    covered: set[tuple[int, int]] = set()
    for panel in json.loads(dashboard.written())["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])}
        assert not covered & cells, panel["title"]
        covered |= cells


# -- scrapes


def monitors() -> Iterator[Object]:
    yield from of_kind("monitoring", "ServiceMonitor", "PodMonitor")


@pytest.mark.parametrize("root", APPLIED)
def test_scrapes_find_their_targets(root: str) -> None:
    found = set()
    for monitor in monitors():
        names = monitor["spec"]["namespaceSelector"]
        if monitor["kind"] == "PodMonitor":
            (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
            things = [
                (one["metadata"]["namespace"], pod_labels(one), [p["name"] for p in ports], one)
                for one in workloads(root)
                for ports in [one["spec"]["template"]["spec"]["containers"][0]["ports"]]
            ]
        else:
            (endpoint,) = monitor["spec"]["endpoints"]
            things = [
                (
                    one["metadata"]["namespace"],
                    one["metadata"].get("labels", {}),
                    [port["name"] for port in one["spec"]["ports"]],
                    one,
                )
                for one in of_kind(root, "Service")
            ]
        for namespace, labels, ports, thing in things:
            watched = names.get("any") or namespace in names["matchNames"]
            chosen = watched and selects(monitor["spec"]["selector"], labels)
            if chosen and endpoint["port"] in ports:  # the operator passes over those without it
                found.add((monitor["metadata"]["name"], thing["metadata"]["name"]))
    agent = {("minwatt-node-agent", "minwatt-node-agent")} if root.startswith("overlays/gpu") else set()
    assert (
        found == {("minwatt-controller", "minwatt-controller"), ("minwatt-replicas", "support-text")} | agent
    )


def test_the_policys_name_comes_from_the_label_that_replicas_carry() -> None:
    (replicas,) = (one for one in monitors() if one["metadata"]["name"] == "minwatt-replicas")
    ((endpoint),) = replicas["spec"]["podMetricsEndpoints"]
    sources = {rule["targetLabel"]: rule["sourceLabels"] for rule in endpoint["relabelings"]}
    assert sources["policy"] == ["__meta_kubernetes_pod_label_minwatt_dev_policy"]


def test_the_policys_namespace_is_not_overwritten() -> None:
    (controller,) = (one for one in monitors() if one["kind"] == "ServiceMonitor")
    assert all(endpoint["honorLabels"] for endpoint in controller["spec"]["endpoints"])


def test_monitoring_lies_where_network_policies_let_it_in() -> None:
    for one in of_kind("monitoring", "ServiceMonitor", "PodMonitor", "PrometheusRule", "ConfigMap"):
        assert one["metadata"]["namespace"] == "monitoring"


def test_the_guide_lists_each_alert() -> None:
    page = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    for rule in ALERTS:
        assert re.search(rf"^\| `{rule['alert']}` \| .* \| {rule['labels']['severity']} \|$", page, re.M)
