"""Subresources that are deeds: a token for a service account, a pod's eviction."""

from __future__ import annotations

from tests.kube_api.access import Access, service_account
from tests.kube_api.answers import Refusal
from tests.kube_api.calls import Answer, Call, named
from tests.kube_api.kinds import Kind
from tests.kube_api.selectors import selects
from tests.kube_api.store import Store, stamp


def issue_token(store: Store, access: Access, call: Call) -> Answer:
    account = store.get(call.kind, call.namespace, named(call))
    namespace, name = account["metadata"]["namespace"], account["metadata"]["name"]
    wanted_s = int(call.body.get("spec", {}).get("expirationSeconds") or 3600)
    until = stamp(store.now_s() + wanted_s)
    token = access.token(service_account(namespace, name))
    meta = {key: account["metadata"][key] for key in ("name", "namespace", "uid", "creationTimestamp")}
    spec = {
        "audiences": ["https://kubernetes.default.svc"],
        "expirationSeconds": wanted_s,
        "boundObjectRef": None,
    }
    return Answer(
        201,
        {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": meta,
            "spec": spec,
            "status": {"token": token, "expirationTimestamp": until},
        },
    )


def evict(store: Store, budgets: Kind, call: Call) -> Answer:
    pod = store.get(call.kind, call.namespace, named(call))
    for budget in store.look(budgets, call.namespace):
        if selects(budget["spec"].get("selector"))(pod) and not budget["status"].get("disruptionsAllowed"):
            message = "Cannot evict pod as it would violate the pod's disruption budget."
            raise Refusal(429, "TooManyRequests", message)
    grace_s = pod["spec"].get("terminationGracePeriodSeconds", 30) if pod["spec"].get("nodeName") else 0
    store.delete(call.kind, call.namespace, named(call), grace_s)
    return Answer(201, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})
