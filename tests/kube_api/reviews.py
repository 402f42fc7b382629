"""Questions about rights: `kubectl auth can-i` and `whoami`, answered by the same RBAC that requests pass."""

from __future__ import annotations

from collections.abc import Callable

from tests.kube_api.access import Access, Attempt
from tests.kube_api.calls import Call
from tests.kube_api.store import Object


def _review_self(access: Access, call: Call) -> Object:
    asked = call.body["spec"]
    if "resourceAttributes" in asked:
        wanted = asked["resourceAttributes"]
        attempt = Attempt(
            wanted.get("verb", ""),
            wanted.get("group", ""),
            wanted.get("resource", ""),
            wanted.get("subresource") or None,
            wanted.get("namespace") or None,
            wanted.get("name") or None,
        )
        allowed = access.allowed(call.user, attempt)
    else:
        allowed = "system:masters" in call.user.groups
    return _reviewed(call, {"allowed": allowed})


def _review_who(access: Access, call: Call) -> Object:
    return _reviewed(call, {"userInfo": {"username": call.user.name, "groups": list(call.user.groups)}})


def _reviewed(call: Call, status: Object) -> Object:
    return {
        "kind": call.kind.kind,
        "apiVersion": call.kind.api_version,
        "metadata": {},
        **({"spec": call.body["spec"]} if "spec" in call.body else {}),
        "status": status,
    }


REVIEWS: dict[tuple[str, str], Callable[[Access, Call], Object]] = {
    ("authorization.k8s.io", "selfsubjectaccessreviews"): _review_self,
    ("authentication.k8s.io", "selfsubjectreviews"): _review_who,
}
