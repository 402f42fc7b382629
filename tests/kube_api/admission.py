"""What is done to an object on its way in: decoded, pruned or refused, filled in, validated."""

from __future__ import annotations

import copy
from typing import Any

from tests.kube_api import builtin, schema
from tests.kube_api.answers import bad_request, cannot_be_handled, invalid
from tests.kube_api.calls import Call
from tests.kube_api.crds import crd_filled, crd_problems
from tests.kube_api.kinds import Kind
from tests.kube_api.store import Object


def decoded(call: Call, body: Any) -> Object:
    kind = call.kind
    if not isinstance(body, dict):
        raise cannot_be_handled(kind.kind, kind.version, "json: cannot unmarshal into Go value")
    given = copy.deepcopy(body)
    if given.setdefault("kind", kind.kind) != kind.kind or (
        given.setdefault("apiVersion", kind.api_version) != kind.api_version
    ):
        named = f"{given['apiVersion']}, Kind={given['kind']}"
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


def admitted(call: Call, kind: Kind, given: Object, old: Object | None) -> tuple[Object, tuple[str, ...]]:
    """Pruned or refused, filled in, validated."""
    if kind.schema is None:
        filled = builtin.decoded(kind, given)
        wrong = builtin.problems(kind, filled, old)
        if kind.plural == "customresourcedefinitions":
            filled = crd_filled(filled)
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
