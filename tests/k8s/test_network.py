"""Who may speak with whom: nothing that is not named, and what is named leads to ports that are there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.k8s.rendered import (
    APPLIED,
    Object,
    containers,
    name_of,
    namespace_labels,
    of_kind,
    pod_labels,
    ports,
    selected,
    selects,
    workloads,
)

DNS = 53
API_SERVER = {443, 6443}


def network_policies(root: str, namespace: str) -> list[Object]:
    return [one for one in of_kind(root, "NetworkPolicy") if one["metadata"]["namespace"] == namespace]


@pytest.mark.parametrize("root", APPLIED)
def test_each_namespace_denies_what_is_not_named(root: str) -> None:
    for namespace in of_kind(root, "Namespace"):
        (deny,) = (
            one
            for one in network_policies(root, namespace["metadata"]["name"])
            if one["metadata"]["name"] == "default-deny"
        )
        assert deny["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


@pytest.mark.parametrize("root", APPLIED)
def test_each_port_that_is_listened_on_is_open_to_somebody_and_no_other_is(root: str) -> None:
    for workload in workloads(root):
        opened = {
            port["port"]
            for policy in network_policies(root, workload["metadata"]["namespace"])
            if selects(policy["spec"]["podSelector"], pod_labels(workload))
            for rule in policy["spec"].get("ingress", ())
            for port in rule["ports"]
        }
        listened = {
            number for name, number in ports(workload).items() if name != "health"
        }  # the kubelet's alone
        assert opened == listened, name_of(workload)


def peers(
    root: str, policy: Object, rule: Mapping[str, Any]
) -> Iterator[tuple[Mapping[str, Any], list[Object]]]:
    """The peers of an egress rule with the workloads of ours that each leads to."""
    for peer in rule.get("to", ()):
        if "ipBlock" in peer:
            continue
        namespaces = {policy["metadata"]["namespace"]}
        if "namespaceSelector" in peer:
            namespaces = {
                one["metadata"]["namespace"]
                for one in workloads(root)
                if selects(peer["namespaceSelector"], namespace_labels(root, one["metadata"]["namespace"]))
            }
        pods = peer.get("podSelector", {})
        yield peer, [found for name in namespaces for found in selected(root, name, pods)]


def allowed_out(root: str, workload: Object) -> set[tuple[str, int]]:
    """Names of workloads that a pod's egress leads to, with ports."""
    found = set()
    for policy in network_policies(root, workload["metadata"]["namespace"]):
        if not selects(policy["spec"]["podSelector"], pod_labels(workload)):
            continue
        for rule in policy["spec"].get("egress", ()):
            for _, targets in peers(root, policy, rule):
                found |= {(name_of(target), port["port"]) for target in targets for port in rule["ports"]}
    return found


def allowed_in(root: str, source: Object, target: Object) -> set[int]:
    found = set()
    for policy in network_policies(root, target["metadata"]["namespace"]):
        if not selects(policy["spec"]["podSelector"], pod_labels(target)):
            continue
        for rule in policy["spec"].get("ingress", ()):
            for peer in rule["from"]:
                namespace = source["metadata"]["namespace"]
                same = namespace == policy["metadata"]["namespace"]
                there = selects(peer.get("namespaceSelector", {}), namespace_labels(root, namespace))
                if (there if "namespaceSelector" in peer else same) and selects(
                    peer.get("podSelector", {}), pod_labels(source)
                ):
                    found |= {port["port"] for port in rule["ports"]}
    return found


@pytest.mark.parametrize("root", APPLIED)
def test_what_may_go_out_may_come_in(root: str) -> None:
    by_name = {name_of(one): one for one in workloads(root)}
    for source in workloads(root):
        for target, port in allowed_out(root, source):
            assert port in allowed_in(root, source, by_name[target]), f"{name_of(source)} to {target}:{port}"


@pytest.mark.parametrize("root", APPLIED)
def test_replicas_reach_the_bus_that_their_flags_name(root: str) -> None:
    for workload, container in containers(root):
        text = " ".join(container.get("args", ()))
        for host, port in re.findall(r"[@=/]([a-z-]+(?:\.[a-z-]+)?):(\d+)", text):
            name, _, namespace = host.partition(".")
            namespace = namespace or workload["metadata"]["namespace"]
            (service,) = (
                one
                for one in of_kind(root, "Service")
                if (one["metadata"]["namespace"], one["metadata"]["name"]) == (namespace, name)
            )
            assert int(port) in {one["port"] for one in service["spec"]["ports"]}
            (target,) = selected(root, namespace, {"matchLabels": service["spec"]["selector"]})
            assert (name_of(target), int(port)) in allowed_out(root, workload), name_of(workload)
            egress = [
                rule
                for policy in network_policies(root, workload["metadata"]["namespace"])
                if selects(policy["spec"]["podSelector"], pod_labels(workload))
                for rule in policy["spec"].get("egress", ())
            ]
            assert [rule for rule in egress if {one["port"] for one in rule["ports"]} == {DNS}], (
                "a name is resolved"
            )


@pytest.mark.parametrize("root", APPLIED)
def test_only_who_has_a_token_may_go_anywhere(root: str) -> None:
    for workload in workloads(root):
        anywhere = {
            port["port"]
            for policy in network_policies(root, workload["metadata"]["namespace"])
            if selects(policy["spec"]["podSelector"], pod_labels(workload))
            for rule in policy["spec"].get("egress", ())
            if "to" not in rule
            for port in rule["ports"]
        }
        has_token = workload["spec"]["template"]["spec"]["automountServiceAccountToken"]
        assert anywhere == (API_SERVER if has_token else set()), name_of(workload)
