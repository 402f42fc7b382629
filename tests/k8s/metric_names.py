"""Which metrics an expression may speak of, and with which labels: the catalogues, and what scraping adds.

Read by the tests of the dashboard and of the alerts.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from nodeagent.cards import Node
from nodeagent.journal import Journal
from nodeagent.keeper import Keeper
from nodeagent.metrics import Metrics as AgentMetrics
from nodeagent.server import AgentServer
from nodeagent.watts import Sight, Watts
from scaler import metric_catalogue as scaler_metrics
from service import metric_catalogue as service_metrics
from tests.nodeagent.in_memory import Disk, Machine, owner_of, policy

# What a scrape adds: Kubernetes' own, and what k8s/monitoring/scrapes.yaml copies from the pod.
OF_THE_SCRAPE = frozenset({"namespace", "pod", "node", "policy", "job", "instance", "container", "endpoint"})
_NAME = re.compile(r"(?<![\w:\"'$])(minwatt[\w:]*|up)(?![\w:]*\()(\{[^}]*\})?")
_MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_GROUPS = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")


def catalogue() -> Mapping[str, frozenset[str]]:
    """Each series by the name that is queried, with its own labels."""
    found: dict[str, frozenset[str]] = {"up": frozenset()}
    families = (*service_metrics.FAMILIES, *scaler_metrics.FAMILIES)
    for family in families:
        labels = frozenset(family.labels)
        if family.kind == "histogram":
            found[f"{family.name}_bucket"] = labels | {"le"}
            found[f"{family.name}_sum"] = found[f"{family.name}_count"] = labels
        else:
            found[family.shown] = labels
    for family in _of_the_agent():
        shown = f"{family.name}_total" if family.type == "counter" else family.name
        found[shown] = frozenset(getattr(family, "_labelnames", ()))
    return found


def _of_the_agent() -> Iterable[Any]:
    """Of an agent of a node without cards."""
    machine = Machine()
    keeper = Keeper(Node(machine.find, machine.open, owner_of), Journal(Disk(), "boot"), policy())
    watts = Watts(Sight(machine.open, owner_of, time.monotonic))
    return list(AgentMetrics(AgentServer(keeper, watts)).collect())


def mistakes(expr: str, known: Mapping[str, frozenset[str]]) -> Iterator[str]:
    """Names and labels of an expression that are nobody's."""
    used: set[str] = set()
    for name, matchers in _NAME.findall(expr):
        if name not in known:
            yield f"{name}: no such metric"
            continue
        used.add(name)
        for label in _MATCHER.findall(matchers):
            if label not in known[name] | OF_THE_SCRAPE:
                yield f"{name}: no label {label}"
    if not used:
        yield "speaks of no metric"
    labels = OF_THE_SCRAPE.union(*(known[name] for name in used))
    for group in _GROUPS.findall(expr):
        for label in filter(None, re.split(r"[,\s]+", group)):
            if label not in labels:
                yield f"groups by {label}, which none of its metrics has"


def recorded(groups: Iterable[Mapping[str, Any]]) -> Mapping[str, frozenset[str]]:
    """What the recording rules of a PrometheusRule make."""
    rules = [rule for group in groups for rule in group["rules"] if "record" in rule]
    return {rule["record"]: frozenset({"namespace", "policy"}) for rule in rules}
