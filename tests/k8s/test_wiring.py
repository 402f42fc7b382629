"""What refers to something refers to what is there: selectors, ports, probes, budgets, flags."""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import typer

from minwatt import cli
from minwatt.v1.quantities import parse_duration_s
from scaler.bus_opening import BusOptions
from service.settings import ServeSettings
from tests.k8s.rendered import (
    APPLIED,
    ROOT,
    Object,
    containers,
    name_of,
    of_kind,
    pod_labels,
    ports,
    render,
    render_with,
    selected,
    selects,
    workloads,
)

GUIDE = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
LEAST_MARGIN_S = 5.0  # of the grace period over the drain, for the last report and the exit


@pytest.mark.parametrize("root", APPLIED)
def test_selectors_match_their_own_pods_and_no_others(root: str) -> None:
    for workload in workloads(root):
        own = workload["spec"]["selector"]
        assert selected(root, workload["metadata"]["namespace"], own) == [workload], name_of(workload)
        for spread in workload["spec"]["template"]["spec"].get("topologySpreadConstraints", ()):
            assert selects(spread["labelSelector"], pod_labels(workload)), name_of(workload)


@pytest.mark.parametrize("root", APPLIED)
def test_services_lead_to_ports_that_are_there(root: str) -> None:
    for service in of_kind(root, "Service"):
        (workload,) = selected(
            root, service["metadata"]["namespace"], {"matchLabels": service["spec"]["selector"]}
        )
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in ports(workload), name_of(service)
            if service["spec"].get("clusterIP") == "None":  # nobody translates ports of a headless Service
                assert ports(workload)[port["targetPort"]] == port["port"], name_of(service)


@pytest.mark.parametrize("root", APPLIED)
def test_probes_ask_ports_that_are_there(root: str) -> None:
    for workload, container in containers(root):
        known = ports(workload)
        probes = [
            container[kind]
            for kind in ("startupProbe", "readinessProbe", "livenessProbe")
            if kind in container
        ]
        assert "livenessProbe" in container, name_of(workload)
        for probe in probes:
            if "grpc" in probe:
                assert probe["grpc"]["port"] == known["grpc"]
            elif "httpGet" in probe:
                assert probe["httpGet"]["port"] in known


@pytest.mark.parametrize("root", APPLIED)
def test_disruption_budgets_let_nodes_drain(root: str) -> None:
    for budget in of_kind(root, "PodDisruptionBudget"):
        (workload,) = selected(root, budget["metadata"]["namespace"], budget["spec"]["selector"])
        assert workload["kind"] != "DaemonSet"
        assert budget["spec"]["maxUnavailable"] >= 1, (
            "the number of replicas is not this file's: one may be all"
        )
        assert "minAvailable" not in budget["spec"]


