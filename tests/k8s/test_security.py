"""Each container may do what it must and no more. What the node agent may beyond that is listed here."""

from __future__ import annotations

import pytest

from tests.k8s.rendered import APPLIED, containers, name_of, of_kind, render, workloads

PRIVILEGED = "DaemonSet minwatt-node-agent/minwatt-node-agent"
WITH_TOKEN = {"Deployment minwatt-system/minwatt-controller"}
RESTRICTED_VOLUMES = {"configMap", "secret", "emptyDir", "persistentVolumeClaim", "downwardAPI", "projected"}


@pytest.mark.parametrize("root", APPLIED)
def test_containers_are_confined(root: str) -> None:
    for workload, container in containers(root):
        name = name_of(workload)
        pod, own = workload["spec"]["template"]["spec"]["securityContext"], container["securityContext"]
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert own["readOnlyRootFilesystem"] is True, name
        assert own["capabilities"]["drop"] == ["ALL"], name
        assert not own.get("privileged"), name
        if name == PRIVILEGED:
            assert own["capabilities"]["add"] == ["SYS_ADMIN"]
            continue
        assert "add" not in own["capabilities"], name
        assert own["allowPrivilegeEscalation"] is False, name
        assert pod["runAsNonRoot"] is True, name
        assert pod["runAsUser"] > 0, name
        assert pod["runAsGroup"] > 0, name
        assert not {"runAsUser", "runAsNonRoot", "seccompProfile"} & own.keys(), name


@pytest.mark.parametrize("root", APPLIED)
def test_pods_share_nothing_with_their_node(root: str) -> None:
    for workload in workloads(root):
        spec, name = workload["spec"]["template"]["spec"], name_of(workload)
        if name == PRIVILEGED:
            assert {volume["name"] for volume in spec["volumes"] if "hostPath" in volume} == {
                "socket",
                "state",
            }
            assert not spec.get("hostNetwork")
            assert not spec.get("hostIPC")
            continue
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), name
        for volume in spec.get("volumes", ()):
            (kind,) = volume.keys() - {"name"}
            assert kind in RESTRICTED_VOLUMES, name
        for container in spec["containers"]:
            assert not [port for port in container.get("ports", ()) if "hostPort" in port], name


@pytest.mark.parametrize("root", APPLIED)
def test_tokens_are_only_where_the_api_server_is_asked(root: str) -> None:
    for workload in workloads(root):
        spec, name = workload["spec"]["template"]["spec"], name_of(workload)
        assert spec["automountServiceAccountToken"] is (name in WITH_TOKEN), name
        assert spec["serviceAccountName"] != "default", name
        accounts = {
            (one["metadata"]["namespace"], one["metadata"]["name"]): one
            for one in of_kind(root, "ServiceAccount")
        }
        account = accounts[workload["metadata"]["namespace"], spec["serviceAccountName"]]
        assert account["automountServiceAccountToken"] is False, name


@pytest.mark.parametrize("root", APPLIED)
def test_namespaces_are_under_the_strictest_standard_that_their_pods_meet(root: str) -> None:
    for namespace in of_kind(root, "Namespace"):
        name = namespace["metadata"]["name"]
        level = "privileged" if name == "minwatt-node-agent" else "restricted"
        for mode in ("enforce", "audit", "warn"):
            assert namespace["metadata"]["labels"][f"pod-security.kubernetes.io/{mode}"] == level, name
        if level == "privileged":
            inside = [name_of(one) for one in workloads(root) if one["metadata"]["namespace"] == name]
            assert inside == [PRIVILEGED]


@pytest.mark.parametrize("root", APPLIED)
def test_resources_are_bounded(root: str) -> None:
    for workload, container in containers(root):
        resources, name = container["resources"], name_of(workload)
        assert resources["requests"].keys() >= {"cpu", "memory"}, name
        assert resources["limits"]["memory"], name
        assert "cpu" not in resources["limits"], f"{name}: throttling comes as tail latency"
        for volume in workload["spec"]["template"]["spec"].get("volumes", ()):
            if "emptyDir" in volume:
                assert "sizeLimit" in volume["emptyDir"], f"{name}: {volume['name']}"


@pytest.mark.parametrize("root", APPLIED)
def test_what_a_read_only_container_writes_to_is_mounted(root: str) -> None:
    for workload, container in containers(root):
        writable = {
            mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly", False)
        }
        if container["image"].startswith("minwatt/"):
            assert "/tmp" in writable, name_of(workload)
        for variable in container.get("env", ()):
            if variable["name"] == "XDG_CACHE_HOME":
                assert variable["value"] in writable


@pytest.mark.parametrize("root", [*APPLIED, "monitoring"])
def test_no_secret_stands_in_a_manifest(root: str) -> None:
    assert not [name_of(one) for one in render(root) if one["kind"] == "Secret"]


@pytest.mark.parametrize("root", APPLIED)
def test_images_are_named_with_a_tag_and_without_a_registry(root: str) -> None:
    """An overlay of the user's own says where they are."""
    for workload, container in containers(root):
        repository, colon, tag = container["image"].partition(":")
        assert colon, name_of(workload)
        assert tag not in ("", "latest"), name_of(workload)
        host = repository.split("/")[0] if "/" in repository else ""
        assert "." not in host, name_of(workload)
        assert "localhost" not in host, name_of(workload)
