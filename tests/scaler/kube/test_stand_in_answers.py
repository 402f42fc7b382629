"""What the controller relies on of an API server, and whether the stand-in keeps to it.

The expectations are those of Kubernetes' documentation and of recordings; through the kubernetes client where
that hides nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config, watch

from tests.kube_api.http_client import Asking
from tests.kube_api.samples import POLICY_PATH, SCALE_PATH, crd, deployment, lease, policy
from tests.kube_api.stand_in import KubeApi

MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[KubeApi]:
    with KubeApi(tmp_path, stepped=True) as started:
        started.apply(crd(), deployment(replicas=1), policy())
        yield started


@pytest.fixture
def ask(api: KubeApi) -> Iterator[Asking]:
    with Asking(api) as asking:
        yield asking


@pytest.fixture
def real(api: KubeApi) -> Iterator[client.ApiClient]:
    configuration = client.Configuration()
    config.load_kube_config(str(api.kubeconfig()), client_configuration=configuration)
    with client.ApiClient(configuration) as opened:
        yield opened


def test_a_write_with_a_stale_version_changes_nothing(ask: Asking) -> None:
    scale = ask("GET", SCALE_PATH).body
    assert ask("PUT", SCALE_PATH, {**scale, "spec": {"replicas": 3}}).code == 200
    refused = ask("PUT", SCALE_PATH, {**scale, "spec": {"replicas": 9}})
    assert (refused.code, refused.body["reason"]) == (409, "Conflict")
    stale = {"metadata": {"resourceVersion": scale["metadata"]["resourceVersion"]}, "spec": {"replicas": 9}}
    assert ask("PATCH", SCALE_PATH, stale, MERGE).code == 409
    assert ask("GET", SCALE_PATH).body["spec"] == {"replicas": 3}


def test_a_scale_of_none_has_no_replicas_field(ask: Asking) -> None:
    assert ask("PATCH", SCALE_PATH, {"spec": {"replicas": 0}}, MERGE).body["spec"] == {}


def test_the_status_is_written_apart_and_counts_no_generation(ask: Asking) -> None:
    before = ask("GET", POLICY_PATH).body
    written = ask("PUT", POLICY_PATH + "/status", {**before, "spec": {}, "status": {"watts": 12.5}}).body
    assert (written["spec"], written["status"]) == (before["spec"], {"watts": 12.5})
    assert written["metadata"]["generation"] == before["metadata"]["generation"] == 1
    edited = ask("PATCH", POLICY_PATH, {"spec": {"replicas": {"max": 7}}, "status": {"watts": 1}}, MERGE).body
    assert edited["status"] == {"watts": 12.5}
    assert edited["metadata"]["generation"] == 2


def test_a_write_that_changes_nothing_has_no_new_version(ask: Asking) -> None:
    before = ask("GET", POLICY_PATH).body["metadata"]["resourceVersion"]
    again = ask("PATCH", POLICY_PATH, {"spec": {"slo": {"latency": "50ms"}}}, MERGE).body
    assert again["metadata"]["resourceVersion"] == before


def test_an_update_of_a_custom_object_needs_its_version(ask: Asking) -> None:
    held = ask("GET", POLICY_PATH).body
    del held["metadata"]["resourceVersion"]
    refused = ask("PUT", POLICY_PATH, held)
    assert refused.code == 422
    assert "metadata.resourceVersion: Invalid value: 0x0: must be specified" in refused.body["message"]


@pytest.mark.parametrize(
    ("change", "field", "says"),
    [
        ({"replicas": {"min": 5, "max": 2}}, "spec", "replicas.min must not exceed replicas.max"),
        ({"slo": {"latency": "soon"}}, "spec.slo.latency", "should match"),
        ({"slo": {"percentile": 12}}, "spec.slo.percentile", "greater than or equal to 50"),
        ({"slo": {"percentile": "high"}}, "spec.slo.percentile", 'must be of type number: "string"'),
        ({"targetRef": None}, "spec.targetRef", "Required value"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(
    ask: Asking, change: dict[str, Any], field: str, says: str
) -> None:
    refused = ask("PATCH", POLICY_PATH, {"spec": change}, MERGE)
    assert (refused.code, refused.body["reason"]) == (422, "Invalid")
    first = refused.body["details"]["causes"][0]
    assert first["field"] == field
    assert says in first["message"]


def test_defaults_are_filled_in_and_strangers_pruned(ask: Asking) -> None:
    changed = ask("PATCH", POLICY_PATH, {"spec": {"strange": 1}}, MERGE)
    assert changed.headers["Warning"] == '299 - "unknown field \\"spec.strange\\""'
    assert changed.body["spec"]["slo"] == {"latency": "50ms", "percentile": 99}
    assert "strange" not in changed.body["spec"]


def test_lease_times_need_six_digits(ask: Asking) -> None:
    refused = ask("POST", LEASES, lease(renew_time="2026-11-22T00:00:05Z"))
    assert refused.code == 400
    assert 'cannot parse "Z" as ".000000"' in refused.body["message"]
    assert ask("POST", LEASES, lease(renew_time="2026-11-22T00:00:05.000000Z")).code == 201


def test_two_that_take_a_lease_at_once_cannot_both_have_it(ask: Asking) -> None:
    held = ask("POST", LEASES, lease(renew_time="2026-11-22T00:00:05.000000Z")).body
    held["spec"]["holderIdentity"] = "a"
    assert ask("PUT", f"{LEASES}/minwatt", held).code == 200
    held["spec"]["holderIdentity"] = "b"
    assert ask("PUT", f"{LEASES}/minwatt", held).code == 409


def test_lists_come_in_pages_of_one_state(ask: Asking, api: KubeApi) -> None:
    api.patch("deployments", "default", "support-text", {"spec": {"replicas": 5}})
    path = "/api/v1/namespaces/default/pods?labelSelector=app%3Dsupport-text&limit=2"
    names: list[str] = []
    versions = set()
    more = ""
    while True:
        page = ask("GET", path + (f"&continue={more}" if more else "")).body
        names += [pod["metadata"]["name"] for pod in page["items"]]
        versions.add(page["metadata"]["resourceVersion"])
        more = page["metadata"].get("continue", "")
        if not more:
            break
    assert (len(names), len(set(names)), len(versions)) == (5, 5, 1)


def test_selectors_choose(ask: Asking) -> None:
    pods = "/api/v1/namespaces/default/pods"

    def count(query: str) -> int:
        return len(ask("GET", f"{pods}?{query}").body["items"])

    assert count("labelSelector=app+in+(support-text,other),!canary") == 1
    assert count("labelSelector=app!=support-text") == 0
    assert count("fieldSelector=status.phase%3DRunning") == 1
    assert count("fieldSelector=metadata.name%3Dnone") == 0


def test_a_watch_goes_on_where_a_list_ended(api: KubeApi, real: client.ApiClient) -> None:
    core = client.CoreV1Api(real)
    listed = core.list_namespaced_pod("default")
    api.patch("deployments", "default", "support-text", {"spec": {"replicas": 2}})
    stream = watch.Watch().stream(
        core.list_namespaced_pod,
        "default",
        resource_version=listed.metadata.resource_version,
        timeout_seconds=1,
    )
    seen = [(event["type"], event["object"].status.phase) for event in stream]
    assert seen[0] == ("ADDED", "Pending")
    assert seen[-1] == ("MODIFIED", "Running")


def test_a_watch_sees_what_leaves_its_selection_as_deleted(ask: Asking, api: KubeApi) -> None:
    version = ask("GET", "/api/v1/pods").body["metadata"]["resourceVersion"]
    (pod,) = api.all_of("pods", "default")
    api.patch("pods", "default", pod["metadata"]["name"], {"metadata": {"labels": {"app": "gone"}}})
    path = (
        f"/api/v1/pods?watch=1&labelSelector=app%3Dsupport-text&timeoutSeconds=0.1&resourceVersion={version}"
    )
    assert [event["type"] for event in ask("GET", path).body][:1] == ["DELETED"]


def test_a_watch_from_a_forgotten_version_is_told_to_list_again(ask: Asking, api: KubeApi) -> None:
    api.forget_changes()
    (event,) = ask("GET", "/api/v1/pods?watch=1&resourceVersion=1").body
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")


def test_a_quiet_watch_is_told_how_far_it_is(ask: Asking, api: KubeApi) -> None:
    api.every_bookmark_s(0.05)
    version = ask("GET", "/api/v1/pods").body["metadata"]["resourceVersion"]
    api.patch("deployments", "default", "support-text", {"metadata": {"labels": {"a": "b"}}})
    path = f"/api/v1/pods?watch=1&allowWatchBookmarks=true&timeoutSeconds=0.2&resourceVersion={version}"
    events = ask("GET", path).body
    assert {event["type"] for event in events} == {"BOOKMARK"}
    assert int(events[-1]["object"]["metadata"]["resourceVersion"]) > int(version)


def test_a_role_gives_what_it_names_and_no_more(api: KubeApi) -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "scaler"}}
    rule = {"apiGroups": ["apps"], "resources": ["deployments/scale"], "verbs": ["get", "update"]}
    role = {"metadata": {"name": "scaler"}, "rules": [rule]}
    group = "rbac.authorization.k8s.io"
    binding = {
        "metadata": {"name": "scaler"},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": "scaler"},
        "subjects": [{"kind": "ServiceAccount", "name": "scaler", "namespace": "default"}],
    }
    api.apply(
        account,
        {"apiVersion": f"{group}/v1", "kind": "Role", **role},
        {"apiVersion": f"{group}/v1", "kind": "RoleBinding", **binding},
    )
    with Asking(api, api.token("default", "scaler")) as ask:
        scale = ask("GET", SCALE_PATH)
        assert scale.code == 200
        assert ask("PUT", SCALE_PATH, scale.body).code == 200
        for method, path in (("PATCH", SCALE_PATH), ("GET", POLICY_PATH), ("GET", "/api/v1/pods")):
            refused = ask(method, path, {} if method == "PATCH" else None, MERGE)
            assert (refused.code, refused.body["reason"]) == (403, "Forbidden")


def test_an_api_that_is_not_installed_is_not_found_by_who_may_look(api: KubeApi, ask: Asking) -> None:
    path = "/apis/keda.sh/v1alpha1/namespaces/default/scaledobjects"
    assert (ask("GET", path).code, ask("GET", path).body) == (404, "404 page not found\n")
    api.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "nobody"}})
    with Asking(api, api.token("default", "nobody")) as nobody:
        assert nobody("GET", path).code == 403


def test_fields_have_one_owner_at_a_time(ask: Asking) -> None:
    def applied(manager: str, config: dict[str, Any], force: bool = False) -> int:
        body = {
            "apiVersion": "minwatt.dev/v1alpha1",
            "kind": "PowerPolicy",
            "metadata": {"name": "support-text"},
        }
        path = f"{POLICY_PATH}?fieldManager={manager}" + ("&force=true" if force else "")
        return ask("PATCH", path, body | config, APPLY).code

    assert applied("a", {"spec": {"replicas": {"max": 5}}}, force=True) == 200
    assert applied("b", {"spec": {"replicas": {"max": 6}}}) == 409
    assert applied("b", {"spec": {"replicas": {"max": 6}}}, force=True) == 200
    assert applied("a", {"spec": {"slo": {"percentile": 95}}}, force=True) == 200
    assert ask("GET", POLICY_PATH).body["spec"]["replicas"]["max"] == 6


def test_an_object_with_a_finalizer_waits_for_it(ask: Asking) -> None:
    ask("PATCH", POLICY_PATH, {"metadata": {"finalizers": ["minwatt.dev/held"]}}, MERGE)
    marked = ask("DELETE", POLICY_PATH).body
    assert "deletionTimestamp" in marked["metadata"]
    assert ask("GET", POLICY_PATH).code == 200
    ask("PATCH", POLICY_PATH, {"metadata": {"finalizers": None}}, MERGE)
    assert ask("GET", POLICY_PATH).code == 404


def test_events_are_one_resource_in_two_groups(ask: Asking) -> None:
    event = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": "support-text.1", "namespace": "default"},
        "eventTime": "2026-11-22T00:00:00.000000Z",
        "reportingController": "minwatt.dev/scaler",
        "reportingInstance": "scaler-a",
        "action": "Scale",
        "reason": "ScaledUp",
        "type": "Normal",
        "note": "1 -> 2 replicas",
        "regarding": {"kind": "PowerPolicy", "name": "support-text", "namespace": "default"},
    }
    path = "/apis/events.k8s.io/v1/namespaces/default/events"
    assert ask("POST", path, event).code == 201
    (seen,) = ask(
        "GET", "/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3Dsupport-text"
    ).body["items"]
    assert (seen["message"], seen["involvedObject"]["kind"]) == ("1 -> 2 replicas", "PowerPolicy")
    note = ask("PATCH", f"{path}/support-text.1", {"note": "other"}, MERGE)
    assert note.code == 422


def test_discovery_names_the_scale_of_every_kind_that_has_one(real: client.ApiClient) -> None:
    resources = client.AppsV1Api(real).get_api_resources().resources
    (scale,) = [each for each in resources if each.name == "deployments/scale"]
    assert (scale.kind, scale.group, scale.version) == ("Scale", "autoscaling", "v1")
    custom = client.CustomObjectsApi(real).get_api_resources("minwatt.dev", "v1alpha1").resources
    assert {each.name for each in custom} == {"powerpolicies", "powerpolicies/status"}


def test_a_message_of_no_known_length_is_refused_with_its_crd(ask: Asking) -> None:
    """As the real server does: kubernetes issue 124234."""
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    other = crd()
    names = {"plural": "others", "singular": "other", "kind": "Other"}
    other["metadata"]["name"], other["spec"]["names"] = "others.minwatt.dev", names
    other["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = {
        "type": "object",
        "properties": {"spec": {"type": "object", "properties": {"n": {"type": "integer"}}}},
    }
    spec = other["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    rule = {"rule": "self.n > 0", "messageExpression": "'n = ' + string(self.n)"}
    spec["x-kubernetes-validations"] = [rule]
    refused = ask("POST", path, other)
    assert refused.code == 422
    assert "Forbidden: estimated messageExpression cost exceeds budget" in refused.body["message"]
    rule["messageExpression"] = "'n = %d'.format([self.n])"
    assert ask("POST", path, other).code == 201
