"""The verbs: what create, get, list, update, patch, delete and the subresources do to the store.

One call is one request that authentication, authorization and faults let through. Called with the store's
lock held. The shape of answers is held against recordings of a real server (tests/scaler/kube).
"""

from __future__ import annotations

import base64
import copy
import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import yaml

from tests.kube_api import builtin, patches, scaling, schema
from tests.kube_api.access import Access, Attempt, User, service_account
from tests.kube_api.answers import (
    Cause,
    Refusal,
    bad_request,
    cannot_be_handled,
    expired,
    forbidden,
    invalid,
    method_not_allowed,
    no_such_path,
    not_found,
    required,
    unsupported_media_type,
)
from tests.kube_api.events_view import core_event, stored_event
from tests.kube_api.kinds import Kind, Kinds
from tests.kube_api.selectors import fields_match, labels_match, selects
from tests.kube_api.store import Object, Store, stamp

_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"


@dataclass(frozen=True)
class Call:
    """One request to a resource, as the verbs see it."""

    verb: str
    kind: Kind
    subresource: str | None
    namespace: str | None
    name: str | None
    params: Mapping[str, str]
    body: Any
    content_type: str
    user: User
    manager: str

    @property
    def dry(self) -> bool:
        return self.params.get("dryRun") == "All"


