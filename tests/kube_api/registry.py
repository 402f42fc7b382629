"""The verbs: what create, get, list, update, patch, delete and the subresources do to the store.

One call is one request that authentication, authorization and faults let through. Called with the store's
lock held. The shape of answers is held against recordings of a real server (tests/scaler/kube).
"""

from __future__ import annotations

import copy
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.kube_api import patches, scaling
from tests.kube_api.access import Access
from tests.kube_api.admission import admitted, decoded
from tests.kube_api.answers import (
    bad_request,
    expired,
    forbidden,
    invalid,
    method_not_allowed,
    no_such_path,
    not_found,
    required,
    unsupported_media_type,
)
from tests.kube_api.calls import Answer, Call, fitting, named
from tests.kube_api.crds import crd_established
from tests.kube_api.events_view import core_event, stored_event
from tests.kube_api.kinds import Kind, Kinds
from tests.kube_api.paging import continue_token, continued, place
from tests.kube_api.reviews import REVIEWS
from tests.kube_api.store import Object, Store
from tests.kube_api.subresources import evict, issue_token

_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"


class Registry:
    def __init__(self, store: Store, kinds: Kinds, access: Access) -> None:
        self._store = store
        self._kinds = kinds
        self._access = access
        self._owners: dict[str, patches.Owners] = {}

    def answer(self, call: Call) -> Answer:
        if call.subresource is not None:
            return self._answer_subresource(call)
        do: dict[str, Callable[[Call], Answer]] = {
            "get": self._get,
            "list": self._list,
            "create": self._create,
            "update": self._update,
            "patch": self._patch,
            "delete": self._delete,
            "deletecollection": self._delete_collection,
        }
        if call.verb not in do:
            raise method_not_allowed()
        return do[call.verb](call)

    def seen(self, kind: Kind, item: Object) -> Object:
        """A stored object as its kind's own version shows it."""
        return core_event(item) if (kind.group, kind.plural) == ("", "events") else item

    def stored_as(self, kind: Kind) -> Kind:
        """Events are one resource in two groups."""
        if (kind.group, kind.plural) == ("", "events"):
            return self._kind("events.k8s.io", "events")
        return kind

    # Reading

    def _get(self, call: Call) -> Answer:
        found = self._store.get(self.stored_as(call.kind), call.namespace, named(call))
        return Answer(200, self.seen(call.kind, found))

    def _list(self, call: Call) -> Answer:
        items = self.matching(call.kind, call.namespace, call.params)
        meta: dict[str, Any] = {"resourceVersion": str(self._store.version)}
        if call.kind.crd is not None:
            meta["continue"] = ""
        start, version = continued(call.params.get("continue"))
        if start is not None:
            if version < self._store.oldest:
                raise expired(
                    "The provided continue parameter is too old to display a consistent list result."
                )
            items = [item for item in items if place(item) > start]
            meta["resourceVersion"] = str(version)
        limit = int(call.params.get("limit") or 0)
        if limit and len(items) > limit:
            rest = len(items) - limit
            items = items[:limit]
            meta["continue"] = continue_token(int(meta["resourceVersion"]), place(items[-1]))
            if not call.params.get("labelSelector") and not call.params.get("fieldSelector"):
                meta["remainingItemCount"] = rest
        if call.kind.crd is None:
            items = [{key: item[key] for key in item if key not in ("apiVersion", "kind")} for item in items]
        return Answer(
            200,
            {
                "kind": call.kind.list_kind,
                "apiVersion": call.kind.api_version,
                "metadata": meta,
                "items": items,
            },
        )

    def matching(self, kind: Kind, namespace: str | None, params: Mapping[str, str]) -> list[Object]:
        fits = fitting(params)
        items = (self.seen(kind, item) for item in self._store.look(self.stored_as(kind), namespace))
        return [copy.deepcopy(item) for item in items if fits(item)]

    # Writing

    def _create(self, call: Call) -> Answer:
        review = REVIEWS.get((call.kind.group, call.kind.plural))
        if review is not None:
            return Answer(201, review(self._access, call))
        given = decoded(call, call.body)
        meta = given["metadata"]
        if not meta.get("name"):
            if not meta.get("generateName"):
                cause = required("metadata.name", "name or generateName is required")
                raise invalid(call.kind.kind, call.kind.group, "", [cause])
            meta["name"] = meta["generateName"] + "".join(secrets.choice(_SUFFIX) for _ in range(5))
        self._check_namespace(call)
        kind = self.stored_as(call.kind)
        if kind is not call.kind:
            given = stored_event(given)
        if kind.crd is not None and kind.has_status:
            given.pop("status", None)
        ready, warnings = admitted(call, kind, given, None)
        with self._dry(call):
            made = self._store.create(kind, ready)
            self._follow(kind, made, call)
        self._owned(made, {}, call)
        return Answer(201, self.seen(call.kind, made), warnings)

    def _update(self, call: Call) -> Answer:
        given = decoded(call, call.body)
        own = given["metadata"].setdefault("name", call.name)
        if own != call.name:
            why = f"the name of the object ({own}) does not match the name on the URL ({call.name})"
            raise bad_request(why)
        kind = self.stored_as(call.kind)
        old = self._store.peek(kind, call.namespace, named(call))
        if old is None and kind.plural in ("leases", "events"):
            return self._create(call)  # these may be created by an update
        if old is None:
            raise not_found(kind.plural, kind.group, named(call))
        return self._replaced(call, kind, given, old, patched=False)

    def _patch(self, call: Call) -> Answer:
        kind = self.stored_as(call.kind)
        old = self._store.peek(kind, call.namespace, named(call))
        if old is None:
            if call.content_type != patches.APPLY:
                raise not_found(kind.plural, kind.group, named(call))
            patches.check_apply(call.body, call.manager)
            return self._create(call)
        shown = self.seen(call.kind, old)
        new = self._patched(call, shown)
        if kind is not call.kind:
            new = stored_event(new)
        new["metadata"]["name"] = old["metadata"]["name"]
        return self._replaced(call, kind, decoded(call, new), old, patched=True)

    def _patched(self, call: Call, old: Object) -> Object:
        """The object as the patch makes it, with the resourceVersion only if the patch names one."""
        base = copy.deepcopy(old)
        version = base["metadata"].pop("resourceVersion")
        if call.content_type == patches.JSON_PATCH:
            base["metadata"]["resourceVersion"] = version
            return dict(
                patches.json_patched(
                    base, call.body, call.kind.kind, call.kind.group, old["metadata"]["name"]
                )
            )
        if call.content_type == patches.MERGE:
            return dict(patches.merged(base, call.body))
        if call.content_type == patches.STRATEGIC and call.kind.crd is None:
            return dict(patches.strategically_merged(base, call.body))
        if call.content_type == patches.APPLY:
            patches.check_apply(call.body, call.manager)
            owners = copy.deepcopy(self._owners.get(old["metadata"]["uid"], {}))
            force = call.params.get("force") == "true"
            new = dict(patches.applied(base, call.body, owners, call.manager, force))
            if not call.dry:
                self._owners[old["metadata"]["uid"]] = owners
            return new
        raise unsupported_media_type((patches.JSON_PATCH, patches.MERGE, patches.APPLY))

    def _replaced(self, call: Call, kind: Kind, given: Object, old: Object, *, patched: bool) -> Answer:
        of = call.subresource
        if of == "status":
            given = {**{key: old[key] for key in old if key not in ("status", "metadata")}, **_only(given)}
        ready, warnings = admitted(call, kind, given, old)
        with self._dry(call):
            new = self._store.update(kind, ready, of, patched=patched)
            self._follow(kind, new, call)
        if call.content_type != patches.APPLY:
            self._owned(new, old, call)
        return Answer(200, self.seen(call.kind, new), warnings)

    def _delete(self, call: Call) -> Answer:
        kind = self.stored_as(call.kind)
        options = call.body if isinstance(call.body, Mapping) else {}
        old = self._store.get(kind, call.namespace, named(call))
        grace_s = 0
        if kind.plural == "pods" and old["spec"].get("nodeName"):
            default_s = old["spec"].get("terminationGracePeriodSeconds", 30)
            asked_s = call.params.get("gracePeriodSeconds", options.get("gracePeriodSeconds", default_s))
            grace_s = int(asked_s)
        with self._dry(call):
            if kind.plural == "namespaces":
                return Answer(200, self._store.mark_terminating(kind, named(call)))
            item, gone = self._store.delete(
                kind, call.namespace, named(call), grace_s, options.get("preconditions") or {}
            )
            if kind.plural == "customresourcedefinitions" and gone and not call.dry:
                for served in [each for each in self._kinds if each.group == item["spec"]["group"]]:
                    if served.plural == item["spec"]["names"]["plural"]:
                        self._clear(served, None, {})
                self._kinds.undefine(named(call))
        if not gone or kind.plural == "pods":
            return Answer(200, self.seen(call.kind, item))
        details = {
            "name": item["metadata"]["name"],
            "group": call.kind.group,
            "kind": call.kind.plural,
            "uid": item["metadata"]["uid"],
        }
        return Answer(
            200,
            {
                "kind": "Status",
                "apiVersion": "v1",
                "metadata": {},
                "status": "Success",
                "details": {key: value for key, value in details.items() if value},
            },
        )

    def _delete_collection(self, call: Call) -> Answer:
        listed = self._list(call)
        with self._dry(call):
            self._clear(call.kind, call.namespace, call.params)
        return listed

    def _clear(self, kind: Kind, namespace: str | None, params: Mapping[str, str]) -> None:
        for item in self.matching(kind, namespace, params):
            meta = item["metadata"]
            self._store.delete(self.stored_as(kind), meta.get("namespace"), meta["name"])

    # Subresources

    def _answer_subresource(self, call: Call) -> Answer:
        kind, of = call.kind, call.subresource
        if of not in kind.subresources:
            raise no_such_path()
        if of == "scale":
            return self._answer_scale(call)
        if (kind.plural, of, call.verb) == ("serviceaccounts", "token", "create"):
            return issue_token(self._store, self._access, call)
        if (kind.plural, of, call.verb) == ("pods", "eviction", "create"):
            return evict(self._store, self._kind("policy", "poddisruptionbudgets"), call)
        if of == "status" and call.verb in ("get", "update", "patch"):
            return {"get": self._get, "update": self._update, "patch": self._patch}[call.verb](call)
        raise method_not_allowed()

    def _answer_scale(self, call: Call) -> Answer:
        kind = call.kind
        old = self._store.get(kind, call.namespace, named(call))
        if call.verb == "get":
            return Answer(200, scaling.scale_of(kind, old))
        if call.verb == "update":
            given = call.body
        elif call.verb == "patch":
            given = self._patched(call, scaling.scale_of(kind, old))
        else:
            raise method_not_allowed()
        with self._dry(call):
            new = self._store.update(
                kind, scaling.scaled(kind, old, given), None, patched=call.verb == "patch"
            )
        if (
            kind.counts_generations
            and new["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"]
        ):
            self._owned(new, old, call)
        return Answer(200, scaling.scale_of(kind, new))

    # What goes with it

    def _check_namespace(self, call: Call) -> None:
        if not call.kind.namespaced:
            return
        namespace = self._store.get(self._kind("", "namespaces"), None, call.namespace or "")
        if namespace["status"]["phase"] == "Terminating":
            why = f"unable to create new content in namespace {call.namespace} because it is being terminated"
            raise forbidden(call.kind.plural, call.kind.group, call.name, why)

    def _follow(self, kind: Kind, item: Object, call: Call) -> None:
        if kind.plural == "customresourcedefinitions" and not call.dry and call.subresource is None:
            self._kinds.define(item)
            established = crd_established(item, self._store.now_s())
            self._store.update(kind, established, "status", patched=True)

    def _owned(self, new: Object, old: Object, call: Call) -> None:
        if not call.dry:
            owners = self._owners.setdefault(new["metadata"]["uid"], {})
            if call.content_type == patches.APPLY:
                patches.applied({}, call.body, owners, call.manager, True)
            else:
                patches.updated_by(old, new, owners, call.manager)

    def _kind(self, group: str, plural: str) -> Kind:
        found = self._kinds.find(group, "v1", plural)
        if found is None:
            raise no_such_path()
        return found

    @contextmanager
    def _dry(self, call: Call) -> Iterator[None]:
        self._store.dry = call.dry
        try:
            yield
        finally:
            self._store.dry = False


def _only(given: Object) -> Object:
    return {key: given[key] for key in ("metadata", "status") if key in given}