@pytest.mark.parametrize("root", APPLIED)
def test_claims_and_maps_that_are_mounted_are_made(root: str) -> None:
    """All but the Secrets, which are the user's to make: docs/kubernetes.md names them."""
    made = {(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in render(root)}
    for workload in workloads(root):
        namespace, spec = workload["metadata"]["namespace"], workload["spec"]["template"]["spec"]
        for volume in spec.get("volumes", ()):
            if "configMap" in volume:
                assert ("ConfigMap", namespace, volume["configMap"]["name"]) in made
            if "persistentVolumeClaim" in volume:
                claim = volume["persistentVolumeClaim"]["claimName"]
                assert ("PersistentVolumeClaim", namespace, claim) in made
            if "secret" in volume:
                assert volume["secret"]["secretName"] in {"minwatt-redis", "minwatt-bus"}
        names = {volume["name"] for volume in spec.get("volumes", ())}
        for container in spec["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} == names, name_of(workload)


@pytest.mark.parametrize("component", ["bus-auth", "node-agent", "redis"])
def test_a_component_is_for_all_fleets_and_not_the_example_s_alone(component: str) -> None:
    def template(made: Sequence[Object], name: str) -> Object:
        (found,) = (one for one in made if one["kind"] == "Deployment" and one["metadata"]["name"] == name)
        spec: Object = found["spec"]["template"]["spec"]
        return spec

    (example,) = (one for one in workloads("overlays/cpu") if one["metadata"]["name"] == "support-text")
    another = {**example, "metadata": {**example["metadata"], "name": "own", "namespace": "own"}}
    made = render_with(f"components/{component}", another)
    assert template(made, "own") == template(made, "support-text")


# -- flags


def arguments(workload: Object, container: Object) -> list[str]:
    """As the kubelet would expand them."""
    labels = pod_labels(workload)
    values = {}
    for variable in container.get("env", ()):
        path = variable.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath", "")
        label = re.fullmatch(r"metadata\.labels\['(.+)'\]", path)
        values[variable["name"]] = labels[label[1]] if label else variable.get("value", "some-name")
    expanded = [re.sub(r"\$\(([A-Z_]+)\)", lambda match: values[match[1]], one) for one in container["args"]]
    assert not [one for one in expanded if "$(" in one]
    return expanded


def parsed(args: Sequence[str]) -> dict[str, Any]:
    """By the real command's own parser, which refuses what it does not know. Nothing is started."""
    module, attribute, _ = cli.COMMANDS[args[0]]
    command = getattr(importlib.import_module(module), attribute)
    found: dict[str, Any] = {}

    @functools.wraps(command)
    def instead(**flags: Any) -> None:
        found.update(flags)

    app = typer.Typer(add_completion=False)
    app.command()(instead)
    app(args=list(args[1:]), standalone_mode=False)
    return found


@pytest.mark.parametrize("root", APPLIED)
def test_flags_are_ones_that_the_commands_take(root: str) -> None:
    for workload, container in containers(root):
        if not container["image"].startswith("minwatt/"):
            continue
        args = arguments(workload, container)
        flags = [one.partition("=")[0] for one in args[1:]]
        assert len(set(flags)) == len(flags), f"{name_of(workload)}: the last one would win"
        params = parsed(args)
        if args[0] == "serve":
            ServeSettings.of_flags(**params)


def settings_of_replicas(root: str) -> Iterator[tuple[Object, ServeSettings]]:
    for workload, container in containers(root):
        if container.get("args", [""])[0] == "serve":
            yield workload, ServeSettings.of_flags(**parsed(arguments(workload, container)))


@pytest.mark.parametrize("root", APPLIED)
def test_a_drain_fits_into_the_grace_period(root: str) -> None:
    for workload, settings in settings_of_replicas(root):
        spec = workload["spec"]["template"]["spec"]
        drain_s = settings.drain_delay_s + settings.drain_grace_s
        assert spec["terminationGracePeriodSeconds"] >= drain_s + LEAST_MARGIN_S, name_of(workload)
        assert settings.drain_grace_s >= settings.default_deadline_s, "a request may take so long"
        probe = spec["containers"][0]["readinessProbe"]
        assert settings.drain_delay_s >= 1.0
        assert probe["periodSeconds"] * probe["failureThreshold"] <= settings.drain_delay_s + drain_s


@pytest.mark.parametrize("root", APPLIED)
def test_replicas_are_what_their_manifest_says(root: str) -> None:
    ((workload, settings),) = settings_of_replicas(root)
    known = ports(workload)
    assert (settings.port, settings.metrics_port) == (known["grpc"], known["metrics"])
    assert settings.host == "0.0.0.0"
    policy = pod_labels(workload)["minwatt.dev/policy"]
    assert settings.fleet.rpartition("/")[2] == policy
    assert settings.max_connection_age_s <= parse_duration_s("60s"), "clients find new replicas by that"
    assert settings.replica_id is None, "a container that starts anew in its pod is another replica"


@pytest.mark.parametrize("root", APPLIED)
def test_the_controller_listens_where_its_service_leads(root: str) -> None:
    ((workload, container),) = (
        (workload, container)
        for workload, container in containers(root)
        if container.get("args", [""])[0] == "scale"
    )
    params, known = parsed(container["args"]), ports(workload)
    assert (params["metrics_port"], params["health_port"]) == (known["metrics"], known["health"])
    bus = BusOptions(*(params[name] for name in ("listen", "bus_redis", "bus_redis_password_file", "host")))
    assert bus.host == "0.0.0.0", "where the kubelet and Prometheus ask"
    if bus.listen:
        assert int(bus.listen.rpartition(":")[2]) == known["bus"]
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert str(params["profiles"]) in mounts


@pytest.mark.parametrize("root", APPLIED)
def test_replicas_show_what_the_controller_asks_for(root: str) -> None:
    ((_, replica),) = settings_of_replicas(root)
    (params,) = (
        parsed(container["args"])
        for _, container in containers(root)
        if container.get("args", [""])[0] == "scale"
    )
    assert (replica.scaler_token_file is None) is (params["bus_token_file"] is None)
    assert (replica.scaler_ca is None) is (params["bus_tls_cert"] is None)
    bus = next(one for one in of_kind(root, "Service") if one["metadata"]["name"] == "minwatt-controller")
    plaintext = bus["spec"]["ports"][0].get("appProtocol") == "kubernetes.io/h2c"
    assert plaintext is (params["bus_tls_cert"] is None)
    if replica.scaler is not None and params["bus_tls_cert"] is not None:
        host = replica.scaler.partition(":")[0]
        assert f"subjectAltName=DNS:{host}\n" in GUIDE, "the name that the certificate is made for"