@dataclass(frozen=True)
class Answer:
    code: int
    body: Object
    warnings: tuple[str, ...] = field(default=())


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
        found = self._store.get(self.stored_as(call.kind), call.namespace, _name(call))
        return Answer(200, self.seen(call.kind, found))

    def _list(self, call: Call) -> Answer:
        items = self.matching(call.kind, call.namespace, call.params)
        meta: dict[str, Any] = {"resourceVersion": str(self._store.version)}
        if call.kind.crd is not None:
            meta["continue"] = ""
        start, version = _continued(call.params.get("continue"))
        if start is not None:
            if version < self._store.oldest:
                raise expired(
                    "The provided continue parameter is too old to display a consistent list result."
                )
            items = [item for item in items if _place(item) > start]
            meta["resourceVersion"] = str(version)
        limit = int(call.params.get("limit") or 0)
        if limit and len(items) > limit:
            rest = len(items) - limit
            items = items[:limit]
            meta["continue"] = _continue_token(int(meta["resourceVersion"]), _place(items[-1]))
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
        review = _REVIEWS.get((call.kind.group, call.kind.plural))
        if review is not None:
            return Answer(201, review(self._access, call))
        given = self._decoded(call, call.body)
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
        ready, warnings = self._admitted(call, kind, given, None)
        with self._dry(call):
            made = self._store.create(kind, ready)
            self._follow(kind, made, call)
        self._owned(made, {}, call)
        return Answer(201, self.seen(call.kind, made), warnings)

    def _update(self, call: Call) -> Answer:
        given = self._decoded(call, call.body)
        named = given["metadata"].setdefault("name", call.name)
        if named != call.name:
            why = f"the name of the object ({named}) does not match the name on the URL ({call.name})"
            raise bad_request(why)
        kind = self.stored_as(call.kind)
        old = self._store.peek(kind, call.namespace, _name(call))
        if old is None and kind.plural in ("leases", "events"):
            return self._create(call)  # these may be created by an update
        if old is None:
            raise not_found(kind.plural, kind.group, _name(call))
        return self._replaced(call, kind, given, old, patched=False)

    def _patch(self, call: Call) -> Answer:
        kind = self.stored_as(call.kind)
        old = self._store.peek(kind, call.namespace, _name(call))
        if old is None:
            if call.content_type != patches.APPLY:
                raise not_found(kind.plural, kind.group, _name(call))
            patches.check_apply(call.body, call.manager)
            return self._create(call)
        shown = self.seen(call.kind, old)
        new = self._patched(call, shown)
        if kind is not call.kind:
            new = stored_event(new)
        new["metadata"]["name"] = old["metadata"]["name"]
        return self._replaced(call, kind, self._decoded(call, new), old, patched=True)

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
        ready, warnings = self._admitted(call, kind, given, old)
        with self._dry(call):
            new = self._store.update(kind, ready, of, patched=patched)
            self._follow(kind, new, call)
        if call.content_type != patches.APPLY:
            self._owned(new, old, call)
        return Answer(200, self.seen(call.kind, new), warnings)

    def _delete(self, call: Call) -> Answer:
        kind = self.stored_as(call.kind)
        options = call.body if isinstance(call.body, Mapping) else {}
        old = self._store.get(kind, call.namespace, _name(call))
        grace_s = 0
        if kind.plural == "pods" and old["spec"].get("nodeName"):
            default_s = old["spec"].get("terminationGracePeriodSeconds", 30)
            asked_s = call.params.get("gracePeriodSeconds", options.get("gracePeriodSeconds", default_s))
            grace_s = int(asked_s)
        with self._dry(call):
            if kind.plural == "namespaces":
                return Answer(200, self._store.mark_terminating(kind, _name(call)))
            item, gone = self._store.delete(
                kind, call.namespace, _name(call), grace_s, options.get("preconditions") or {}
            )
            if kind.plural == "customresourcedefinitions" and gone and not call.dry:
                for served in [each for each in self._kinds if each.group == item["spec"]["group"]]:
                    if served.plural == item["spec"]["names"]["plural"]:
                        self._clear(served, None, {})
                self._kinds.undefine(_name(call))
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
            return self._issue_token(call)
        if (kind.plural, of, call.verb) == ("pods", "eviction", "create"):
            return self._evict(call)
        if of == "status" and call.verb in ("get", "update", "patch"):
            return {"get": self._get, "update": self._update, "patch": self._patch}[call.verb](call)
        raise method_not_allowed()

    def _answer_scale(self, call: Call) -> Answer:
        kind = call.kind
        old = self._store.get(kind, call.namespace, _name(call))
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

    def _issue_token(self, call: Call) -> Answer:
        account = self._store.get(call.kind, call.namespace, _name(call))
        namespace, name = account["metadata"]["namespace"], account["metadata"]["name"]
        wanted_s = int(call.body.get("spec", {}).get("expirationSeconds") or 3600)
        until = stamp(self._store.now_s() + wanted_s)
        token = self._access.token(service_account(namespace, name))
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

    def _evict(self, call: Call) -> Answer:
        pod = self._store.get(call.kind, call.namespace, _name(call))
        for budget in self._store.all_of(self._kind("policy", "poddisruptionbudgets"), call.namespace):
            if selects(budget["spec"].get("selector"))(pod) and not budget["status"].get(
                "disruptionsAllowed"
            ):
                message = "Cannot evict pod as it would violate the pod's disruption budget."
                raise Refusal(429, "TooManyRequests", message)
        grace_s = pod["spec"].get("terminationGracePeriodSeconds", 30) if pod["spec"].get("nodeName") else 0
        self._store.delete(call.kind, call.namespace, _name(call), grace_s)
        return Answer(201, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})

    # What is done to an object on its way in

    def _decoded(self, call: Call, body: Any) -> Object:
        kind = call.kind
        if not isinstance(body, dict):
            raise cannot_be_handled(kind.kind, kind.version, "json: cannot unmarshal into Go value")
        given = copy.deepcopy(body)
        if given.setdefault("kind", kind.kind) != kind.kind or (
            given.setdefault("apiVersion", kind.api_version) != kind.api_version
        ):
            named = f"{given['apiVersion']}, Kind={given['kind']}".replace("/", "/")
            raise bad_request(
                f"the API version in the data ({named}) does not match the expected API version "
                f"({kind.api_version}, Kind={kind.kind})"
            )
        meta = given.setdefault("metadata", {})
        if kind.namespaced:
            if meta.setdefault("namespace", call.namespace) != call.namespace:
                raise bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request"
                )
        else:
            meta.pop("namespace", None)
        return given

    def _admitted(
        self, call: Call, kind: Kind, given: Object, old: Object | None
    ) -> tuple[Object, tuple[str, ...]]:
        """Pruned or refused, filled in, validated."""
        if kind.schema is None:
            filled = builtin.decoded(kind, given)
            wrong = builtin.problems(kind, filled, old)
            if kind.plural == "customresourcedefinitions":
                filled = crd_filled(filled, self._store.now_s())
                wrong += crd_problems(filled)
            if wrong:
                group = "" if kind.plural == "events" else kind.group
                raise invalid(kind.kind, group, given["metadata"]["name"], wrong)
            return filled, ()
        kept, unknown = schema.pruned(given, kind.schema)
        strictness = call.params.get("fieldValidation", "Warn")
        said = [f'unknown field "{path}"' for path in unknown]
        if said and strictness == "Strict":
            raise cannot_be_handled(kind.kind, kind.version, f"strict decoding error: {', '.join(said)}")
        filled = schema.defaulted(kept, kind.schema)
        wrong = schema.problems(filled, kind.schema, old)
        if wrong:
            raise invalid(kind.kind, kind.group, given["metadata"]["name"], wrong)
        return filled, tuple(said) if strictness == "Warn" else ()

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


def fitting(params: Mapping[str, str]) -> Callable[[Mapping[str, Any]], bool]:
    labels = labels_match(params.get("labelSelector", ""))
    fields = fields_match(params.get("fieldSelector", ""))
    return lambda item: labels(item) and fields(item)


def parsed_body(raw: bytes, content_type: str) -> Any:
    if not raw:
        return None
    if "protobuf" in content_type:
        raise unsupported_media_type(("application/json", "application/yaml"))
    try:
        return yaml.safe_load(raw) if "yaml" in content_type else json.loads(raw)
    except (ValueError, yaml.YAMLError) as problem:
        raise bad_request(f"the object provided is unrecognized (must be of type json): {problem}") from None


def _only(given: Object) -> Object:
    return {key: given[key] for key in ("metadata", "status") if key in given}


def _name(call: Call) -> str:
    if call.name is None:
        raise method_not_allowed()
    return call.name


def _place(item: Object) -> tuple[str, str]:
    return item["metadata"].get("namespace") or "", item["metadata"]["name"]


def _continue_token(version: int, place: tuple[str, str]) -> str:
    said = {"v": "meta.k8s.io/v1", "rv": version, "start": "/".join(filter(None, place)) + "\u0000"}
    return base64.urlsafe_b64encode(json.dumps(said, separators=(",", ":")).encode()).decode().rstrip("=")


def _continued(token: str | None) -> tuple[tuple[str, str] | None, int]:
    if not token:
        return None, 0
    try:
        said = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        namespace, _, name = said["start"].rstrip("\u0000").rpartition("/")
        return (namespace, name), int(said["rv"])
    except (ValueError, KeyError):
        raise bad_request("continue key is not valid") from None


# CustomResourceDefinitions


def crd_filled(given: Object, now_s: float) -> Object:
    spec = given.get("spec", {})
    names = spec.get("names", {})
    kind = names.get("kind", "")
    filled = {
        **spec,
        "names": {"singular": kind.lower(), "listKind": f"{kind}List", **names},
        "conversion": spec.get("conversion", {"strategy": "None"}),
    }
    blank = {
        "conditions": None,
        "acceptedNames": {"plural": "", "kind": ""},
        "storedVersions": [version["name"] for version in spec.get("versions", ()) if version.get("storage")],
    }
    return {"status": blank, **given, "spec": filled}


def crd_problems(given: Object) -> list[Cause]:
    spec = given["spec"]
    found: list[Cause] = []
    expected = f"{spec['names'].get('plural')}.{spec.get('group')}"
    if given["metadata"]["name"] != expected:
        message = f'Invalid value: "{given["metadata"]["name"]}": must be spec.names.plural+"."+spec.group'
        found.append(Cause("metadata.name", "FieldValueInvalid", message))
    for at, version in enumerate(spec.get("versions", ())):
        body = version.get("schema", {}).get("openAPIV3Schema")
        where = f"spec.versions[{at}].schema.openAPIV3Schema"
        if not body:
            found.append(required(where, "schemas are required"))
        else:
            found += schema.compile_rules(body, where)
    return found


def crd_established(item: Object, now_s: float) -> Object:
    old = item["status"].get("conditions") or []
    since = {each["type"]: each["lastTransitionTime"] for each in old}
    conditions = [
        {
            "type": type_,
            "status": "True",
            "lastTransitionTime": since.get(type_, stamp(now_s)),
            "reason": reason,
            "message": message,
        }
        for type_, reason, message in (
            ("NamesAccepted", "NoConflicts", "no conflicts found"),
            ("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        )
    ]
    status = {**item["status"], "conditions": conditions, "acceptedNames": item["spec"]["names"]}
    meta = {key: value for key, value in item["metadata"].items() if key != "resourceVersion"}
    return {**item, "metadata": meta, "status": status}


# Reviews


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


_REVIEWS: dict[tuple[str, str], Callable[[Access, Call], Object]] = {
    ("authorization.k8s.io", "selfsubjectaccessreviews"): _review_self,
    ("authentication.k8s.io", "selfsubjectreviews"): _review_who,
}
